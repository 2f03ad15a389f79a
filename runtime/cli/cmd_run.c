// cli/cmd_run.c: stoker run MODEL: the continuation of a prompt, or a chat.
#include "cli/commands.h"
#include "cli/disk_use.h"
#include "cli/interrupt.h"
#include "cli/model_command.h"
#include "cli/output.h"
#include "cli/plan_show.h"
#include "cli/ranks.h"
#include "cli/read_text.h"
#include "cli/run.h"
#include "cli/run_json.h"
#include "cli/trace.h"
#include "cluster/launcher.h"
#include "engine/metrics.h"
#include "engine/option_tables.h"
#include "store/expert_store.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#define FIELD(name) .offset = offsetof(stk_run_options, name)

static const stk_option run_options[] = {
    {.flag = "prompt",
     .letter = 'p',
     .type = STK_OPTION_STRING,
     .unit = "TEXT",
     .doc = "text to continue; - reads standard input",
     FIELD(prompt)},
    {.flag = "file",
     .letter = 'f',
     .type = STK_OPTION_STRING,
     .unit = "FILE",
     .doc = "file with the text to continue",
     FIELD(prompt_path)},
    {.flag = "chat", .type = STK_OPTION_BOOL, .doc = "questions and answers", FIELD(is_chat)},
    {.flag = "system",
     .type = STK_OPTION_STRING,
     .unit = "TEXT",
     .doc = "instructions a chat starts with",
     FIELD(system)},
    {.flag = "tokens",
     .letter = 'n',
     .type = STK_OPTION_U32,
     .has_auto = true,
     .min = 1,
     .unit = "N",
     .fallback = "auto",
     .doc = "stop after N tokens; auto goes on until the text ends or the context is full",
     FIELD(tokens_max)},
    {.flag = "special",
     .type = STK_OPTION_BOOL,
     .doc = "control tokens written in the prompt count as such",
     FIELD(has_special)},
    {.flag = "no-echo",
     .type = STK_OPTION_BOOL,
     .doc = "do not print the prompt",
     FIELD(hides_prompt)},
    {.flag = "record-trace",
     .type = STK_OPTION_STRING,
     .unit = "FILE",
     .doc = "write which experts every token used, for stoker replay",
     FIELD(trace_path)},
    {.flag = "json",
     .type = STK_OPTION_BOOL,
     .doc = "print one JSON object: text, token ids, speeds",
     FIELD(is_json)},
};
static const stk_option_table run_table = {"Text", run_options,
                                           sizeof run_options / sizeof *run_options};

static double per_second(uint64_t count, uint64_t ns)
{
    return ns ? (double)count * 1e9 / (double)ns : 0;
}

// What reading experts from disk cost, when not all are in memory.
static void report_store(const stk_run *run, const stk_generate_stats *generated)
{
    struct stk_expert_store *store = stk_engine_store(run->model.engine);
    if (stk_expert_store_is_resident(store))
        return;
    stk_expert_store_stats s = stk_expert_store_get_stats(store);
    double tokens = generated->prompt_tokens + generated->generated_tokens;
    double seconds = (double)(generated->prompt_ns + generated->decode_ns) * 1e-9;
    stk_info(&run->console.log,
             "experts: %u of %u slots used; %.1f %% of %llu wanted were in memory; %.1f MiB read "
             "(%.2f MiB per token, %.0f MiB/s, %s); guessed %llu, right %llu; waited %.2f ms per "
             "token and worker",
             s.slots_used, s.slot_count, 100.0 * (double)s.hits / (double)(s.wanted ? s.wanted : 1),
             (unsigned long long)s.wanted, (double)s.read_bytes / 0x1p20,
             (double)s.read_bytes / 0x1p20 / tokens, (double)s.read_bytes / 0x1p20 / seconds,
             stk_expert_store_io_name(store), (unsigned long long)s.speculative,
             (unsigned long long)s.speculative_used,
             (double)s.wait_ns * 1e-6 / tokens / stk_engine_thread_count(run->model.engine));
}

// What is compared next begins here.
static void begin_compare(stk_run *run)
{
    stk_session_metrics_reset(run->session);
    run->reads = stk_expert_store_get_stats(stk_engine_store(run->model.engine));
}

// What the reads of the new tokens say about the disk.
static void learn(stk_run *run)
{
    struct stk_expert_store *store = stk_engine_store(run->model.engine);
    stk_expert_store_stats now = stk_expert_store_get_stats(store);
    stk_expert_store_stats reads = stk_expert_store_stats_between(&run->reads, &now);
    uint32_t threads = stk_engine_thread_count(run->model.engine);
    stk_measured use = stk_disk_use_of(&reads, threads);
    if (run->learns && !stk_expert_store_is_resident(store) && use.bytes_per_s > 0)
        run->disk_use = use;
}

// The passes since the metrics were reset, against what was planned for such passes: a prompt's
// together, or a token's on average.
static void compare(const stk_run *run, const char *what, bool is_prompt, const stk_log *log)
{
    stk_expert_store *store = stk_engine_store(run->model.engine);
    const stk_plan *plan = stk_engine_planned(run->model.engine);
    const stk_plan_model *model = stk_engine_plan_model(run->model.engine);
    const stk_metrics *m = stk_session_metrics(run->session);
    if (!run->compares || !plan || m->forwards == 0)
        return;
    uint32_t length = stk_session_length(run->session, 0), position = length;
    uint32_t rows = (uint32_t)(m->tokens / m->forwards);
    position -= (uint32_t)(m->tokens < length ? m->tokens : length);
    stk_plan_cost cost;
    if (is_prompt)
        stk_cost_prompt(&run->facts->machine, model, &plan->choices, (uint32_t)m->tokens, position,
                        &cost);
    else if (rows == 1)
        stk_cost_decode(&run->facts->machine, model, &plan->choices, (position + length) / 2,
                        &cost);
    else // several guessed tokens at once
        stk_cost_prefill(&run->facts->machine, model, &plan->choices, rows,
                         (position + length - rows) / 2, &cost);
    stk_expert_store_stats now = stk_expert_store_get_stats(store);
    stk_expert_store_stats reads = stk_expert_store_stats_between(&run->reads, &now);
    stk_plan_compare(what, &cost, is_prompt ? 1 : m->forwards, m,
                     stk_expert_store_is_resident(store) ? NULL : &reads, log);
}

// Whether experts were read where they are, on several memory nodes.
static void report_nodes(const stk_run *run)
{
    const stk_metrics *m = stk_session_metrics(run->session);
    for (uint32_t i = 0; i < m->node_count && m->node_count > 1; i++)
        stk_info(&run->console.log,
                 "node %u: %.1f MiB of its experts read by its own threads, %.1f MiB by others", i,
                 (double)m->nodes[i].own_bytes / 0x1p20, (double)m->nodes[i].other_bytes / 0x1p20);
}

void stk_run_report(const stk_run *run, const stk_generate_stats *s)
{
    uint32_t decoded = s->generated_tokens ? s->generated_tokens - 1 : 0;
    stk_info(&run->console.log,
             "prompt %u tokens in %.2f s, %.1f tokens/s; decode %u tokens in %.2f s, %.1f "
             "tokens/s; ended by %s, seed %llu",
             s->prompt_tokens, (double)s->prompt_ns * 1e-9,
             per_second(s->prompt_tokens, s->prompt_ns), decoded, (double)s->decode_ns * 1e-9,
             per_second(decoded, s->decode_ns), stk_finish_name(s->finish),
             (unsigned long long)run->sampling.seed);
    if (run->draft)
        stk_info(&run->console.log,
                 "draft: %u of %u guessed tokens were right, %u forward passes for %u tokens",
                 s->accepted_tokens, s->drafted_tokens, s->decode_passes, decoded);
    report_store(run, s);
    report_nodes(run);
    for (const char *line = run->prompt_report, *end; (end = strchr(line, '\n')); line = end + 1)
        stk_info(&run->console.log, "%.*s", (int)(end - line), line);
    compare(run, "decode", false, &run->console.log);
}

static void print(stk_run *run, stk_str text)
{
    if (!run->options.is_json && text.len_bytes && run->output_error == 0)
        run->output_error = stk_output_write(text.data, text.len_bytes);
}

// Keeps a line for the end: the text is being printed.
static void keep_line(void *user, stk_log_level level, const char *line)
{
    stk_run *run = user;
    (void)level;
    size_t used = strlen(run->prompt_report);
    snprintf(run->prompt_report + used, sizeof run->prompt_report - used, "%s\n", line);
}

static bool on_token(void *user, int32_t id)
{
    stk_run *run = user;
    if (run->id_count == 0) { // the prompt is read
        const stk_log later = {.write = keep_line, .user = run, .level_max = STK_LOG_INFO};
        compare(run, "prompt", true, &later);
        begin_compare(run);
    }
    run->ids[run->id_count++] = id;
    if (run->options.is_json) // which decodes all of them at the end
        return true;
    stk_text_shown shown;
    bool goes_on = stk_text_stop_feed(&run->stop, stk_text_model_feed(&run->model, id), &shown);
    print(run, (stk_str){shown.before, shown.before_bytes});
    print(run, shown.text);
    return goes_on && run->output_error == 0;
}

static bool is_end(void *user, int32_t id)
{
    const stk_run *run = user;
    return stk_tokenizer_is_end(run->model.tokenizer, id);
}

stk_status stk_run_generate(stk_run *run, const int32_t *prompt, uint32_t count, uint32_t known,
                            stk_generate_stats *stats)
{
    run->id_count = 0;
    run->prompt_report[0] = '\0';
    begin_compare(run);
    stk_text_stop_begin(&run->stop, run->stops, run->stop_count);
    const stk_generate_options options = {
        .session = run->session,
        .sampler = run->sampler,
        .draft = run->draft,
        .log = &run->console.log,
        .prompt = prompt,
        .prompt_count = count,
        .prompt_known = known,
        .tokens_max = run->options.tokens_max,
        .is_end = is_end,
        .on_token = on_token,
        .user = run,
        .cancel = stk_interrupt_flag(),
    };
    stk_status status = stk_generate(&options, stats);
    learn(run);
    stk_str rest = stk_detokenizer_flush(run->model.detokenizer); // half a character
    print(run, stk_text_stop_end(&run->stop));
    if (!run->stop.is_over)
        print(run, rest);
    return status;
}

static stk_status open_draft(stk_run *run)
{
    if (run->drafting.tokens_max == 0)
        return STK_OK;
    run->drafting.history_max = stk_session_context_tokens(run->session);
    if (run->drafting.history_max > STK_DRAFT_HISTORY_MAX)
        run->drafting.history_max = STK_DRAFT_HISTORY_MAX;
    return stk_draft_open(&run->drafting, &run->draft);
}

// What is known of this machine, without measuring; NULL: nothing, so fixed defaults will do.
static stk_plan_facts *find_facts(const stk_engine_options *engine)
{
    const stk_plan_facts_options options = {.path = engine->model_path, .device = engine->device};
    stk_plan_facts *facts = calloc(1, sizeof *facts);
    if (facts && stk_plan_facts_find(&options, NULL, facts) != STK_OK) {
        free(facts);
        facts = NULL;
    }
    return facts;
}

static stk_status open_run(stk_run *run, const stk_engine_options *engine,
                           const stk_session_options *session)
{
    const stk_log *log = &run->console.log;
    stk_engine_options planned = *engine;
    planned.planned_session = session;
    run->facts = engine->cluster ? NULL : find_facts(engine);
    run->learns = run->facts && !engine->ignores_usage;
    planned.machine = run->facts ? &run->facts->machine : NULL;
    stk_status status = stk_text_model_open(&planned, &run->model);
    if (status != STK_OK)
        return status;
    status = stk_session_open(run->model.engine, session, &run->session);
    if (status != STK_OK)
        return status;
    stk_session_set_timing(run->session, run->compares);
    if (run->options.trace_path) {
        status = stk_trace_open(run->options.trace_path, stk_engine_model(run->model.engine), log,
                                &run->trace);
        if (status != STK_OK)
            return status;
        stk_session_set_route_hook(run->session, stk_trace_record, run->trace);
    }
    stk_info(log, "context of %u tokens, prompts in batches of up to %u",
             stk_session_context_tokens(run->session), stk_session_batch_rows_max(run->session));
    status = stk_sampler_open(&run->sampling, stk_engine_model(run->model.engine)->vocab_size,
                              &run->sampler);
    if (status != STK_OK)
        return stk_fail(log, status, "sampler: %s", stk_status_name(status));
    status = open_draft(run);
    if (status != STK_OK)
        return stk_fail(log, status, "draft: %s", stk_status_name(status));
    // One token may be drawn when the context is already full.
    run->ids = malloc(((size_t)stk_session_context_tokens(run->session) + 1) * sizeof *run->ids);
    return run->ids ? STK_OK : stk_fail(log, STK_NO_MEMORY, "no memory for the generated tokens");
}

// False: what was recorded is not all there, which was logged.
static bool close_run(stk_run *run)
{
    free(run->ids);
    free(run->facts);
    stk_draft_close(&run->draft);
    stk_sampler_close(&run->sampler);
    stk_session_close(&run->session);
    bool is_whole = stk_trace_close(&run->trace);
    stk_text_model_close(&run->model);
    return is_whole;
}

// Standard output is served before anything else, so that what was generated before an error is
// not lost.
static int finish_text(stk_run *run, stk_status status, const stk_generate_stats *stats)
{
    print(run, stk_str_of("\n"));
    if (run->output_error)
        return stk_output_failed(run->output_error);
    stk_run_report(run, stats);
    if (status != STK_OK)
        return STK_EXIT_FAILED;
    return stats->finish == STK_FINISH_CANCELLED ? STK_EXIT_INTERRUPTED : STK_EXIT_DONE;
}

static const char *prompt_name(const stk_run_options *o)
{
    bool is_input = !o->prompt_path || strcmp(o->prompt_path, "-") == 0;
    if (o->prompt && strcmp(o->prompt, "-") != 0)
        return "the prompt";
    return is_input ? "standard input" : o->prompt_path;
}

static int continue_text(stk_run *run, stk_str text)
{
    unsigned flags = STK_ENCODE_BOS | (run->options.has_special ? STK_ENCODE_SPECIAL : 0u);
    int32_t *prompt;
    uint32_t count;
    stk_status status = stk_text_model_encode(&run->model, text, flags, &prompt, &count);
    if (status != STK_OK)
        return stk_exit_code(status);
    if (count == 0) { // and the vocabulary has no token to begin with
        free(prompt);
        stk_error(&run->console.log, "%s is empty; give the model some text to continue",
                  prompt_name(&run->options));
        return STK_EXIT_FAILED;
    }
    bool fits = count <= stk_session_context_tokens(run->session); // else there is only an error
    if (fits && !run->options.hides_prompt)
        print(run, text);
    if (run->output_error) {
        free(prompt);
        return stk_output_failed(run->output_error);
    }
    stk_generate_stats stats;
    status = stk_run_generate(run, prompt, count, 0, &stats);
    if (run->options.is_json && status == STK_OK)
        run->output_error = stk_run_print_json(run, prompt, count, &stats);
    free(prompt);
    return fits ? finish_text(run, status, &stats) : STK_EXIT_FAILED;
}

// The prompt comes from exactly one place; standard input serves when it is not a terminal.
static const char *misused(const void *options)
{
    const stk_run_options *o = options;
    int sources = (o->prompt != NULL) + (o->prompt_path != NULL) + o->is_chat;
    if (sources > 1)
        return "give only one of --prompt, --file and --chat";
    if (o->system && !o->is_chat)
        return "--system belongs to --chat";
    if (o->is_json && o->is_chat)
        return "--json and --chat exclude each other";
    stk_launch launch;
    if (o->trace_path && stk_launch_detect(&launch))
        return "--record-trace sees one process's layers only: start it without mpirun";
    if (sources == 0 && isatty(STDIN_FILENO))
        return "give a prompt with -p TEXT or -f FILE, or --chat";
    return NULL;
}

static stk_status read_prompt(const stk_run *run, stk_str *text, char **owned)
{
    const stk_run_options *o = &run->options;
    if (o->prompt && !(o->prompt[0] == '-' && !o->prompt[1])) {
        *text = stk_str_of(o->prompt);
        return STK_OK;
    }
    stk_status status = stk_text_read(o->prompt_path ? o->prompt_path : "-", &run->console.log,
                                      text);
    if (status == STK_OK)
        *owned = (char *)text->data;
    return status;
}

static uint64_t fresh_seed(void)
{
    uint32_t seed; // short enough to type again
    struct timespec now;
    if (getrandom(&seed, sizeof seed, 0) == (ssize_t)sizeof seed)
        return seed;
    clock_gettime(CLOCK_REALTIME, &now);
    return (uint32_t)now.tv_nsec;
}

static int run_with_model(stk_run *run, stk_engine_options *engine,
                          const stk_session_options *session)
{
    stk_str text = {"", 0};
    char *owned = NULL;
    // The prompt first: a missing file should not cost the loading of a model.
    bool reads = !run->options.is_chat && !stk_launch_is_mute();
    stk_status status = reads ? read_prompt(run, &text, &owned) : STK_OK;
    if (status == STK_OK && run->options.trace_path)
        status = stk_output_check(run->options.trace_path, engine->model_path, &run->console.log);
    int exit_code = stk_exit_code(status);
    if (status == STK_OK && stk_ranks_join(engine, session, run->name, &exit_code)) {
        status = open_run(run, engine, session);
        exit_code = stk_exit_code(status);
        if (status == STK_OK)
            exit_code = run->options.is_chat ? stk_run_chat(run) : continue_text(run, text);
        if (run->disk_use.bytes_per_s > 0)
            stk_disk_use_remember(engine->model_path, &run->disk_use, &run->console.log);
        if (!close_run(run) && exit_code == STK_EXIT_DONE)
            exit_code = STK_EXIT_FAILED;
        stk_ranks_part(engine);
    }
    free(owned);
    return exit_code;
}

int stk_cmd_run(int argc, char **argv)
{
    stk_engine_options engine = {0};
    stk_session_options session = {0};
    stk_run run = {.name = argv[0]};
    const stk_option_binding bindings[] = {
        {&run_table, &run.options},
        {&stk_sampler_option_table, &run.sampling},
        {&stk_draft_option_table, &run.drafting},
    };
    stk_model_command command = {
        .doc = "Writes the continuation of a prompt, or answers questions.\vWithout -p, -f and "
               "--chat the prompt is read from standard input.",
        .bindings = bindings,
        .binding_count = sizeof bindings / sizeof *bindings,
        .has_ranks = true,
        .session = &session,
        .misused = misused,
        .options = &run.options,
        .engine = &engine,
        .console = &run.console,
    };
    int exit_code;
    if (!stk_model_command_open(&command, argc, argv, &exit_code))
        return exit_code;
    if (run.sampling.seed == STK_SEED_FRESH)
        run.sampling.seed = fresh_seed();
    run.compares = command.is_verbose;
    session.logit_rows_max = run.drafting.tokens_max + 1; // the last token and its guesses
    exit_code = run_with_model(&run, &engine, &session);
    stk_model_command_close(&command);
    return exit_code;
}
