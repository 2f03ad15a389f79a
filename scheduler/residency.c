#include "scheduler/residency.h"

#include <assert.h>
#include <math.h>

// An expert's place among those that were not swapped by an earlier change of this call.
static bool is_swapped(const stk_residency_swap *swaps, uint32_t count, uint32_t expert)
{
    for (uint32_t i = 0; i < count; i++)
        if (swaps[i].promote == expert || swaps[i].demote == expert)
            return true;
    return false;
}

// The most used expert that is not resident, or the least used one that is.
static uint32_t find(const stk_residency *r, bool resident, const stk_residency_swap *swaps,
                     uint32_t count)
{
    uint32_t best = STK_RESIDENCY_NONE;
    for (uint32_t e = 0; e < r->expert_count; e++) {
        if (r->is_resident[e] != resident || is_swapped(swaps, count, e))
            continue;
        // Equals: the lower number comes in first and goes last.
        if (best == STK_RESIDENCY_NONE ||
            (resident ? r->usage[e] <= r->usage[best] : r->usage[e] > r->usage[best]))
            best = e;
    }
    return best;
}

static bool is_worth(const stk_residency *r, uint32_t in, uint32_t out)
{
    float hysteresis = r->hysteresis >= 1 ? r->hysteresis : 1;
    return r->usage[in] > r->usage[out] * hysteresis &&
           r->usage[in] - r->usage[out] > r->usage_gain_min;
}

uint32_t stk_residency_decide(const stk_residency *r, stk_residency_swap *swaps, uint32_t swaps_max)
{
    uint32_t resident = 0, count = 0;
    for (uint32_t e = 0; e < r->expert_count; e++)
        resident += r->is_resident[e];
    for (; count < swaps_max && resident > r->capacity; resident--, count++)
        swaps[count] = (stk_residency_swap){STK_RESIDENCY_NONE, find(r, true, swaps, count)};
    for (; count < swaps_max; count++) {
        uint32_t in = find(r, false, swaps, count);
        if (in == STK_RESIDENCY_NONE)
            break;
        if (resident < r->capacity) {
            if (!(r->usage[in] > 0))
                break; // nor is anything else
            swaps[count] = (stk_residency_swap){in, STK_RESIDENCY_NONE};
            resident++;
            continue;
        }
        uint32_t out = find(r, true, swaps, count);
        if (out == STK_RESIDENCY_NONE || !is_worth(r, in, out))
            break;
        swaps[count] = (stk_residency_swap){in, out};
    }
    return count;
}

float stk_usage_after(float usage, uint32_t tokens, double half_life_tokens)
{
    assert(half_life_tokens > 0);
    return (float)((double)usage * exp2(-(double)tokens / half_life_tokens));
}

float stk_usage_touched(float usage, double half_life_tokens)
{
    assert(half_life_tokens > 0);
    return (float)((double)usage + 1 - exp2(-1 / half_life_tokens));
}
