#include "scheduler/staging.h"

static double layer_s(const stk_staging *f, uint32_t copies)
{
    double cpu = (f->expert_count - copies) * f->expert_cpu_s;
    double gpu = copies * f->copy_s - f->attention_s;
    gpu = copies == 0 ? 0 : (gpu > 0 ? gpu : 0) + f->expert_gpu_s;
    return cpu > gpu ? cpu : gpu;
}

uint32_t stk_staging_decide(const stk_staging *f)
{
    uint32_t best = 0;
    if (!(f->expert_cpu_s > 0) || !(f->copy_s > 0))
        return 0;
    for (uint32_t n = 1; n <= f->copies_max && n <= f->expert_count; n++)
        if (layer_s(f, n) < layer_s(f, best))
            best = n;
    return best;
}
