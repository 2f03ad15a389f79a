#include "cli/bench_options.h"

#include "base/size.h"
#include "engine/option_tables.h"
#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

// What is measured when nothing is asked for; quick is for seeing whether it works at all.
static const char *const DEFAULT_PROMPT = "512", *const DEFAULT_GEN = "64",
                         *const DEFAULT_DEPTH = "0";
static const char *const QUICK_PROMPT = "64", *const QUICK_GEN = "16";
enum { TOKENS_MAX = 1 << 22, THREADS_MAX = 512 };

#define FIELD(name) .offset = offsetof(stk_bench_options, name)
static const char *const formats[] = {"table", "json", "csv", "html", NULL};
static const stk_option options[] = {
    {.flag = "prompt",
     .letter = 'p',
     .type = STK_OPTION_STRING,
     .unit = "N[,N]",
     .doc = "prompt lengths to read, 0 for none (default 512)",
     FIELD(prompt_text)},
    {.flag = "gen",
     .letter = 'n',
     .type = STK_OPTION_STRING,
     .unit = "N[,N]",
     .doc = "numbers of tokens to decode, 0 for none (default 64)",
     FIELD(gen_text)},
    {.flag = "depth",
     .letter = 'd',
     .type = STK_OPTION_STRING,
     .unit = "N[,N]",
     .doc = "tokens already in the context (default 0)",
     FIELD(depth_text)},
    {.key = "cpu.threads",
     .flag = "threads",
     .letter = 't',
     .type = STK_OPTION_STRING,
     .unit = "N[,N]",
     .doc = "worker threads, 0 or auto for one per usable core (default 0)",
     FIELD(threads_text)},
    {.key = "memory",
     .flag = "memory",
     .letter = 'm',
     .type = STK_OPTION_STRING,
     .unit = "SIZE[,SIZE]",
     .doc = "memory limits; auto is what the system has (default auto)",
     FIELD(memory_text)},
    {.flag = "reps",
     .letter = 'r',
     .type = STK_OPTION_U32,
     .min = 3,
     .max = STK_BENCH_REPS_MAX,
     .unit = "R",
     .fallback = "3",
     .doc = "times each point is measured",
     FIELD(reps)},
    {.flag = "warmup",
     .type = STK_OPTION_U32,
     .max = 1 << 22,
     .unit = "TOKENS",
     .has_auto = true,
     .fallback = "auto",
     .doc = "tokens decoded before decoding is timed; auto is a few, or with experts on disk as "
            "many as are timed",
     FIELD(warmup)},
    {.flag = "sequences",
     .type = STK_OPTION_U32,
     .min = 1,
     .max = STK_BENCH_SEQUENCES_MAX,
     .unit = "N",
     .fallback = "1",
     .doc = "texts decoded at once: in one batch, or over ranks in as many as keep them busy",
     FIELD(sequences)},
    {.key = "session.batch",
     .flag = "batch",
     .type = STK_OPTION_U32,
     .has_auto = true,
     .min = 1,
     .max = 65536,
     .unit = "ROWS",
     .fallback = "auto",
     .doc = "tokens per forward pass of a prompt",
     FIELD(batch_rows)},
    {.flag = "greedy",
     .type = STK_OPTION_BOOL,
     .doc = "ask only for each row's best token, as run --temp 0 does: a GPU or another machine "
            "then keeps the other logits",
     FIELD(is_greedy)},
    {.flag = "sampled",
     .type = STK_OPTION_BOOL,
     .doc = "draw each token, as run does unless told otherwise: another machine then keeps the "
            "logits",
     FIELD(is_sampled)},
    {.flag = "file",
     .letter = 'f',
     .type = STK_OPTION_STRING,
     .unit = "FILE",
     .doc = "take the tokens from this text, not from the one built in",
     FIELD(text_path)},
    {.key = "cpu.mask",
     .flag = "cpu-mask",
     .type = STK_OPTION_STRING,
     .has_auto = true,
     .unit = "ISA",
     .fallback = "auto",
     .doc = STK_CPU_MASK_DOC,
     FIELD(cpu_mask)},
    {.flag = "output",
     .letter = 'o',
     .type = STK_OPTION_ENUM,
     .choices = formats,
     .unit = "FORMAT",
     .fallback = "table",
     .doc = "what to write",
     FIELD(format)},
    {.flag = "out",
     .type = STK_OPTION_STRING,
     .unit = "FILE",
     .doc = "write there, not to standard output",
     FIELD(output_path)},
    {.flag = "compare",
     .type = STK_OPTION_STRING,
     .unit = "COMMAND",
     .doc = "take turns with a shell command that prints tokens/s, and report the ratio",
     FIELD(command)},
    {.flag = "trace",
     .type = STK_OPTION_STRING,
     .unit = "FILE",
     .doc = "write one decoded token as Chrome trace events",
     FIELD(trace_path)},
    {.flag = "record-trace",
     .type = STK_OPTION_STRING,
     .unit = "FILE",
     .doc = "write which experts every token used, for stoker replay",
     FIELD(record_path)},
    {.flag = "quick",
     .type = STK_OPTION_BOOL,
     .doc = "only see that it works: prompt 64, gen 16, a rough bandwidth",
     FIELD(is_quick)},
};
const stk_option_table stk_bench_option_table = {"Bench", options,
                                                 sizeof options / sizeof *options};

static const char *parse_list(const char *flag, const char *text, uint32_t max,
                              stk_bench_list *list, char *error, size_t size)
{
    list->count = 0;
    for (const char *at = text;;) {
        char *end;
        errno = 0;
        unsigned long value = isdigit((unsigned char)*at) ? strtoul(at, &end, 10) : ULONG_MAX;
        if (value > max || errno != 0 || (*end != ',' && *end != '\0')) {
            snprintf(error, size, "--%s: '%.64s' is not a list of whole numbers from 0 to %u", flag,
                     text, max);
            return error;
        }
        if (list->count == STK_BENCH_LIST_MAX) {
            snprintf(error, size, "--%s: more than %u numbers", flag, (unsigned)STK_BENCH_LIST_MAX);
            return error;
        }
        list->values[list->count++] = (uint32_t)value;
        if (*end == '\0')
            return NULL;
        at = end + 1;
    }
}

static const char *parse_sizes(stk_bench_options *o, char *error, size_t size)
{
    const char *text = o->memory_text ? o->memory_text : "auto";
    o->memory_count = 0;
    for (const char *at = text;;) {
        char one[64];
        const char *why = "unknown";
        size_t length = strcspn(at, ",");
        uint64_t *value = &o->memory_bytes[o->memory_count];
        if (o->memory_count == STK_BENCH_LIST_MAX || length >= sizeof one) {
            snprintf(error, size, "--memory: more than %u sizes", (unsigned)STK_BENCH_LIST_MAX);
            return error;
        }
        snprintf(one, sizeof one, "%.*s", (int)length, at);
        *value = 0;
        if (strcmp(one, "auto") != 0 && stk_size_parse(one, value, &why) != STK_OK) {
            snprintf(error, size, "--memory: '%s' is not a size: %s", one, why);
            return error;
        }
        o->memory_count++;
        if (at[length] == '\0')
            return NULL;
        at += length + 1;
    }
}

// --memory is a list here, and what earlier runs used must not change what this one measures.
static bool is_left_out(const char *flag)
{
    return strcmp(flag, "memory") == 0 || strcmp(flag, "no-usage") == 0;
}

// Of the processor's options, those that are no lists or defaults of their own here.
static bool is_kept(const char *flag)
{
    return strcmp(flag, "nodes") == 0 || strcmp(flag, "steal") == 0;
}

uint32_t stk_bench_store_options(stk_option store[STK_BENCH_STORE_OPTIONS_MAX])
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < stk_engine_option_table.count; i++)
        if (is_kept(stk_engine_option_table.options[i].flag))
            store[count++] = stk_engine_option_table.options[i];
    for (uint32_t i = 0; i < stk_memory_option_table.count; i++) {
        const stk_option *option = &stk_memory_option_table.options[i];
        if (option->flag && !is_left_out(option->flag) && count < STK_BENCH_STORE_OPTIONS_MAX)
            store[count++] = *option;
    }
    return count;
}

static void drop_zeros(stk_bench_list *list)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < list->count; i++)
        if (list->values[i] != 0)
            list->values[kept++] = list->values[i];
    list->count = kept;
}

const char *stk_bench_options_check(stk_bench_options *o, char *error, size_t size)
{
    bool is_auto = !o->threads_text || strcmp(o->threads_text, "auto") == 0;
    const char *threads = is_auto ? "0" : o->threads_text;
    const struct {
        const char *flag, *text;
        uint32_t max;
        stk_bench_list *list;
    } lists[] = {
        {"prompt",
         o->prompt_text ? o->prompt_text
         : o->is_quick  ? QUICK_PROMPT
                        : DEFAULT_PROMPT,
         TOKENS_MAX, &o->prompts},
        {"gen",
         o->gen_text   ? o->gen_text
         : o->is_quick ? QUICK_GEN
                       : DEFAULT_GEN,
         TOKENS_MAX, &o->gens},
        {"depth", o->depth_text ? o->depth_text : DEFAULT_DEPTH, TOKENS_MAX, &o->depths},
        {"threads", threads, THREADS_MAX, &o->threads},
    };
    const char *wrong = NULL;
    for (size_t i = 0; i < sizeof lists / sizeof *lists && !wrong; i++)
        wrong = parse_list(lists[i].flag, lists[i].text, lists[i].max, lists[i].list, error, size);
    if (!wrong)
        wrong = parse_sizes(o, error, size);
    if (wrong)
        return wrong;
    drop_zeros(&o->prompts);
    drop_zeros(&o->gens);
    if (o->is_greedy && o->is_sampled)
        return "--greedy and --sampled exclude each other";
    if (o->prompts.count + o->gens.count == 0)
        return "--prompt 0 and --gen 0 leave nothing to measure";
    return NULL;
}
