// cli/cmd_bench.c: stoker bench MODEL: speeds, and what the memory's bandwidth would allow.
#include "base/cores.h"
#include "cli/arguments.h"
#include "cli/bench_options.h"
#include "cli/commands.h"
#include "cli/config_tables.h"
#include "cli/console.h"
#include "cli/interrupt.h"
#include "cli/output.h"
#include "cli/ranks.h"
#include "cli/read_text.h"
#include "cli/trace.h"
#include "engine/option_tables.h"
#include "engine/sampler.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { QUICK_BANDWIDTH_PART = 8 };
enum { OPEN_ROWS_LEAST = 32 }; // a batch whose rows nobody asked for never has fewer

typedef struct job {
    stk_bench_options options;
    stk_engine_options engine; // what the flags say of it
    stk_console console;
    stk_bench_report report;
    stk_cores *cores; // as they were before any team bound this thread
    const char *model_path;
    uint32_t done, total; // points
} job;

static double now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static uint32_t largest(const stk_bench_list *list)
{
    uint32_t value = 0;
    for (uint32_t i = 0; i < list->count; i++)
        value = list->values[i] > value ? list->values[i] : value;
    return value;
}

// The file's text, or the paragraphs built in.
static stk_status read_text(const job *j, stk_str *out)
{
    if (j->options.text_path)
        return stk_text_read(j->options.text_path, &j->console.log, out);
    size_t length = 0;
    char *text = NULL;
    FILE *stream = open_memstream(&text, &length);
    for (uint32_t i = 0; stream && stk_bench_passage[i]; i++)
        fprintf(stream, "%s\n\n", stk_bench_passage[i]);
    if (!stream || fclose(stream) != 0)
        return stk_fail(&j->console.log, STK_NO_MEMORY, "no memory for the text");
    *out = (stk_str){text, length};
    return STK_OK;
}

static stk_session_options session_options(const job *j)
{
    const stk_bench_options *o = &j->options;
    uint32_t tokens = largest(&o->prompts), gen = largest(&o->gens);
    gen = gen > 0 && gen < o->warmup ? o->warmup : gen;
    tokens = tokens > gen + 2 ? tokens : gen + 2; // a trace takes two
    uint32_t drafted = j->report.draft.options.tokens_max;
    if (drafted > 0) // a prompt of its own, and guesses past the end
        tokens += STK_BENCH_DRAFT_PROMPT_MIN + drafted;
    stk_session_options session = {.context_tokens = largest(&o->depths) + tokens,
                                   .batch_rows_max = o->batch_rows,
                                   .logit_rows_max = drafted + 1,
                                   .sequence_count = o->sequences,
                                   .inflight_max = o->sequences > 1 ? STK_INFLIGHT_AUTO : 0,
                                   .trace_forwards = o->trace_path ? 1 : 0};
    if (session.batch_rows_max > session.context_tokens)
        session.batch_rows_max = session.context_tokens;
    // Every sequence may have a row in one batch.
    bool is_open = session.batch_rows_max == 0 && o->sequences <= OPEN_ROWS_LEAST;
    if (!is_open && session.batch_rows_max < o->sequences)
        session.batch_rows_max = o->sequences;
    if (session.logit_rows_max < o->sequences)
        session.logit_rows_max = o->sequences;
    return session;
}

// Of the index-th combination of threads and memory.
static stk_engine_options engine_options(const job *j, uint32_t index)
{
    const stk_bench_options *o = &j->options;
    stk_engine_options engine = j->engine;
    engine.model_path = j->model_path;
    engine.log = &j->console.log;
    engine.thread_count = o->threads.values[index / o->memory_count];
    engine.memory_bytes = o->memory_bytes[index % o->memory_count];
    engine.cpu_mask = o->cpu_mask;
    engine.ignores_usage = true; // every run begins with the same cache
    engine.cancel = stk_interrupt_flag();
    return engine;
}

// As run's options are when nobody sets them.
static stk_status open_sampler(stk_bench_run *run)
{
    stk_sampler_options options = {0};
    stk_options_set_defaults(&stk_sampler_option_table, &options);
    options.seed = 1;
    stk_status status = stk_sampler_open(&options, stk_engine_model(run->model.engine)->vocab_size,
                                         &run->sampler);
    if (status == STK_OK)
        stk_session_set_sampler(run->session, run->sampler);
    return status;
}

static stk_status open_run(job *j, uint32_t index, stk_bench_run *run, int32_t **ids)
{
    const stk_log *log = &j->console.log;
    const stk_session_options session = session_options(j);
    stk_engine_options engine = engine_options(j, index);
    engine.planned_session = &session;
    stk_str text;
    stk_bench_peak_rss_reset();
    double begin = now_s();
    stk_status status = stk_text_model_open(&engine, &run->model);
    run->load_s = now_s() - begin;
    if (status != STK_OK)
        return status;
    status = read_text(j, &text);
    if (status == STK_OK) {
        status = stk_text_model_encode(&run->model, text, STK_ENCODE_BOS, ids, &run->id_count);
        free((char *)text.data);
    }
    if (status == STK_OK && run->id_count == 0)
        status = stk_fail(log, STK_INVALID, "the text has no tokens");
    if (status == STK_OK)
        status = stk_session_open(run->model.engine, &session, &run->session);
    run->log = log;
    run->machine = &j->report.machine;
    run->ids = *ids;
    run->reps = j->options.reps;
    run->warmup = j->options.warmup;
    run->is_greedy = j->options.is_greedy;
    run->sequences = j->options.sequences;
    if (status == STK_OK && j->options.is_sampled)
        status = open_sampler(run);
    run->threads = stk_engine_thread_count(run->model.engine);
    run->load_peak_bytes = stk_bench_peak_rss_bytes();
    run->bandwidth_bytes = stk_bench_bandwidth_bytes(&j->report.machine);
    if (j->options.is_quick)
        run->bandwidth_bytes /= QUICK_BANDWIDTH_PART;
    return status;
}

static stk_status measure_point(job *j, stk_bench_run *run, bool is_prompt, uint32_t tokens,
                                uint32_t depth)
{
    stk_progress(&j->console.log, "measuring", j->done++, j->total);
    stk_bench_result *result = &j->report.results[j->report.count++];
    result->fits_cache = stk_engine_weight_bytes(run->model.engine) <= j->report.machine.llc_bytes;
    return stk_bench_measure(run, is_prompt, tokens, depth, result);
}

static stk_status measure_points(job *j, stk_bench_run *run)
{
    const stk_bench_options *o = &j->options;
    stk_status status = STK_OK;
    for (uint32_t d = 0; d < o->depths.count; d++) {
        for (uint32_t i = 0; i < o->prompts.count && status == STK_OK; i++)
            status = measure_point(j, run, true, o->prompts.values[i], o->depths.values[d]);
        for (uint32_t i = 0; i < o->gens.count && status == STK_OK; i++)
            status = measure_point(j, run, false, o->gens.values[i], o->depths.values[d]);
    }
    return status;
}

// Runs the command where this process could run before its workers were bound.
static stk_status run_peer(job *j, double *tokens_per_s)
{
    const stk_bench_peer *p = &j->report.peer;
    stk_cores_unbind(j->cores);
    stk_status status = stk_bench_command(p->command, p->is_prompt, &j->console.log, tokens_per_s);
    if (p->threads <= stk_cores_count(j->cores))
        stk_cores_bind(j->cores, 0);
    return status;
}

// The first number of tokens to decode, else the first prompt, at the first depth.
static stk_status compare(job *j, stk_bench_run *run)
{
    const stk_bench_options *o = &j->options;
    stk_bench_peer *p = &j->report.peer;
    p->command = o->command;
    p->is_prompt = o->gens.count == 0;
    p->tokens = p->is_prompt ? o->prompts.values[0] : o->gens.values[0];
    p->depth = o->depths.values[0];
    p->threads = run->threads;
    double speed;
    stk_status status = stk_bench_once(run, p->is_prompt, p->tokens, p->depth, &speed); // warm
    for (uint32_t i = 0; i < o->reps && status == STK_OK; i++) {
        stk_progress(&j->console.log, "comparing", i, o->reps);
        status = stk_bench_once(run, p->is_prompt, p->tokens, p->depth, &speed);
        if (status != STK_OK)
            break;
        stk_bench_samples_add(&p->ours, speed);
        status = run_peer(j, &speed);
        if (status == STK_OK)
            stk_bench_samples_add(&p->theirs, speed);
    }
    return status;
}

// The first number of tokens to decode, at the first depth.
static stk_status measure_draft(job *j, stk_bench_run *run)
{
    stk_bench_draft *d = &j->report.draft;
    if (d->options.tokens_max == 0 || j->options.gens.count == 0)
        return STK_OK;
    d->tokens = j->options.gens.values[0];
    return stk_bench_measure_draft(run, j->options.depths.values[0], d);
}

static stk_status measure_engine(job *j, uint32_t index)
{
    const stk_bench_options *o = &j->options;
    stk_bench_run run = {0};
    int32_t *ids = NULL;
    stk_status status = open_run(j, index, &run, &ids);
    if (status == STK_OK) {
        const stk_engine *engine = run.model.engine;
        stk_str name = stk_engine_model(engine)->name;
        snprintf(j->report.model_name, sizeof j->report.model_name, "%.*s",
                 (int)(name.len_bytes < 64 ? name.len_bytes : 64), name.data);
        snprintf(j->report.kernels, sizeof j->report.kernels, "%s", stk_engine_kernels(engine));
        stk_trace *trace = NULL;
        if (index == 0 && o->record_path)
            status = stk_trace_open(o->record_path, stk_engine_model(engine), run.log, &trace);
        if (trace)
            stk_session_set_route_hook(run.session, stk_trace_record, trace);
        if (status == STK_OK)
            status = measure_points(j, &run);
        stk_session_set_route_hook(run.session, NULL, NULL);
        if (!stk_trace_close(&trace) && status == STK_OK)
            status = STK_IO;
    }
    if (status == STK_OK && index == 0 && o->command)
        status = compare(j, &run);
    if (status == STK_OK && index == 0)
        status = measure_draft(j, &run);
    if (status == STK_OK && index == 0 && o->trace_path)
        status = stk_bench_trace(&run, o->depths.values[0], o->trace_path);
    stk_session_close(&run.session);
    stk_sampler_close(&run.sampler);
    stk_text_model_close(&run.model);
    free(ids);
    return status;
}

static stk_status measure(job *j)
{
    const stk_bench_options *o = &j->options;
    j->total = o->threads.count * o->memory_count * o->depths.count *
               (o->prompts.count + o->gens.count);
    j->report.results = calloc(j->total, sizeof *j->report.results);
    if (!j->report.results)
        return stk_fail(&j->console.log, STK_NO_MEMORY, "no memory for %u results", j->total);
    j->report.capacity = j->total;
    stk_status status = STK_OK;
    for (uint32_t i = 0; i < o->threads.count * o->memory_count && status == STK_OK; i++)
        status = measure_engine(j, i);
    if (status == STK_OK)
        stk_progress(&j->console.log, "measuring", j->total, j->total);
    return status;
}

// On ranks other than 0: the same engines, one after the other, for rank 0 to measure.
static int serve(job *j)
{
    const stk_session_options session = session_options(j);
    int exit_code = STK_EXIT_DONE;
    for (uint32_t i = 0; i < j->options.threads.count * j->options.memory_count; i++) {
        const stk_engine_options engine = engine_options(j, i);
        exit_code = stk_ranks_serve(&engine, &session);
        if (exit_code != STK_EXIT_DONE)
            break;
    }
    return exit_code;
}

// The report in memory, so that a file is written whole or not at all.
static char *render(const job *j, size_t *length)
{
    char *text = NULL;
    FILE *stream = open_memstream(&text, length);
    if (!stream)
        return NULL;
    bool ok = true;
    switch ((stk_bench_format)j->options.format) {
    case STK_BENCH_TABLE:
        stk_bench_write_table(&j->report, stream);
        break;
    case STK_BENCH_JSON:
        ok = stk_bench_write_json(&j->report, stream);
        break;
    case STK_BENCH_CSV:
        stk_bench_write_csv(&j->report, stream);
        break;
    case STK_BENCH_HTML:
        stk_bench_write_html(&j->report, stream);
        break;
    }
    ok &= fclose(stream) == 0;
    if (!ok) {
        free(text);
        return NULL;
    }
    return text;
}

static int write_report(const job *j)
{
    const char *path = j->options.output_path;
    size_t length;
    char *text = render(j, &length);
    int exit_code = STK_EXIT_DONE;
    if (!text) {
        stk_error(&j->console.log, "the report cannot be written in this format");
        return STK_EXIT_FAILED;
    }
    if (!path) {
        int error = stk_output_write(text, length);
        exit_code = error ? stk_output_failed(error) : STK_EXIT_DONE;
    } else {
        errno = 0;
        FILE *file = fopen(path, "we");
        bool failed = !file || fwrite(text, 1, length, file) != length;
        failed |= file && fclose(file) != 0;
        if (failed) {
            stk_error(&j->console.log, "%s: %s", path, strerror(errno));
            exit_code = STK_EXIT_FAILED;
        }
    }
    free(text);
    return exit_code;
}

// What cannot be written is said before anything is measured.
static stk_status check_outputs(const job *j)
{
    const stk_bench_options *o = &j->options;
    const char *const paths[] = {o->output_path, o->trace_path, o->record_path};
    stk_status status = STK_OK;
    for (size_t i = 0; i < sizeof paths / sizeof *paths && status == STK_OK; i++)
        if (paths[i])
            status = stk_output_check(paths[i], j->model_path, &j->console.log);
    return status;
}

static int measure_and_report(job *j)
{
    stk_bench_machine_read(&j->report.machine);
    stk_status status = check_outputs(j);
    if (status == STK_OK)
        status = stk_cores_open(NULL, &j->cores);
    if (status == STK_OK)
        status = measure(j);
    return status == STK_OK ? write_report(j) : stk_exit_code(status);
}

int stk_cmd_bench(int argc, char **argv)
{
    stk_console_options console = {0};
    stk_config *config;
    job j = {0};
    char error[160];
    stk_option store[STK_BENCH_STORE_OPTIONS_MAX];
    const stk_option_table store_table = {"Experts", store, stk_bench_store_options(store)};
    const stk_option_binding bindings[] = {
        {&stk_bench_option_table, &j.options},
        {&stk_draft_option_table, &j.report.draft.options},
        {&store_table, &j.engine},
        {&stk_gpu_option_table, &j.engine},
        {&stk_cluster_option_table, &j.engine},
        {&stk_console_option_table, &console},
    };
    const stk_arguments arguments = {
        .positional_doc = "MODEL",
        .doc = "Measures how fast prompts are read and tokens decoded, what each token reads from "
               "memory, and how much of the memory's bandwidth that is.",
        .bindings = bindings,
        .binding_count = sizeof bindings / sizeof *bindings,
        .positional_min = 1,
        .positional_max = 1,
        .positionals = &j.model_path,
        .config = &config,
        .config_tables = stk_config_tables,
    };
    int exit_code;
    if (!stk_arguments_parse(&arguments, argc, argv, &exit_code))
        return exit_code;
    const char *wrong = stk_bench_options_check(&j.options, error, sizeof error);
    if (wrong) {
        stk_config_close(&config);
        return stk_arguments_misused(argv[0], wrong);
    }
    stk_console_open(&console, &j.console);
    const char *slash = strrchr(j.model_path, '/');
    j.report.model_file = slash ? slash + 1 : j.model_path;
    j.engine.model_path = j.model_path;
    j.engine.log = &j.console.log;
    if (stk_ranks_meet(&j.engine, argv[0], &exit_code)) {
        bool serves = j.engine.cluster && stk_cluster_rank(j.engine.cluster) > 0;
        exit_code = serves ? serve(&j) : measure_and_report(&j);
    }
    stk_ranks_part(&j.engine);
    stk_bench_report_free(&j.report);
    stk_cores_close(&j.cores);
    stk_console_close(&j.console);
    stk_config_close(&config);
    return exit_code;
}
