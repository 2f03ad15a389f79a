// model/matrix.h: a weight matrix in one of the layouts the kernels read.
//
// Owns nothing: a matrix is a view of bytes that the store or the loader keeps. The layouts are
// lossless rearrangements of what the GGUF holds, described here once; stk_matrix_unpack32 reads
// any of them and is the definition that every packed kernel is tested against.
#ifndef STK_MODEL_MATRIX_H
#define STK_MODEL_MATRIX_H

#include "model/types.h"
#include <stdint.h>

typedef enum stk_format {
    // Rows as in the file, any type.
    STK_FORMAT_ROWS,
    // The same for a down matrix whose rows are neurons (see *_T_DOWN).
    STK_FORMAT_ROWS_T,

    // Sixteen rows side by side, for dense products (Q4_0, Q8_0). Rows come in groups of 16 (the
    // last one padded with zeros), blocks of 32 values in pairs (likewise). One pair of one group:
    // 16 half scales of the even block, 16 of the odd one, then the values of the even block, then
    // those of the odd block. Values of a block lie in runs of 64 bytes, 4 bytes for each row:
    //   Q4_0: run c = 0..3, byte i of row r: value 4c+i in the low nibble, 16+4c+i in the high
    //   Q8_0: run c = 0..7, byte i of row r: value 4c+i
    STK_FORMAT_X16,

    // The `up` and `down` weights of an expert interleaved by neuron, for sparse products (Q4_0).
    // Neurons come in groups of 32. A group is, where down rows are outputs, first the half scales
    // of all outputs; then 32 runs. A run is the neuron's up row (nibbles of all its blocks as in
    // the file, then the half scales, padded to 64 bytes) and what it contributes to down:
    //   BUNDLE   (down rows are outputs): the nibbles of all outputs, in chunks of 128 outputs
    //            (64 bytes; the last one padded): byte 16L+4k+i holds output 16k+4L+i in the low
    //            nibble and 64 more in the high, k, L, i = 0..3.
    //   BUNDLE_T (down rows are neurons): its down row, laid out like the up row.
    STK_FORMAT_BUNDLE_UP,     // rows are neurons, cols the model width
    STK_FORMAT_BUNDLE_DOWN,   // rows are outputs (the model width), cols neurons
    STK_FORMAT_BUNDLE_T_UP,   // as BUNDLE_UP in a BUNDLE_T
    STK_FORMAT_BUNDLE_T_DOWN, // rows are neurons, cols the model width
    STK_FORMAT_COUNT
} stk_format;

typedef struct stk_matrix {
    const stk_type *type;
    stk_format format;
    uint32_t rows; // outputs of a product (except *_T_DOWN, see there)
    uint32_t cols; // values per row
    const void *data;
} stk_matrix;

// Values [32*block, 32*block+32) of a row, whatever the layout. Block-quantised types only.
void stk_matrix_unpack32(const stk_matrix *m, uint32_t row, uint32_t block, stk_block32 *out);

// The whole row as floats, out[cols].
void stk_matrix_dequantize_row(const stk_matrix *m, uint32_t row, float *out);

// Address of a row; STK_FORMAT_ROWS and ROWS_T only.
const void *stk_matrix_row(const stk_matrix *m, uint32_t row);

// The best format for dense products with rows of this type: X16 or ROWS.
stk_format stk_dense_format(const stk_type *type, uint32_t cols);
// Bytes a [rows][cols] matrix takes in STK_FORMAT_ROWS or X16.
uint64_t stk_dense_bytes(const stk_type *type, stk_format format, uint32_t rows, uint32_t cols);
// Packs rows [row_begin, row_begin + row_count) of a [rows][cols] matrix, given as in the file
// (`source` is the first of them), into `packed`, the start of the whole packed matrix.
// X16: row_begin is a multiple of 16, and so is row_count unless the range ends the matrix.
void stk_dense_pack(const stk_type *type, stk_format format, uint32_t rows, uint32_t cols,
                    uint32_t row_begin, uint32_t row_count, const void *source, void *packed);

// Geometry of bundles (Q4_0 only): offsets in bytes.
typedef struct stk_bundle {
    uint32_t width;        // the model's
    uint32_t ffn_width;    // neurons
    uint32_t scales_bytes; // half scales of down at the head of a group; 0 in BUNDLE_T
    uint32_t up_bytes;     // padded up row, and BUNDLE_T's down row
    uint32_t run_bytes;    // one neuron
    uint32_t group_bytes;  // 32 neurons
} stk_bundle;

stk_bundle stk_bundle_of(uint32_t width, uint32_t ffn_width, int transposed);
uint64_t stk_bundle_bytes(const stk_bundle *bundle);
// Build a bundle from the file's up rows and its down rows (either orientation). Each writes its
// own bytes of `packed`, so both may run at once.
void stk_bundle_pack_up(const stk_bundle *bundle, const void *up, void *packed);
void stk_bundle_pack_down(const stk_bundle *bundle, const void *down, void *packed);

#endif
