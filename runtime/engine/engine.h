// engine/engine.h: a model in memory and the workers that run it.
//
// Owns the open GGUF, the weights in kernel layout, the kernel table and the worker team. Knows
// nothing of text, sampling or files other than the model. Sessions (engine/session.h) borrow it.
#ifndef STK_ENGINE_ENGINE_H
#define STK_ENGINE_ENGINE_H

#include "base/log.h"
#include "model/gguf.h"
#include "model/model.h"
#include <stdint.h>

// Thread-safety: one forward pass at a time over all sessions of an engine.
typedef struct stk_engine stk_engine;

typedef struct stk_engine_options {
    const char *model_path; // a GGUF file, or any split of a set
    const stk_log *log;     // borrowed, must outlive the engine; NULL: silent
    uint32_t thread_count;  // workers, the caller's thread included; 0: one per usable core
    const char *cpu_mask;   // widest kernels allowed, "scalar", "avx2", "avx512"...; NULL: all
} stk_engine_options;

// Reads, checks and loads a model. *out is written only on STK_OK; the caller closes it.
// Statuses: those of stk_gguf_open and stk_model_load, STK_NO_MEMORY, STK_INVALID (options).
STK_CHECKED stk_status stk_engine_open(const stk_engine_options *options, stk_engine **out);
// Closes *engine (every session must be closed first) and sets it to NULL; NULL is allowed.
void stk_engine_close(stk_engine **engine);

const stk_model *stk_engine_model(const stk_engine *engine); // borrowed
const stk_gguf *stk_engine_gguf(const stk_engine *engine);   // borrowed; metadata only
uint32_t stk_engine_thread_count(const stk_engine *engine);
const char *stk_engine_kernels(const stk_engine *engine);   // "avx512", for logs and reports
uint64_t stk_engine_weight_bytes(const stk_engine *engine); // resident weights

#endif
