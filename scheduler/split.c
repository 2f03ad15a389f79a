#include "scheduler/cost_impl.h"

#include <math.h>

// Layers [first, first + count) on a rank, as a time; INFINITY: they do not fit.
static double rank_seconds(const double *layer_s, uint64_t layer_bytes, uint32_t first,
                           uint32_t count, double extra_s, double speed, uint64_t memory_bytes)
{
    double sum = extra_s;
    if (memory_bytes && count * layer_bytes > memory_bytes)
        return INFINITY;
    for (uint32_t i = first; i < first + count; i++)
        sum += layer_s[i];
    return sum / speed;
}

// Whether all layers find a place when no rank may take longer than `most`: each takes as many as
// it can, but leaves one for everybody after it. Fills *out when they do.
static bool place(const double *layer_s, uint64_t layer_bytes, uint32_t layer_count, double head_s,
                  const double *speed, const uint64_t *memory_bytes, uint32_t rank_count,
                  double most, stk_plan_range *out)
{
    uint32_t first = 0;
    for (uint32_t r = 0; r < rank_count; r++) {
        uint32_t others = rank_count - r - 1, count = 0;
        double extra = others == 0 ? head_s : 0;
        while (first + count + others < layer_count &&
               rank_seconds(layer_s, layer_bytes, first, count + 1, extra, speed[r],
                            memory_bytes[r]) <= most)
            count++;
        if (count == 0)
            return false;
        out[r] = (stk_plan_range){first, count};
        first += count;
    }
    return first == layer_count;
}

bool stk_plan_split(const double *layer_s, uint64_t layer_bytes, uint32_t layer_count,
                    double head_s, const double *speed, const uint64_t *memory_bytes,
                    uint32_t rank_count, stk_plan_range *out)
{
    double low = 0, high = head_s, slowest = INFINITY;
    if (rank_count == 0 || rank_count > layer_count || rank_count > STK_PLAN_RANKS_MAX)
        return false;
    for (uint32_t r = 0; r < rank_count; r++)
        slowest = speed[r] < slowest ? speed[r] : slowest;
    for (uint32_t i = 0; i < layer_count; i++)
        high += layer_s[i];
    high = high / slowest + 1;
    if (!(slowest > 0) || !place(layer_s, layer_bytes, layer_count, head_s, speed, memory_bytes,
                                 rank_count, high, out))
        return false;
    // Bisection: what can be done in some time can be done in more.
    for (int i = 0; i < 60; i++) {
        stk_plan_range trial[STK_PLAN_RANKS_MAX];
        double middle = (low + high) / 2;
        if (place(layer_s, layer_bytes, layer_count, head_s, speed, memory_bytes, rank_count,
                  middle, trial)) {
            high = middle;
            for (uint32_t r = 0; r < rank_count; r++)
                out[r] = trial[r];
        } else {
            low = middle;
        }
    }
    return true;
}
