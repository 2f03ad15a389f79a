// store/pressure.h: whether the system is short of memory (Linux pressure stall information).
#ifndef STK_STORE_PRESSURE_H
#define STK_STORE_PRESSURE_H

#include <stdbool.h>
#include <stdint.h>

// Decides how many of `slots` to use from a series of pressure readings. Pure: time and reading
// come in, so that it can be tested.
typedef struct stk_pressure_governor {
    uint32_t slots_max, slots_min, slots;
    uint64_t changed_ns;
} stk_pressure_governor;

// `stalled_percent`: share of the last ten seconds in which somebody waited for memory. Shrinks by
// an eighth at most once a second above 5 %, grows by a sixteenth every ten seconds below 0.5 %.
uint32_t stk_pressure_decide(stk_pressure_governor *governor, double stalled_percent,
                             uint64_t now_ns);

// Reads "some avg10" of /proc/pressure/memory. False: this kernel does not tell.
bool stk_pressure_read(double *stalled_percent);

#endif
