// cli/cmd_replay.c: stoker replay TRACE: what each cache policy would have hit.
#include "cli/arguments.h"
#include "cli/commands.h"
#include "cli/console.h"
#include "cli/trace.h"
#include "store/cache_policy.h"
#include <stdio.h>
#include <stdlib.h>

typedef struct replay_options {
    uint32_t slots, warmup_tokens;
} replay_options;

#define FIELD(name) .offset = offsetof(replay_options, name)
static const stk_option replay_table_options[] = {
    {.flag = "slots",
     .type = STK_OPTION_U32,
     .has_auto = true,
     .min = 1,
     .unit = "N",
     .fallback = "auto",
     .doc = "experts the cache holds; auto tries an eighth to three quarters of all",
     FIELD(slots)},
    {.flag = "warmup",
     .type = STK_OPTION_U32,
     .unit = "TOKENS",
     .fallback = "100",
     .doc = "tokens at the start that fill the cache and do not count",
     FIELD(warmup_tokens)},
};
static const stk_option_table replay_table = {"Replay", replay_table_options, 2};

// A cache being replayed. next_use is Belady's knowledge of the future.
typedef struct replay {
    const stk_trace_data *trace;
    uint32_t entries, slots, used_slots;
    uint32_t warmup_tokens;
    stk_usage *usage;    // [entries]
    uint8_t *resident;   // [entries]
    uint64_t *next_use;  // [entries], use index
    uint64_t *following; // [uses * used]: when this expert is used again
    uint64_t hits, uses;
} replay;

static uint32_t entry_of(const stk_trace_data *t, uint64_t use, uint32_t k)
{
    return t->layers[use] * t->expert_count + t->experts[use * t->used + k];
}

static void look_ahead(replay *r)
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
static void evict_one(replay *r, const stk_cache_policy *policy, const stk_policy_clock *now,
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

static double run(replay *r, const stk_cache_policy *policy)
{
    const stk_trace_data *t = r->trace;
    stk_policy_clock now = {.layer_count = t->layer_count};
    r->hits = r->uses = r->used_slots = 0;
    for (uint32_t e = 0; e < r->entries; e++) {
        r->usage[e] = (stk_usage){0};
        r->resident[e] = 0;
    }
    look_ahead(r);
    for (uint64_t use = 0; use < t->use_count; use++) {
        uint32_t busy[STK_EXPERTS_USED_MAX];
        now.token += t->layers[use] == 0;
        now.layer = t->layers[use];
        for (uint32_t k = 0; k < t->used; k++)
            busy[k] = entry_of(t, use, k);
        for (uint32_t k = 0; k < t->used; k++) {
            uint32_t e = busy[k];
            r->uses += now.token > r->warmup_tokens;
            r->hits += now.token > r->warmup_tokens && r->resident[e];
            now.use++;
            if (policy)
                policy->touch(&r->usage[e], &now, 1.0f);
            r->next_use[e] = r->following[use * t->used + k];
            if (!r->resident[e]) {
                if (r->used_slots == r->slots)
                    evict_one(r, policy, &now, busy, t->used);
                r->resident[e] = 1;
                r->used_slots++;
            }
        }
    }
    return r->uses ? 100.0 * (double)r->hits / (double)r->uses : 0;
}

static void print_row(replay *r, uint32_t slots)
{
    if (slots <= r->trace->used)
        return;
    r->slots = slots;
    printf("%8u  %5.1f %%", slots, 100.0 * slots / r->entries);
    for (size_t i = 0; stk_cache_policy_at(i); i++)
        printf("  %7.2f", run(r, stk_cache_policy_at(i)));
    printf("  %7.2f\n", run(r, NULL));
}

static stk_status compare(const stk_trace_data *trace, const replay_options *options)
{
    replay r = {.trace = trace,
                .entries = trace->layer_count * trace->expert_count,
                .warmup_tokens = options->warmup_tokens};
    r.usage = calloc(r.entries, sizeof *r.usage);
    r.resident = calloc(r.entries, sizeof *r.resident);
    r.next_use = calloc(r.entries, sizeof *r.next_use);
    r.following = calloc(trace->use_count * trace->used + 1, sizeof *r.following);
    stk_status status = STK_NO_MEMORY;
    if (r.usage && r.resident && r.next_use && r.following) {
        printf("hits in %% of %llu uses\n%8s  %7s",
               (unsigned long long)trace->use_count * trace->used, "slots", "share");
        for (size_t i = 0; stk_cache_policy_at(i); i++)
            printf("  %7s", stk_cache_policy_at(i)->name);
        printf("  %7s\n", "belady");
        if (options->slots)
            print_row(&r, options->slots);
        for (uint32_t eighth = 1; eighth <= 6 && !options->slots; eighth++)
            print_row(&r, r.entries * eighth / 8);
        status = STK_OK;
    }
    free(r.usage);
    free(r.resident);
    free(r.next_use);
    free(r.following);
    return status;
}

int stk_cmd_replay(int argc, char **argv)
{
    replay_options options = {0};
    stk_console_options console_options = {0};
    const char *path;
    const stk_option_binding bindings[] = {
        {&replay_table, &options},
        {&stk_console_option_table, &console_options},
    };
    const stk_arguments arguments = {
        .positional_doc = "TRACE",
        .doc = "Replays a trace of stoker run --record-trace through every cache policy, and "
               "through the best one there could be (Belady's, which knows the future).",
        .bindings = bindings,
        .binding_count = sizeof bindings / sizeof *bindings,
        .positional_min = 1,
        .positional_max = 1,
        .positionals = &path,
    };
    int exit_code;
    if (!stk_arguments_parse(&arguments, argc, argv, &exit_code))
        return exit_code;
    stk_console console;
    stk_console_open(&console_options, &console);
    stk_trace_data trace = {0};
    stk_status status = stk_trace_read(path, &console.log, &trace);
    if (status == STK_OK)
        status = compare(&trace, &options);
    stk_trace_data_free(&trace);
    stk_console_close(&console);
    return stk_exit_code(status);
}
