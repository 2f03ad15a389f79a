// scheduler/history.h: what a plan takes for true when several measurements of one thing are known.
//
// Pure. A disk is measured by the probe, in a quarter of a second, and by every run that waited for
// it; disks that others share change from minute to minute.
#ifndef STK_SCHEDULER_HISTORY_H
#define STK_SCHEDULER_HISTORY_H

#include <stdint.h>

typedef struct stk_measured {
    double bytes_per_s; // 0: not measured
    double seconds;     // that it was measured for
    double age_s;       // negative (a clock was set back): as 0
} stk_measured;

// One speed from several measurements: the longer and the newer count more. Weights are seconds /
// (age + ten minutes), so that of two old ones neither is forgotten; times per byte are averaged.
// 0: nothing measured.
double stk_history_bytes_per_s(const stk_measured *measured, uint32_t count);

// Both as one of age 0, the older's seconds worth less by its age, at most so many in all: a disk
// that others share is not what it was for long.
stk_measured stk_history_add(const stk_measured *newer, const stk_measured *older);

#endif
