// model/arch.h: what an architecture provides, and the helpers to read its keys and tensors.
//
// A new architecture is one file with a stk_arch and one line in architectures.def.
#ifndef STK_MODEL_ARCH_H
#define STK_MODEL_ARCH_H

#include "model/model.h"

// A load in progress. The helpers log what is wrong and remember it, so a loader reads everything
// and checks `status` once.
typedef struct stk_arch_reader {
    const stk_gguf *gguf;
    const stk_log *log;
    const char *prefix; // "smallthinker"
    stk_model *model;
    uint32_t tensors_used;
    stk_status status; // the first failure
} stk_arch_reader;

typedef struct stk_arch {
    const char *name; // general.architecture
    // Fills reader->model; layers is allocated by the loader once layer_count is known.
    void (*load)(stk_arch_reader *reader);
} stk_arch;

// PREFIX.key as an integer in [least, most]; `fallback` when absent, or a failure if REQUIRED.
#define STK_ARCH_REQUIRED UINT64_MAX
uint32_t stk_arch_u32(stk_arch_reader *r, const char *key, uint32_t least, uint32_t most,
                      uint64_t fallback);
// PREFIX.key as a positive float; fallback 0 means required.
float stk_arch_f32(stk_arch_reader *r, const char *key, float fallback);
// The tensor `name` (printf-like with the layer) with these dims, 0 ends the list. NULL when it is
// missing, which is a failure unless `optional`.
const stk_gguf_tensor *stk_arch_tensor(stk_arch_reader *r, int layer, const char *name,
                                       _Bool optional, const uint64_t *dims);
// Records a failure found by the loader itself.
void stk_arch_fail(stk_arch_reader *r, stk_status status, const char *fmt, ...) STK_PRINTF(3, 4);
_Bool stk_arch_alloc_layers(stk_arch_reader *r); // model->layers[layer_count]; false on failure

#endif
