// engine/kernel_rate.h: a small product that runs from the cores' caches, to see how fast the
// kernels compute when no memory holds them up.
//
// Owns its data. Measures no time: the caller counts.
#ifndef STK_ENGINE_KERNEL_RATE_H
#define STK_ENGINE_KERNEL_RATE_H

#include "base/log.h"
#include "engine/product.h"
#include <stdint.h>

// Thread-safety: one call of run at a time for each worker.
typedef struct stk_kernel_rate stk_kernel_rate;

enum { STK_KERNEL_RATE_ROWS_MAX = 64 };

typedef struct stk_kernel_rate_options {
    const char *cpu_mask;       // as stk_engine_options
    const stk_product *product; // NULL: dense, of Q4_0
    uint32_t row_count; // activations multiplied at once: 1 as in decode, more as in prefill
    uint32_t worker_count;
} stk_kernel_rate_options;

// Weights of some ten or hundred KiB, 13 in 32 of an expert's neurons active; every row has
// activations of its own. *out is written only on STK_OK. STK_INVALID: the mask, or no rows or too
// many; STK_NO_MEMORY.
STK_CHECKED stk_status stk_kernel_rate_open(const stk_kernel_rate_options *options,
                                            const stk_log *log, stk_kernel_rate **out);
void stk_kernel_rate_close(stk_kernel_rate **rate); // sets it to NULL; NULL is allowed

// Multiplies for some tens of microseconds on worker `worker` < worker_count and returns the int8
// multiply-adds done: those of inactive neurons where the kernels compute them, too. `rate` is a
// stk_kernel_rate, so that this is a stk_probe_work.
uint64_t stk_kernel_rate_run(void *rate, uint32_t worker);

#endif
