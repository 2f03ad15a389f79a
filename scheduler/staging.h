// scheduler/staging.h: how many of a layer's experts are worth copying to a GPU the moment the
// router has chosen them.
//
// Pure: times come in, a number goes out. A copy begins before attention, so as much of it as
// attention takes costs nothing; what is copied the CPU need not compute. Invariant: no copies
// where they would not make the layer faster.
#ifndef STK_SCHEDULER_STAGING_H
#define STK_SCHEDULER_STAGING_H

#include <stdint.h>

// Seconds. 0: not known, and nothing is copied.
typedef struct stk_staging {
    uint32_t expert_count; // of the layer, which the CPU would compute
    uint32_t copies_max;
    double attention_s;  // from the router's choice until experts can begin
    double expert_cpu_s; // one expert, all workers
    double copy_s;       // one expert's way to the GPU, one after the other
    double expert_gpu_s; // the product there
} stk_staging;

// The number of copies that makes the layer fastest, the smallest such. Thread-safety: pure.
uint32_t stk_staging_decide(const stk_staging *facts);

#endif
