#include "cli/replay.h"

#include <stdlib.h>

struct stk_replay {
    const stk_trace_data *trace;
    uint32_t entries, used_slots;
    stk_usage *usage;    // [entries]
    uint8_t *resident;   // [entries]
    uint64_t *next_use;  // [entries], use index: Belady's knowledge of the future
    uint64_t *following; // [uses * used]: when this expert is used again
};

static uint32_t entry_of(const stk_trace_data *t, uint64_t use, uint32_t k)
{
    return t->layers[use] * t->expert_count + t->experts[use * t->used + k];
}

static void look_ahead(stk_replay *r)
{
    for (uint32_t e = 0; e < r->entries; e++)
        r->next_use[e] = UINT64_MAX;
    for (uint64_t use = r->trace->use_count; use-- > 0;)
        for (uint32_t k = 0; k < r->trace->used; k++) {
            uint32_t e = entry_of(r->trace, use, k);
            r->following[use * r->trace->used + k] = r->next_use[e];
            r->next_use[e] = use;
        }
}

// policy NULL: evict what is used again last (Belady).
static void evict_one(stk_replay *r, const stk_cache_policy *policy, const stk_policy_clock *now,
                      const uint32_t *busy, uint32_t busy_count)
{
    uint32_t victim = UINT32_MAX;
    double least = 0;
    for (uint32_t e = 0; e < r->entries; e++) {
        int pinned = !r->resident[e];
        for (uint32_t k = 0; k < busy_count; k++)
            pinned |= busy[k] == e;
        if (pinned)
            continue;
        double worth = policy ? policy->worth(&r->usage[e], now, e / r->trace->expert_count)
                              : -(double)r->next_use[e];
        if (victim == UINT32_MAX || worth < least) {
            victim = e;
            least = worth;
        }
    }
    r->resident[victim] = 0;
    r->used_slots--;
}

static stk_replay_result start(stk_replay *r)
{
    r->used_slots = 0;
    for (uint32_t e = 0; e < r->entries; e++) {
        r->usage[e] = (stk_usage){0};
        r->resident[e] = 0;
    }
    look_ahead(r);
    return (stk_replay_result){0};
}

stk_replay_result stk_replay_run(stk_replay *r, const stk_cache_policy *policy, uint32_t slots,
                                 uint32_t warmup_tokens)
{
    const stk_trace_data *t = r->trace;
    stk_policy_clock now = {.layer_count = t->layer_count};
    stk_replay_result result = start(r);
    for (uint64_t use = 0; use < t->use_count; use++) {
        uint32_t busy[STK_EXPERTS_USED_MAX];
        now.token += t->layers[use] == 0;
        now.layer = t->layers[use];
        for (uint32_t k = 0; k < t->used; k++)
            busy[k] = entry_of(t, use, k);
        for (uint32_t k = 0; k < t->used; k++) {
            uint32_t e = busy[k];
            result.uses += now.token > warmup_tokens;
            result.hits += now.token > warmup_tokens && r->resident[e];
            now.use++;
            if (policy)
                policy->touch(&r->usage[e], &now, t->weights[use * t->used + k]);
            r->next_use[e] = r->following[use * t->used + k];
            if (!r->resident[e]) {
                if (r->used_slots == slots)
                    evict_one(r, policy, &now, busy, t->used);
                r->resident[e] = 1;
                r->used_slots++;
            }
        }
    }
    return result;
}

stk_status stk_replay_open(const stk_trace_data *trace, stk_replay **out)
{
    stk_replay *r = calloc(1, sizeof *r);
    if (!r)
        return STK_NO_MEMORY;
    r->trace = trace;
    r->entries = trace->layer_count * trace->expert_count;
    r->usage = calloc(r->entries, sizeof *r->usage);
    r->resident = calloc(r->entries, sizeof *r->resident);
    r->next_use = calloc(r->entries, sizeof *r->next_use);
    r->following = calloc(trace->use_count * trace->used + 1, sizeof *r->following);
    if (!r->usage || !r->resident || !r->next_use || !r->following) {
        stk_replay_close(&r);
        return STK_NO_MEMORY;
    }
    *out = r;
    return STK_OK;
}

void stk_replay_close(stk_replay **replay)
{
    stk_replay *r = *replay;
    if (!r)
        return;
    free(r->usage);
    free(r->resident);
    free(r->next_use);
    free(r->following);
    free(r);
    *replay = NULL;
}
