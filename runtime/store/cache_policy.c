#include "store/cache_policy.h"

#include <math.h>
#include <string.h>

// Tokens after which a use counts half. Which experts a text needs changes with its topic (slow),
// and neighbouring tokens share some (fast). bench/cache-policies.md has the traces that put them
// here: shorter is better on random weights, longer on the trained model.
#define HALF_LIFE_SLOW 512.0
#define HALF_LIFE_FAST 16.0
#define FAST_SHARE     0.5 // of the fast rate, beside the slow one

static double decay(double half_life, uint32_t tokens)
{
    return exp2(-(double)tokens / half_life);
}

// Adds one use of `amount` by each of some tokens of a pass to both rates, as if they came evenly
// spread over it.
static void touch_amount(stk_usage *u, const stk_policy_clock *now, double amount)
{
    uint32_t age = now->token - u->last_token, step = now->step_tokens ? now->step_tokens : 1;
    amount *= (now->use_tokens ? (double)now->use_tokens : 1) / (double)step;
    u->slow = (float)((double)u->slow * decay(HALF_LIFE_SLOW, age) +
                      amount * (1 - decay(HALF_LIFE_SLOW, step)));
    u->fast = (float)((double)u->fast * decay(HALF_LIFE_FAST, age) +
                      amount * (1 - decay(HALF_LIFE_FAST, step)));
    u->last_token = now->token;
    u->last_use = now->use;
}

static void touch_count(stk_usage *u, const stk_policy_clock *now, float weight)
{
    (void)weight;
    touch_amount(u, now, 1);
}

// The slow rate starts from nothing, so early on it is scaled to the tokens there were.
static double slow_rate(const stk_usage *u, const stk_policy_clock *now)
{
    double seen = 1 - decay(HALF_LIFE_SLOW, now->token + 1);
    return (double)u->slow * decay(HALF_LIFE_SLOW, now->token - u->last_token) / seen;
}

float stk_usage_slow(const stk_usage *u, const stk_policy_clock *now)
{
    return (float)((double)u->slow * decay(HALF_LIFE_SLOW, now->token - u->last_token));
}

static double fast_rate(const stk_usage *u, const stk_policy_clock *now)
{
    return (double)u->fast * decay(HALF_LIFE_FAST, now->token - u->last_token);
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
    return slow_rate(u, now);
}

// Both rates, and among near equals the layer that comes up soonest: layers are visited in a
// cycle, so the one just passed is needed last.
static double worth_cycle(const stk_usage *u, const stk_policy_clock *now, uint32_t layer)
{
    uint32_t until = (layer + now->layer_count - now->layer - 1) % now->layer_count;
    return slow_rate(u, now) + FAST_SHARE * fast_rate(u, now) -
           0.002 * (double)until / (double)now->layer_count;
}

// As cycle, but a use counts by the weight the router gave it: an expert that was barely chosen
// is less likely to be chosen again.
static void touch_weight(stk_usage *u, const stk_policy_clock *now, float weight)
{
    touch_amount(u, now, (double)weight);
}

const stk_cache_policy stk_cache_policy_lru = {"lru", "least recently used goes first", touch_count,
                                               worth_recency};
const stk_cache_policy stk_cache_policy_lfu = {
    "lfu", "least frequently used goes first, uses decay", touch_count, worth_frequency};
const stk_cache_policy stk_cache_policy_cycle = {
    "cycle", "long and short term frequency, then the distance to the layer's next turn",
    touch_count, worth_cycle};
const stk_cache_policy stk_cache_policy_scores = {
    "scores", "as cycle, uses counted by router weight", touch_weight, worth_cycle};

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
