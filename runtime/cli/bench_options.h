// cli/bench_options.h: the flags of `stoker bench`, and lists of numbers.
#ifndef STK_CLI_BENCH_OPTIONS_H
#define STK_CLI_BENCH_OPTIONS_H

#include "base/options.h"
#include "cli/bench.h"

typedef struct stk_bench_list {
    uint32_t values[STK_BENCH_LIST_MAX];
    uint32_t count;
} stk_bench_list;

typedef enum stk_bench_format {
    STK_BENCH_TABLE,
    STK_BENCH_JSON,
    STK_BENCH_CSV,
    STK_BENCH_HTML,
} stk_bench_format;

typedef struct stk_bench_options {
    const char *prompt_text, *gen_text, *depth_text, *threads_text,
        *memory_text; // lists as typed, or NULL
    const char *text_path, *cpu_mask, *output_path, *command, *trace_path, *record_path;
    uint32_t reps, batch_rows, warmup, sequences;
    uint32_t format; // stk_bench_format
    bool is_quick, is_greedy, is_sampled;
    // Filled by stk_bench_options_check. Memory limits in bytes, 0: none.
    stk_bench_list prompts, gens, depths, threads;
    uint64_t memory_bytes[STK_BENCH_LIST_MAX];
    uint32_t memory_count;
} stk_bench_options;

extern const stk_option_table stk_bench_option_table;

enum { STK_BENCH_STORE_OPTIONS_MAX = 16 };
// The engine's options that make sense here and are about where experts are, to options[]; returns
// their number.
uint32_t stk_bench_store_options(stk_option options[STK_BENCH_STORE_OPTIONS_MAX]);

// Parses the lists. NULL, or a phrase for stk_arguments_misused in error[size].
const char *stk_bench_options_check(stk_bench_options *options, char *error, size_t size);

#endif
