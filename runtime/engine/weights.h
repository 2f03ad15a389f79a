// engine/weights.h: everything of a model but its experts, in kernel layout.
#ifndef STK_ENGINE_WEIGHTS_H
#define STK_ENGINE_WEIGHTS_H

#include "base/log.h"
#include "base/team.h"
#include "cpu/cpu.h"
#include "model/model.h"
#include <stdatomic.h>
#include <stdbool.h>

// A matrix's rows are divided among the memory nodes in multiples of this many.
enum { STK_PART_ROWS = 64 };

// The rows of a matrix that one memory node holds, from row_first on; maybe none.
typedef struct stk_linear_part {
    stk_matrix matrix;
    uint32_t row_first;
} stk_linear_part;

// A matrix and the kernel that multiplies with it. Packed rows are the same in a part as in the
// whole, so that the parts' bytes in order are those of the matrix.
typedef struct stk_linear {
    stk_matrix matrix; // all of it; data is NULL when it is kept in several parts
    stk_matmul_fn matmul;
    stk_linear_part *parts; // [part_count], one per node, in the order of rows
    uint32_t part_count;
} stk_linear;

typedef struct stk_layer_weights {
    const float *attn_norm; // [width]
    const float *ffn_norm;  // [width]
    stk_linear q, k, v, output, router;
} stk_layer_weights;

typedef struct stk_weights {
    stk_layer_weights *layers; // [layer_count]
    const float *output_norm;  // [width]; as the head only where the last layer is
    stk_linear head;
    stk_linear embedding;   // the head's matrix when tied; not used when read on demand or when the
                            // first layer is elsewhere
    stk_linear_part *parts; // all of them
    void *pages;
    uint64_t bytes;
    uint64_t node_at[STK_NODES_MAX + 1]; // each node's part of the pages
} stk_weights;

typedef struct stk_weights_options {
    const stk_gguf *gguf;
    const stk_model *model;
    const stk_cpu *cpu;
    stk_team *team; // its nodes divide the matrices
    const stk_log *log;
    const atomic_int *cancel; // NULL: never
    bool direct;              // reads leave the page cache alone
    bool skips_embedding;     // an untied embedding stays in the file
} stk_weights_options;

// Bytes the weights will take.
uint64_t stk_weights_bytes(const stk_model *model, const stk_nodes *nodes, bool skips_embedding);

// Reads and packs; the team works in parallel. STK_IO, STK_NO_MEMORY, STK_CANCELLED.
STK_CHECKED stk_status stk_weights_load(const stk_weights_options *options, stk_weights *out);
void stk_weights_free(stk_weights *weights);

// All rows, by one worker: y[count][y_stride], as stk_matmul_fn.
void stk_linear_multiply(const stk_linear *linear, const stk_act *acts, uint32_t count, float *y,
                         size_t y_stride);
// Row `row` < rows as floats, out[cols].
void stk_linear_dequantize_row(const stk_linear *linear, uint32_t row, float *out);

#endif
