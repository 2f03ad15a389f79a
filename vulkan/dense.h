// vulkan/dense.h: what every token passes on a device: attention of some layers, with the KV cache
// of a session, and the head.
//
// Knows nothing of experts or sampling. The residual stream comes from host memory and goes back
// there after each layer, together with its norm, quantised, as the experts want it; chain.h has
// layers for which it stays.
// Invariant: for the same residual the norms, projections, rotations and the head equal the CPU's
// to the bit (docs/arithmetic.md); attention differs within its tolerance, and on one device a
// row's numbers depend neither on the batch nor on how a context is split.
#ifndef STK_VULKAN_DENSE_H
#define STK_VULKAN_DENSE_H

#include "model/matrix.h"
#include "vulkan/device.h"

// Weights of a layer in host memory, in the formats of the CPU's kernels. Borrowed until open
// returns; until close where they are used in place.
typedef struct stk_vk_dense_layer {
    bool here;              // whether the device takes this layer; if not, the rest is not read
    const float *attn_norm; // [width]
    const float *ffn_norm;  // [width]
    stk_matrix q, k, v, output;
    stk_matrix router;      // for chains (chain.h); rows 0: not wanted
    uint32_t window_tokens; // 0: none
    bool has_rope;
} stk_vk_dense_layer;

typedef struct stk_vk_dense_options {
    stk_vk *vk; // borrowed, must outlive the rest
    uint32_t width, head_dim, head_count, kv_head_count;
    uint32_t rope_dim; // leading dimensions of a head that turn
    float rms_epsilon;
    uint32_t layer_count;
    const stk_vk_dense_layer *layers; // [layer_count]
    bool has_head;                    // whether the device takes the head
    const float *head_norm;           // [width]
    stk_matrix head;
    // Memory in which all of these lie, to be used in place where the device can; NULL: copy.
    void *pages;
    uint64_t pages_bytes;
} stk_vk_dense_options;

// Whether there is a shader for products with such a matrix.
bool stk_vk_dense_supports(const stk_matrix *matrix);

// Weights on a device. Thread-safety: none; the device's thread.
typedef struct stk_vk_dense stk_vk_dense;

// *out is written only on STK_OK. STK_NO_MEMORY, STK_UNSUPPORTED (a matrix without a shader),
// STK_DEVICE_LOST.
STK_CHECKED stk_status stk_vk_dense_open(const stk_vk_dense_options *options, stk_vk_dense **out);
void stk_vk_dense_close(stk_vk_dense **dense); // its streams first; NULL is allowed
bool stk_vk_dense_is_in_place(const stk_vk_dense *dense);

typedef struct stk_vk_stream_options {
    uint32_t sequence_count, rows_max, logit_rows_max;
    const uint32_t *capacity_tokens; // [layer_count] of the rings, multiples of 256
} stk_vk_stream_options;

// A session's KV cache and scratch. Thread-safety: none; the device's thread.
typedef struct stk_vk_stream stk_vk_stream;

// Device memory that weights take when they are copied, and that a stream takes. No matrix's data
// is looked at.
uint64_t stk_vk_dense_bytes(const stk_vk_dense_options *dense);
uint64_t stk_vk_stream_bytes(const stk_vk_dense_options *dense,
                             const stk_vk_stream_options *options);
// Takes all memory and records all commands; later calls do not allocate. *out is written only on
// STK_OK. STK_NO_MEMORY, STK_DEVICE_LOST.
STK_CHECKED stk_status stk_vk_stream_open(stk_vk_dense *dense, const stk_vk_stream_options *options,
                                          stk_vk_stream **out);
void stk_vk_stream_close(stk_vk_stream **stream); // waits; NULL is allowed

typedef struct stk_vk_batch_row {
    uint32_t position, sequence;
} stk_vk_batch_row;

// Begins a forward of rows[0..count), count <= rows_max; rows of a sequence come in order.
// angles[count][rope_dim]: cosines, then sines, of each row's position. Borrowed for the call.
STK_CHECKED stk_status stk_vk_stream_begin(stk_vk_stream *stream, const stk_vk_batch_row *rows,
                                           uint32_t count, const float *angles);

// Starts a layer's attention on the residual stream x[count][width] and returns at once.
STK_CHECKED stk_status stk_vk_stream_attend(stk_vk_stream *stream, uint32_t layer, const float *x);

// What attention leaves, in host memory, of row 0; the rows follow each other. Borrowed, valid
// until the next attend.
typedef struct stk_vk_attended {
    const float *x;     // [count][width]: with attention's output added
    const float *y;     // [count][width]: normed for the experts
    const int8_t *q;    // and quantised
    const float *d;     // [count][width/32]
    const int32_t *sum; // [count][width/32]
} stk_vk_attended;
STK_CHECKED stk_status stk_vk_stream_wait(stk_vk_stream *stream, stk_vk_attended *out);

// Norm and head of rows[0..count) of x[][width], count <= logit_rows_max, and waits for them.
// with_logits: bring all logits to the host, not only the place of the largest.
STK_CHECKED stk_status stk_vk_stream_head(stk_vk_stream *stream, const float *x,
                                          const uint32_t *rows, uint32_t count, bool with_logits);
// Of the last head: logits[vocab] (NULL unless asked for) and the place of the largest.
const float *stk_vk_stream_logits(const stk_vk_stream *stream, uint32_t slot);
uint32_t stk_vk_stream_best(const stk_vk_stream *stream, uint32_t slot);

#endif
