// engine/weights.h: everything of a model but its experts, in kernel layout.
#ifndef STK_ENGINE_WEIGHTS_H
#define STK_ENGINE_WEIGHTS_H

#include "base/log.h"
#include "base/team.h"
#include "cpu/cpu.h"
#include "model/model.h"
#include <stdatomic.h>
#include <stdbool.h>

// A matrix and the kernel that multiplies with it.
typedef struct stk_linear {
    stk_matrix matrix;
    stk_matmul_fn matmul;
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
    stk_matrix embedding; // the head's matrix when tied; not used when read on demand or when the
                          // first layer is elsewhere
    void *pages;
    uint64_t bytes;
} stk_weights;

typedef struct stk_weights_options {
    const stk_gguf *gguf;
    const stk_model *model;
    const stk_cpu *cpu;
    stk_team *team;
    const stk_log *log;
    const atomic_int *cancel; // NULL: never
    bool direct;              // reads leave the page cache alone
    bool skips_embedding;     // an untied embedding stays in the file
} stk_weights_options;

// Bytes the weights will take.
uint64_t stk_weights_bytes(const stk_model *model, bool skips_embedding);

// Reads and packs; the team works in parallel. STK_IO, STK_NO_MEMORY, STK_CANCELLED.
STK_CHECKED stk_status stk_weights_load(const stk_weights_options *options, stk_weights *out);
void stk_weights_free(stk_weights *weights);

#endif
