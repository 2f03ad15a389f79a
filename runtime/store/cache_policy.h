// store/cache_policy.h: which expert to keep when not all fit.
//
// Pure functions over usage records: no locks, no clock, no I/O, so that recorded traces replay
// exactly. Time is the count of tokens. A policy ranks experts by how much they are worth keeping;
// the cache evicts the lowest among those that nobody uses.
#ifndef STK_STORE_CACHE_POLICY_H
#define STK_STORE_CACHE_POLICY_H

#include <stddef.h>
#include <stdint.h>

// What is remembered of one expert of one layer, resident or not.
typedef struct stk_usage {
    float slow, fast;    // decayed counts of uses as of last_token, in uses per token
    uint32_t last_token; // when it was last used
    uint64_t last_use;   // serial number of that use over all layers, for LRU
} stk_usage;

typedef struct stk_policy_clock {
    uint32_t token;       // tokens so far
    uint32_t step_tokens; // of which the pass that is on computes; 0: one
    uint32_t use_tokens;  // of these, how many share the use now recorded; 0: one
    uint64_t use;         // uses so far
    uint32_t layer;       // layer being computed
    uint32_t layer_count;
} stk_policy_clock;

typedef struct stk_cache_policy {
    const char *name;
    const char *doc; // one line
    // Records a use. `weight` is the router's weight, 0..1.
    void (*touch)(stk_usage *usage, const stk_policy_clock *now, float weight);
    // Larger is kept longer. `layer` is the expert's.
    double (*worth)(const stk_usage *usage, const stk_policy_clock *now, uint32_t layer);
} stk_cache_policy;

#define STK_POLICY(symbol) extern const stk_cache_policy stk_cache_policy_##symbol;
#include "store/policies.def"
#undef STK_POLICY

// The slow rate as of now.
float stk_usage_slow(const stk_usage *usage, const stk_policy_clock *now);

// By name; NULL name: the default. NULL when there is none of that name.
const stk_cache_policy *stk_cache_policy_find(const char *name);
const stk_cache_policy *stk_cache_policy_at(size_t index); // NULL past the end

#endif
