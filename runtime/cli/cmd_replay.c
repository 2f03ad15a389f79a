// cli/cmd_replay.c: stoker replay TRACE: what each cache policy would have hit.
#include "cli/arguments.h"
#include "cli/commands.h"
#include "cli/console.h"
#include "cli/interrupt.h"
#include "cli/replay.h"
#include "cli/trace.h"
#include <inttypes.h>
#include <stdio.h>

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

static void print_row(stk_replay *replay, const stk_trace_data *trace, uint32_t slots,
                      uint32_t warmup_tokens)
{
    uint32_t entries = trace->layer_count * trace->expert_count;
    if (slots <= trace->used)
        return;
    printf("%8u  %5.1f %%", slots, 100.0 * slots / entries);
    for (size_t i = 0;; i++) {
        const stk_cache_policy *policy = stk_cache_policy_at(i);
        stk_replay_result r = stk_replay_run(replay, policy, slots, warmup_tokens);
        printf("  %7.2f", r.uses ? 100.0 * (double)r.hits / (double)r.uses : 0);
        if (!policy)
            break; // Belady's was the last
    }
    printf("\n");
}

static uint64_t count_tokens(const stk_trace_data *trace)
{
    uint64_t count = 0;
    for (uint64_t use = 0; use < trace->use_count; use++)
        count += trace->layers[use] == 0;
    return count;
}

static stk_status compare(const char *path, const stk_trace_data *trace,
                          const replay_options *options, const stk_log *log)
{
    stk_replay *replay;
    uint64_t tokens = count_tokens(trace);
    if (tokens <= options->warmup_tokens)
        return stk_fail(log, STK_INVALID,
                        "%s: %" PRIu64 " tokens, and the first %u do not count: record more, or "
                        "give a smaller --warmup",
                        path, tokens, options->warmup_tokens);
    uint32_t entries = trace->layer_count * trace->expert_count;
    stk_status status = stk_replay_open(trace, &replay);
    if (status != STK_OK)
        return status;
    printf("hits in %% of %llu uses%s\n%8s  %7s",
           (unsigned long long)trace->use_count * trace->used,
           trace->has_weights ? "" : ", recorded without weights", "slots", "share");
    for (size_t i = 0; stk_cache_policy_at(i); i++)
        printf("  %7s", stk_cache_policy_at(i)->name);
    printf("  %7s\n", "belady");
    if (options->slots)
        print_row(replay, trace, options->slots, options->warmup_tokens);
    for (uint32_t eighth = 1; eighth <= 6 && !options->slots; eighth++)
        print_row(replay, trace, entries * eighth / 8, options->warmup_tokens);
    stk_replay_close(&replay);
    return STK_OK;
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
    stk_interrupt_end_at_once();
    stk_console console;
    stk_console_open(&console_options, &console);
    stk_trace_data trace = {0};
    stk_status status = stk_trace_read(path, &console.log, &trace);
    if (status == STK_OK)
        status = compare(path, &trace, &options, &console.log);
    stk_trace_data_free(&trace);
    stk_console_close(&console);
    return stk_exit_code(status);
}
