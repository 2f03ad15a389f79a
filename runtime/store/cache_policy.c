#include "store/cache_policy.h"

#include <math.h>
#include <string.h>

// Tokens after which a use counts half. Long, because popularity changes with the topic, not with
// the word; the traces in bench/ put the optimum between 200 and 2000.
#define HALF_LIFE_TOKENS 512.0

static double decayed(const stk_usage *u, const stk_policy_clock *now)
{
    return (double)u->frequency * exp2(-(double)(now->token - u->last_token) / HALF_LIFE_TOKENS);
}

static void touch_count(stk_usage *u, const stk_policy_clock *now, float weight)
{
    (void)weight;
    u->frequency = (float)(decayed(u, now) + 1.0);
    u->last_token = now->token;
    u->last_use = now->use;
}

static double worth_recency(const stk_usage *u, const stk_policy_clock *now, uint32_t layer)
{
    (void)now;
    (void)layer;
    return (double)u->last_use;
}

static double worth_frequency(const stk_usage *u, const stk_policy_clock *now, uint32_t layer)
{
    (void)layer;
    return decayed(u, now);
}

// Frequency, and among equals the layer that comes up soonest: layers are visited in a cycle, so
// the one just passed is needed last. One cycle weighs as much as half a use.
static double worth_cycle(const stk_usage *u, const stk_policy_clock *now, uint32_t layer)
{
    uint32_t until = (layer + now->layer_count - now->layer - 1) % now->layer_count;
    return decayed(u, now) - 0.5 * (double)until / (double)now->layer_count;
}

const stk_cache_policy stk_cache_policy_lru = {
    "lru", "least recently used goes first", touch_count, worth_recency};
const stk_cache_policy stk_cache_policy_lfu = {
    "lfu", "least frequently used goes first, uses decay", touch_count, worth_frequency};
const stk_cache_policy stk_cache_policy_cycle = {
    "cycle", "frequency with decay, then the distance to the layer's next turn", touch_count,
    worth_cycle};

static const stk_cache_policy *const policies[] = {
#define STK_POLICY(symbol) &stk_cache_policy_##symbol,
#include "store/policies.def"
#undef STK_POLICY
};

const stk_cache_policy *stk_cache_policy_at(size_t index)
{
    return index < sizeof policies / sizeof *policies ? policies[index] : NULL;
}

const stk_cache_policy *stk_cache_policy_find(const char *name)
{
    if (!name)
        return policies[0];
    for (size_t i = 0; i < sizeof policies / sizeof *policies; i++)
        if (strcmp(policies[i]->name, name) == 0)
            return policies[i];
    return NULL;
}
