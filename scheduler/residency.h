// scheduler/residency.h: which experts should live in a small fast memory (a GPU's, say).
//
// Pure: usage, capacity and what is there come in, a short list of changes goes out. Knows neither
// devices nor slots; whoever owns them carries the changes out at a token boundary, as fast as it
// likes. Invariant: an expert gives way only to one that is clearly more used, so that carrying
// out the changes and asking again brings none back.
#ifndef STK_SCHEDULER_RESIDENCY_H
#define STK_SCHEDULER_RESIDENCY_H

#include <stdbool.h>
#include <stdint.h>

#define STK_RESIDENCY_NONE UINT32_MAX

// One change. Experts are numbered layer * experts per layer + expert.
typedef struct stk_residency_swap {
    uint32_t promote; // STK_RESIDENCY_NONE: nothing comes in, the capacity has shrunk
    uint32_t demote;  // STK_RESIDENCY_NONE: nobody has to go, there was room
} stk_residency_swap;

typedef struct stk_residency {
    const float *usage;      // [expert_count] decayed uses per token; not negative
    const bool *is_resident; // [expert_count]
    uint32_t expert_count;   // of all layers together
    uint32_t capacity;       // experts that fit
    // An expert gives way to one used more than `hysteresis` times as much (1.25; at least 1) and
    // by more than `usage_gain_min` uses per token: what carrying a swap out is worth. What is not
    // used at all never comes in.
    float hysteresis, usage_gain_min;
} stk_residency;

// Writes at most `swaps_max` changes to swaps and returns how many; the most useful come first.
// Applied in order they never exceed the capacity, provided the last one before was not exceeded;
// when it was, what is used least goes first. Equal usage: the lower number wins. Thread-safety:
// pure. Time: expert_count * swaps_max.
uint32_t stk_residency_decide(const stk_residency *now, stk_residency_swap *swaps,
                              uint32_t swaps_max);

// What `tokens` tokens later is left of a rate, and a rate after one use or none in a token.
// half_life_tokens > 0.
float stk_usage_after(float usage, uint32_t tokens, double half_life_tokens);
float stk_usage_touched(float usage, double half_life_tokens);

#endif
