// cli/cmd_ppl.c: stoker ppl MODEL -f FILE: perplexity, comparable with llama.cpp's.
#include "cli/commands.h"
#include "cli/console.h"
#include "cli/interrupt.h"
#include "cli/model_command.h"
#include "cli/perplexity.h"
#include "cli/ranks.h"
#include "cli/read_text.h"
#include "cli/text_model.h"
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

typedef struct ppl_options {
    const char *text_path;
    uint32_t context_tokens, chunks_max, batch_rows;
    bool is_json;
} ppl_options;

#define FIELD(name) .offset = offsetof(ppl_options, name)
static const stk_option ppl_table_options[] = {
    {.flag = "file",
     .letter = 'f',
     .type = STK_OPTION_STRING,
     .unit = "FILE",
     .doc = "the text; - is standard input",
     FIELD(text_path)},
    {.flag = "ctx",
     .letter = 'c',
     .type = STK_OPTION_U32,
     .min = 4,
     .max = 1 << 24,
     .unit = "TOKENS",
     .fallback = "512",
     .doc = "tokens per chunk",
     FIELD(context_tokens)},
    {.flag = "chunks",
     .type = STK_OPTION_U32,
     .has_auto = true,
     .min = 1,
     .unit = "N",
     .fallback = "auto",
     .doc = "stop after N chunks; auto takes all",
     FIELD(chunks_max)},
    {.flag = "batch",
     .type = STK_OPTION_U32,
     .min = 1,
     .max = 65536,
     .unit = "ROWS",
     .fallback = "64",
     .doc = "tokens per forward pass",
     FIELD(batch_rows)},
    {.flag = "json", .type = STK_OPTION_BOOL, .doc = "print one JSON object", FIELD(is_json)},
};
static const stk_option_table ppl_table = {"Perplexity", ppl_table_options,
                                           sizeof ppl_table_options / sizeof *ppl_table_options};

typedef struct job {
    ppl_options options;
    stk_console console;
    stk_text_model model;
    stk_session *session;
    int32_t *tokens;
    uint32_t count;
} job;

static stk_session_options session_options(const job *j)
{
    uint32_t context = j->options.context_tokens, rows = j->options.batch_rows;
    rows = rows < context ? rows : context;
    return (stk_session_options){.context_tokens = context,
                                 .batch_rows_max = rows,
                                 .logit_rows_max = rows,
                                 .inflight_max = STK_INFLIGHT_AUTO};
}

static stk_status open_job(job *j, const stk_engine_options *engine)
{
    stk_str text;
    stk_status status = stk_text_read(j->options.text_path, &j->console.log, &text);
    if (status != STK_OK)
        return status;
    const stk_session_options session = session_options(j);
    stk_engine_options planned = *engine;
    planned.planned_session = &session;
    status = stk_text_model_open(&planned, &j->model);
    if (status == STK_OK)
        status = stk_text_model_encode(&j->model, text, STK_ENCODE_BOS, &j->tokens, &j->count);
    free((char *)text.data);
    if (status != STK_OK)
        return status;
    return stk_session_open(j->model.engine, &session, &j->session);
}

static int print_result(const job *j, const stk_perplexity *p)
{
    double value = stk_perplexity_value(p), error = stk_perplexity_error(p);
    double seconds = (double)p->elapsed_ns * 1e-9;
    uint64_t tokens = (uint64_t)p->chunks * j->options.context_tokens;
    if (!j->options.is_json) {
        printf("perplexity %.4f +/- %.4f (%u chunks of %u tokens, %llu scored)\n", value, error,
               p->chunks, j->options.context_tokens, (unsigned long long)p->scored_tokens);
        return STK_EXIT_DONE;
    }
    // JSON has no NaN: json_pack fails on it, and so does a model that gives one.
    json_t *json = json_pack(
        "{s:f, s:f, s:f, s:i, s:i, s:I, s:f, s:f}", "perplexity", value, "standard_error", error,
        "nll", p->nll / (double)p->scored_tokens, "context_tokens", (int)j->options.context_tokens,
        "chunks", (int)p->chunks, "scored_tokens", (json_int_t)p->scored_tokens, "seconds", seconds,
        "tokens_per_s", seconds > 0 ? (double)tokens / seconds : 0);
    char *line = json ? json_dumps(json, JSON_REAL_PRECISION(12)) : NULL;
    json_decref(json);
    if (!line) {
        stk_error(&j->console.log, "the perplexity, %g, cannot be written as JSON", value);
        return STK_EXIT_FAILED;
    }
    puts(line);
    free(line);
    return STK_EXIT_DONE;
}

static int measure(job *j)
{
    const stk_tokenizer *tokenizer = j->model.tokenizer;
    const stk_perplexity_options options = {
        .session = j->session,
        .log = &j->console.log,
        .tokens = j->tokens,
        .count = j->count,
        .context = j->options.context_tokens,
        .vocab_size = stk_engine_model(j->model.engine)->vocab_size,
        .chunks_max = j->options.chunks_max,
        .bos = stk_tokenizer_adds_bos(tokenizer) ? stk_tokenizer_bos(tokenizer) : -1,
        .cancel = stk_interrupt_flag(),
    };
    stk_perplexity result;
    stk_status status = stk_perplexity_measure(&options, &result);
    // What was measured until Ctrl-C is still a result, with fewer chunks.
    if ((status == STK_OK || status == STK_CANCELLED) && result.chunks > 0) {
        int exit_code = print_result(j, &result);
        return status == STK_OK ? exit_code : STK_EXIT_INTERRUPTED;
    }
    return stk_exit_code(status);
}

static const char *misused(const void *options)
{
    const ppl_options *o = options;
    return o->text_path ? NULL : "name the text with -f FILE";
}

int stk_cmd_ppl(int argc, char **argv)
{
    stk_engine_options engine = {0};
    job j = {0};
    const stk_option_binding bindings[] = {{&ppl_table, &j.options}};
    stk_model_command command = {
        .doc = "Measures the perplexity of a text. Only the second half of each chunk is scored.",
        .bindings = bindings,
        .binding_count = sizeof bindings / sizeof *bindings,
        .has_ranks = true,
        .misused = misused,
        .options = &j.options,
        .engine = &engine,
        .console = &j.console,
    };
    int exit_code;
    if (!stk_model_command_open(&command, argc, argv, &exit_code))
        return exit_code;
    const stk_session_options session = session_options(&j);
    if (stk_ranks_join(&engine, &session, argv[0], &exit_code)) {
        stk_status status = open_job(&j, &engine);
        exit_code = status == STK_OK ? measure(&j) : stk_exit_code(status);
        stk_session_close(&j.session);
        free(j.tokens);
        stk_text_model_close(&j.model);
        stk_ranks_part(&engine);
    }
    stk_model_command_close(&command);
    return exit_code;
}
