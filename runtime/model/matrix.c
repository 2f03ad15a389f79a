#include "model/matrix.h"

#include <assert.h>
#include <stdbool.h>
#include <string.h>

#include "base/half.h"

// Q4_0 and Q8_0 blocks in files: a half scale, then the values.
enum { Q4_BLOCK_BYTES = 18, Q8_BLOCK_BYTES = 34, X16_ROWS = 16 };
// So many neurons before their turn memory is asked for them.
enum { ROWS_AHEAD = 4 };

static uint32_t round_up(uint32_t value, uint32_t unit)
{
    return (value + unit - 1) / unit * unit;
}

// Bytes of the values of one block of 32 for 16 rows.
static uint32_t x16_values_bytes(const stk_type *type)
{
    return (type->block_bytes - 2) * X16_ROWS;
}

static uint32_t x16_pair_bytes(const stk_type *type)
{
    return 2 * (2 * X16_ROWS + x16_values_bytes(type));
}

static uint64_t x16_group_bytes(const stk_type *type, uint32_t cols)
{
    return (uint64_t)((cols / 32 + 1) / 2) * x16_pair_bytes(type);
}

// Where the scale and the first value byte of (row, block) are; runs are 64 bytes apart.
static void x16_locate(const stk_type *type, uint32_t cols, uint32_t row, uint32_t block,
                       size_t *scale, size_t *values)
{
    size_t pair = (size_t)(row / X16_ROWS * x16_group_bytes(type, cols)) +
                  (size_t)(block / 2) * x16_pair_bytes(type);
    *scale = pair + (block & 1) * 2 * X16_ROWS + row % X16_ROWS * 2;
    *values = pair + 4 * X16_ROWS + (block & 1) * x16_values_bytes(type) + row % X16_ROWS * 4;
}

// Gathers a block back into its file form, which the type's codec then reads.
static void x16_unpack32(const stk_matrix *m, uint32_t row, uint32_t block, stk_block32 *out)
{
    uint8_t file_block[Q8_BLOCK_BYTES];
    const uint8_t *data = m->data;
    size_t scale, values;
    x16_locate(m->type, m->cols, row, block, &scale, &values);
    memcpy(file_block, data + scale, 2);
    for (uint32_t c = 0; c < (m->type->block_bytes - 2) / 4; c++)
        memcpy(file_block + 2 + 4 * c, data + values + 64 * c, 4);
    m->type->unpack32(file_block, 0, out);
}

static void row_pair_unpack32(const uint8_t *row, uint32_t blocks, uint32_t block, stk_block32 *out)
{
    uint8_t file_block[Q4_BLOCK_BYTES];
    memcpy(file_block, row + (size_t)blocks * 16 + 2 * block, 2);
    memcpy(file_block + 2, row + (size_t)block * 16, 16);
    stk_type_q4_0.unpack32(file_block, 0, out);
}

// Byte and nibble of output o in a neuron's BUNDLE nibbles.
static uint32_t bundle_nibble_at(uint32_t o, uint32_t *shift)
{
    uint32_t chunk = o / 128, within = o % 64;
    uint32_t k = within / 16, lane = within / 4 % 4, i = within % 4;
    *shift = o % 128 < 64 ? 0 : 4;
    return chunk * 64 + 16 * lane + 4 * k + i;
}

static void bundle_down_unpack32(const stk_matrix *m, uint32_t row, uint32_t group,
                                 stk_block32 *out)
{
    stk_bundle b = stk_bundle_of(m->rows, m->cols, 0);
    const uint8_t *base = (const uint8_t *)m->data + (size_t)group * b.group_bytes;
    uint32_t shift, byte = bundle_nibble_at(row, &shift);
    out->d = stk_half_to_float(stk_load_u16(base + 2 * (size_t)row));
    out->m = 0;
    for (uint32_t j = 0; j < 32; j++) {
        const uint8_t *run = base + b.scales_bytes + (size_t)j * b.run_bytes + b.up_bytes;
        out->q[j] = (int16_t)(((run[byte] >> shift) & 15) - 8);
    }
}

void stk_matrix_unpack32(const stk_matrix *m, uint32_t row, uint32_t block, stk_block32 *out)
{
    const uint8_t *data = m->data;
    switch (m->format) {
    case STK_FORMAT_ROWS:
    case STK_FORMAT_ROWS_T:
        m->type->unpack32(stk_matrix_row(m, row), block, out);
        return;
    case STK_FORMAT_X16:
        x16_unpack32(m, row, block, out);
        return;
    case STK_FORMAT_BUNDLE_DOWN:
        bundle_down_unpack32(m, row, block, out);
        return;
    case STK_FORMAT_BUNDLE_UP:
    case STK_FORMAT_BUNDLE_T_UP:
    case STK_FORMAT_BUNDLE_T_DOWN: {
        stk_bundle b = stk_bundle_of(m->cols, m->rows, m->format != STK_FORMAT_BUNDLE_UP);
        size_t at = (size_t)(row / 32) * b.group_bytes + b.scales_bytes +
                    (size_t)(row % 32) * b.run_bytes;
        at += m->format == STK_FORMAT_BUNDLE_T_DOWN ? b.up_bytes : 0;
        row_pair_unpack32(data + at, m->cols / 32, block, out);
        return;
    }
    case STK_FORMAT_COUNT:
        break;
    }
    assert(!"unknown matrix format");
}

void stk_matrix_dequantize_row(const stk_matrix *m, uint32_t row, float *out)
{
    if (m->format == STK_FORMAT_ROWS || m->format == STK_FORMAT_ROWS_T) {
        m->type->dequantize(stk_matrix_row(m, row), out, m->cols);
        return;
    }
    for (uint32_t b = 0; b < m->cols / 32; b++) {
        stk_block32 block;
        stk_matrix_unpack32(m, row, b, &block);
        for (uint32_t i = 0; i < 32; i++)
            out[32 * b + i] = block.d * (float)block.q[i] - block.m;
    }
}

const void *stk_matrix_row(const stk_matrix *m, uint32_t row)
{
    assert(m->format == STK_FORMAT_ROWS || m->format == STK_FORMAT_ROWS_T);
    return (const uint8_t *)m->data + row * stk_type_row_bytes(m->type, m->cols);
}

stk_format stk_dense_format(const stk_type *type, uint32_t cols)
{
    int packs = type == &stk_type_q4_0 || type == &stk_type_q8_0;
    return packs && cols % 32 == 0 ? STK_FORMAT_X16 : STK_FORMAT_ROWS;
}

uint64_t stk_dense_bytes(const stk_type *type, stk_format format, uint32_t rows, uint32_t cols)
{
    if (format == STK_FORMAT_ROWS)
        return rows * stk_type_row_bytes(type, cols);
    return (uint64_t)((rows + X16_ROWS - 1) / X16_ROWS) * x16_group_bytes(type, cols);
}

// Asks memory for what is read and what is written a little later: the ways in which packing goes
// through both are too crooked for the hardware to foresee.
static inline void bring(const uint8_t *source, const uint8_t *packed, uint32_t bytes)
{
    for (uint32_t i = 0; i < bytes; i += 64) {
        __builtin_prefetch(source + i);
        __builtin_prefetch(packed + i, 1);
    }
}

// Up to 16 rows into their group; rows that do not exist are left alone. Memory brings the next
// group's 16 rows, if there are as many.
static void x16_pack_group(const stk_type *type, uint32_t blocks, uint32_t rows, bool brings_next,
                           const uint8_t *from, size_t row_bytes, uint8_t *group)
{
    uint32_t ahead_bytes = X16_ROWS * type->block_bytes;
    const uint8_t *next_rows = from + X16_ROWS * row_bytes;
    const uint8_t *next_group = group + (size_t)((blocks + 1) / 2) * x16_pair_bytes(type);
    uint32_t runs = (type->block_bytes - 2) / 4, values_bytes = x16_values_bytes(type);
    for (uint32_t b = 0; b < (blocks + 1) / 2 * 2; b++) {
        uint8_t *pair = group + (size_t)(b / 2) * x16_pair_bytes(type);
        uint8_t *scales = pair + (b & 1) * 2 * X16_ROWS;
        uint8_t *values = pair + 4 * X16_ROWS + (b & 1) * values_bytes;
        if (b == blocks) { // the padding block
            memset(scales, 0, 2 * X16_ROWS);
            memset(values, 0, values_bytes);
            break;
        }
        const uint8_t *block = from + (size_t)b * type->block_bytes;
        if (brings_next)
            bring(next_rows + (size_t)b * ahead_bytes, next_group + (size_t)b * ahead_bytes,
                  ahead_bytes);
        for (uint32_t r = 0; r < rows; r++, block += row_bytes) {
            memcpy(scales + 2 * r, block, 2);
            for (uint32_t c = 0; c < runs; c++)
                memcpy(values + 64 * c + 4 * r, block + 2 + 4 * c, 4);
        }
    }
}

void stk_dense_pack(const stk_type *type, stk_format format, uint32_t rows, uint32_t cols,
                    uint32_t row_begin, uint32_t row_count, const void *source, void *packed)
{
    const uint8_t *from = source;
    uint8_t *to = packed;
    uint64_t row_bytes = stk_type_row_bytes(type, cols);
    if (format == STK_FORMAT_ROWS) {
        memcpy(to + row_begin * row_bytes, from, row_count * row_bytes);
        return;
    }
    assert(row_begin % X16_ROWS == 0);
    uint32_t blocks = cols / 32, end = row_begin + row_count;
    if (end == rows && rows % X16_ROWS != 0) // the padding rows of the last group
        memset(to + rows / X16_ROWS * x16_group_bytes(type, cols), 0, x16_group_bytes(type, cols));
    for (uint32_t row = row_begin; row < end; row += X16_ROWS, from += X16_ROWS * row_bytes)
        x16_pack_group(type, blocks, end - row < X16_ROWS ? end - row : X16_ROWS,
                       end - row >= 2 * X16_ROWS, from, row_bytes,
                       to + row / X16_ROWS * x16_group_bytes(type, cols));
}

stk_bundle stk_bundle_of(uint32_t width, uint32_t ffn_width, int transposed)
{
    stk_bundle b = {.width = width, .ffn_width = ffn_width};
    b.up_bytes = round_up(width / 32 * Q4_BLOCK_BYTES, 64);
    b.scales_bytes = transposed ? 0 : round_up(width, 128) * 2;
    b.run_bytes = b.up_bytes + (transposed ? b.up_bytes : round_up(width, 128) / 2);
    b.group_bytes = b.scales_bytes + 32 * b.run_bytes;
    return b;
}

uint64_t stk_bundle_bytes(const stk_bundle *bundle)
{
    return (uint64_t)(bundle->ffn_width / 32) * bundle->group_bytes;
}

// A file row becomes: nibbles of all blocks, then all scales, then zeros.
static void pack_row_pair(const uint8_t *file_row, uint32_t blocks, uint32_t padded, uint8_t *to)
{
    for (uint32_t b = 0; b < blocks; b++) {
        memcpy(to + 16 * b, file_row + Q4_BLOCK_BYTES * b + 2, 16);
        memcpy(to + 16 * blocks + 2 * b, file_row + Q4_BLOCK_BYTES * b, 2);
    }
    memset(to + Q4_BLOCK_BYTES * blocks, 0, padded - Q4_BLOCK_BYTES * blocks);
}

typedef uint8_t bytes16 __attribute__((vector_size(16)));
typedef uint64_t words2 __attribute__((vector_size(16)));

// Rows i and i + 8 become, byte by byte in turns, rows 2i and 2i + 1. Loops here would stay loops.
static inline void interleave(const bytes16 from[16], bytes16 to[16])
{
#define INTERLEAVE(i)                                                                              \
    to[2 * i] = __builtin_shufflevector(from[i], from[i + 8], 0, 16, 1, 17, 2, 18, 3, 19, 4, 20,   \
                                        5, 21, 6, 22, 7, 23);                                      \
    to[2 * i + 1] = __builtin_shufflevector(from[i], from[i + 8], 8, 24, 9, 25, 10, 26, 11, 27,    \
                                            12, 28, 13, 29, 14, 30, 15, 31)
    INTERLEAVE(0);
    INTERLEAVE(1);
    INTERLEAVE(2);
    INTERLEAVE(3);
    INTERLEAVE(4);
    INTERLEAVE(5);
    INTERLEAVE(6);
    INTERLEAVE(7);
#undef INTERLEAVE
}

// Byte i of row j becomes byte j of row i.
static inline void transpose_bytes(bytes16 rows[16])
{
    bytes16 other[16];
    interleave(rows, other);
    interleave(other, rows);
    interleave(rows, other);
    interleave(other, rows);
}

static inline words2 load_nibbles(const uint8_t *block)
{
    words2 nibbles = {0, 0};
    if (block)
        memcpy(&nibbles, block + 2, sizeof nibbles);
    return nibbles;
}

// One lane of a chunk, 16 outputs and those 64 above them, whose blocks are given (NULL: no such
// output), for 32 neurons: 16 bytes each, from `at` in their runs.
static void pack_lane(const uint8_t *const low[16], const uint8_t *const high[16], uint8_t *at,
                      size_t run_bytes)
{
    const words2 even = {UINT64_C(0x0f0f0f0f0f0f0f0f), UINT64_C(0x0f0f0f0f0f0f0f0f)};
    bytes16 first[16], second[16]; // neurons 0..15 and 16..31
    for (int i = 0; i < 16; i++) {
        words2 a = load_nibbles(low[i]), b = load_nibbles(high[i]);
        first[i] = (bytes16)((a & even) | (b & even) << 4);
        second[i] = (bytes16)((a >> 4 & even) | (b & ~even));
    }
    transpose_bytes(first);
    transpose_bytes(second);
    for (uint32_t i = 0; i < 16; i++) {
        memcpy(at + i * run_bytes, &first[i], 16);
        memcpy(at + (16 + i) * run_bytes, &second[i], 16);
    }
}

// Outputs [128*chunk, +128) of 32 neurons: a line of each neuron's run.
static void pack_down_lines(const stk_bundle *b, const uint8_t *blocks, size_t row_bytes,
                            uint32_t chunk, uint8_t *lines)
{
    for (uint32_t lane = 0; lane < 4; lane++) {
        const uint8_t *low[16], *high[16];
        for (uint32_t i = 0; i < 16; i++) {
            uint32_t o = chunk * 128 + 16 * (i / 4) + 4 * lane + i % 4;
            low[i] = o < b->width ? blocks + o * row_bytes : NULL;
            high[i] = o + 64 < b->width ? blocks + (o + 64) * row_bytes : NULL;
        }
        pack_lane(low, high, lines + 16 * lane, b->run_bytes);
    }
}

// Down rows (outputs) become the down halves of all neurons and the scales. Chunk by chunk, so
// that what is read lies together and what is written are whole lines; memory brings both ahead.
static void pack_down(const stk_bundle *b, const uint8_t *down, uint8_t *packed)
{
    uint32_t groups = b->ffn_width / 32;
    size_t row_bytes = (size_t)groups * Q4_BLOCK_BYTES;
    for (uint32_t chunk = 0; chunk < round_up(b->width, 128) / 128; chunk++) {
        uint32_t first = 128 * chunk, end = b->width - first < 128 ? b->width : first + 128;
        uint8_t *base = packed;
        for (uint32_t g = 0; g < groups; g++, base += b->group_bytes) {
            const uint8_t *blocks = down + (size_t)g * Q4_BLOCK_BYTES;
            uint8_t *lines = base + b->scales_bytes + b->up_bytes + 64 * (size_t)chunk;
            for (uint32_t i = 0; i < 32 && g + 2 < groups; i++)
                __builtin_prefetch(lines + 2 * (size_t)b->group_bytes + i * b->run_bytes, 1);
            for (uint32_t i = 0; i < 128 * Q4_BLOCK_BYTES && first + 256 <= b->width; i += 64)
                __builtin_prefetch(down + (first + 128) * row_bytes +
                                   (size_t)g * 128 * Q4_BLOCK_BYTES + i);
            for (uint32_t o = first; o < end; o++)
                memcpy(base + 2 * (size_t)o, blocks + o * row_bytes, 2);
            memset(base + 2 * (size_t)end, 0, 2 * (size_t)(first + 128 - end));
            pack_down_lines(b, blocks, row_bytes, chunk, lines);
        }
    }
}

// Rows of neurons, one to each run, from `at` in it.
static void pack_neuron_rows(const stk_bundle *b, const uint8_t *rows, size_t at, uint8_t *packed)
{
    uint32_t blocks = b->width / 32, row_bytes = blocks * Q4_BLOCK_BYTES;
    for (uint32_t j = 0; j < b->ffn_width; j++, rows += row_bytes) {
        uint8_t *run = packed + (size_t)(j / 32) * b->group_bytes + b->scales_bytes +
                       (size_t)(j % 32) * b->run_bytes;
        if (b->ffn_width - j > ROWS_AHEAD)
            bring(rows + ROWS_AHEAD * (size_t)row_bytes, run + at + ROWS_AHEAD * b->run_bytes,
                  row_bytes);
        pack_row_pair(rows, blocks, b->up_bytes, run + at);
    }
}

void stk_bundle_pack_up(const stk_bundle *b, const void *up, void *packed)
{
    pack_neuron_rows(b, up, 0, packed);
}

void stk_bundle_pack_down(const stk_bundle *b, const void *down, void *packed)
{
    if (b->scales_bytes == 0)
        pack_neuron_rows(b, down, b->up_bytes, packed);
    else
        pack_down(b, down, packed);
}
