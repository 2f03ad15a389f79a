#include "store/pressure.h"

#include <stdio.h>

#define SECOND_NS 1000000000ull

uint32_t stk_pressure_decide(stk_pressure_governor *g, double stalled_percent, uint64_t now_ns)
{
    uint64_t since = now_ns - g->changed_ns;
    if (stalled_percent > 5.0 && since >= SECOND_NS && g->slots > g->slots_min) {
        uint32_t less = g->slots - (g->slots + 7) / 8;
        g->slots = less > g->slots_min ? less : g->slots_min;
        g->changed_ns = now_ns;
    } else if (stalled_percent < 0.5 && since >= 10 * SECOND_NS && g->slots < g->slots_max) {
        uint32_t more = g->slots + (g->slots_max + 15) / 16;
        g->slots = more < g->slots_max ? more : g->slots_max;
        g->changed_ns = now_ns;
    }
    return g->slots;
}

bool stk_pressure_read(double *stalled_percent)
{
    FILE *f = fopen("/proc/pressure/memory", "re");
    bool known = f && fscanf(f, "some avg10=%lf", stalled_percent) == 1;
    if (f)
        fclose(f);
    return known;
}
