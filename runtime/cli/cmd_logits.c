// cli/cmd_logits.c: stoker logits MODEL: what the model says after every token, for other tools.
//
// The file is float32, little endian, [tokens][vocab]. A file that could not be written whole is
// removed.
#include "cli/commands.h"
#include "cli/console.h"
#include "cli/interrupt.h"
#include "cli/model_command.h"
#include "cli/output.h"
#include "cli/ranks.h"
#include "cli/read_text.h"
#include "cli/text_model.h"
#include "engine/session.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "logits are written as they lie in memory"
#endif

enum { BATCH_ROWS = 64 };

typedef struct logits_options {
    const char *ids, *prompt, *output_path;
    uint32_t batch_rows;
    bool has_special;
} logits_options;

#define FIELD(name) .offset = offsetof(logits_options, name)
static const stk_option logits_table_options[] = {
    {.flag = "ids",
     .type = STK_OPTION_STRING,
     .unit = "1,2,3|@FILE",
     .doc = "token ids, or a file of them",
     FIELD(ids)},
    {.flag = "prompt",
     .letter = 'p',
     .type = STK_OPTION_STRING,
     .unit = "TEXT",
     .doc = "text instead of ids",
     FIELD(prompt)},
    {.flag = "special",
     .type = STK_OPTION_BOOL,
     .doc = "control tokens written in the text count as such",
     FIELD(has_special)},
    {.flag = "output",
     .letter = 'o',
     .type = STK_OPTION_STRING,
     .unit = "FILE",
     .doc = "where to write; - is standard output",
     FIELD(output_path)},
    {.flag = "batch",
     .type = STK_OPTION_U32,
     .min = 1,
     .max = 65536,
     .unit = "ROWS",
     .fallback = "64",
     .doc = "tokens per forward pass",
     FIELD(batch_rows)},
};
static const stk_option_table logits_table = {
    "Logits", logits_table_options, sizeof logits_table_options / sizeof *logits_table_options};

typedef struct job {
    logits_options options;
    stk_console console;
    stk_text_model model;
    stk_session *session;
    int32_t *ids;
    uint32_t count;
    FILE *file;
} job;

static stk_status read_ids(job *j)
{
    const char *text = j->options.ids;
    const stk_log *log = &j->console.log;
    uint32_t vocab = stk_engine_model(j->model.engine)->vocab_size;
    stk_status status;
    if (!text) {
        unsigned flags = STK_ENCODE_BOS | (j->options.has_special ? STK_ENCODE_SPECIAL : 0u);
        status = stk_text_model_encode(&j->model, stk_str_of(j->options.prompt), flags, &j->ids,
                                       &j->count);
    } else if (text[0] == '@') {
        stk_str list;
        status = stk_text_read(text + 1, log, &list);
        if (status == STK_OK) {
            status = stk_ids_parse(list, vocab, log, &j->ids, &j->count);
            free((char *)list.data);
        }
    } else {
        status = stk_ids_parse(stk_str_of(text), vocab, log, &j->ids, &j->count);
    }
    if (status == STK_OK && j->count == 0)
        return stk_fail(log, STK_INVALID, "there are no tokens");
    return status;
}

// The ids are checked against the vocabulary, so the plan comes before their number is known.
static stk_session_options planned_session(const job *j)
{
    uint32_t rows = j->options.batch_rows;
    return (stk_session_options){
        .batch_rows_max = rows, .logit_rows_max = rows, .inflight_max = STK_INFLIGHT_AUTO};
}

static stk_status open_job(job *j, const stk_engine_options *engine)
{
    const stk_session_options plan = planned_session(j);
    stk_engine_options planned = *engine;
    planned.planned_session = &plan;
    stk_status status = stk_text_model_open(&planned, &j->model);
    if (status == STK_OK)
        status = read_ids(j);
    if (status != STK_OK)
        return status;
    uint32_t rows = j->options.batch_rows < j->count ? j->options.batch_rows : j->count;
    const stk_session_options session = {.context_tokens = j->count,
                                         .batch_rows_max = rows,
                                         .logit_rows_max = rows,
                                         .inflight_max = STK_INFLIGHT_AUTO};
    return stk_session_open(j->model.engine, &session, &j->session);
}

static stk_status submit_rows(job *j, stk_row *rows, uint32_t start, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        rows[i] = (stk_row){.position = start + i, .token = j->ids[start + i], .logits = true};
    return atomic_load(stk_interrupt_flag()) ? STK_CANCELLED
                                             : stk_session_submit(j->session, rows, count);
}

// Of the oldest batch under way. errno says why STK_IO was returned by the write; a failed forward
// pass has been logged and leaves errno 0.
static stk_status write_rows(job *j, uint32_t count)
{
    uint32_t vocab = stk_engine_model(j->model.engine)->vocab_size;
    stk_status status = stk_session_collect(j->session);
    errno = 0;
    for (uint32_t i = 0; i < count && status == STK_OK; i++)
        if (fwrite(stk_session_logits(j->session, i), sizeof(float), vocab, j->file) != vocab)
            status = STK_IO;
    return status;
}

static uint32_t batch_at(const job *j, uint32_t start)
{
    uint32_t batch = stk_session_batch_rows_max(j->session), left = j->count - start;
    return left < batch ? left : batch;
}

static stk_status write_all(job *j)
{
    uint32_t most = stk_session_inflight_max(j->session), flights = 0;
    stk_row *rows = malloc(stk_session_batch_rows_max(j->session) * sizeof *rows);
    if (!rows)
        return stk_fail(&j->console.log, STK_NO_MEMORY, "no memory for the rows of a batch");
    stk_status status = STK_OK;
    for (uint32_t done = 0, next = 0; done < j->count && status == STK_OK;) {
        if (flights < most && next < j->count) {
            errno = 0;
            status = submit_rows(j, rows, next, batch_at(j, next));
            next += batch_at(j, next);
            flights++;
            continue;
        }
        status = write_rows(j, batch_at(j, done));
        done += batch_at(j, done);
        flights--;
        if (status == STK_OK)
            stk_progress(&j->console.log, "computing logits", done, j->count);
    }
    int error = errno;
    free(rows);
    errno = error;
    return status;
}

static int write_to_file(job *j)
{
    const char *path = j->options.output_path;
    const stk_log *log = &j->console.log;
    j->file = fopen(path, "wb");
    if (!j->file) {
        stk_error(log, "%s: %s", path, strerror(errno));
        return STK_EXIT_FAILED;
    }
    struct stat info;
    bool is_regular = fstat(fileno(j->file), &info) == 0 && S_ISREG(info.st_mode);
    stk_status status = write_all(j);
    int error = status == STK_IO ? errno : 0;
    if (fclose(j->file) != 0 && status == STK_OK) {
        error = errno;
        status = STK_IO;
    }
    if (error)
        stk_error(log, "%s: %s", path, strerror(error));
    if (status != STK_OK && is_regular) // a device is not ours to remove
        unlink(path);
    return stk_exit_code(status);
}

static int write_to_output(job *j)
{
    j->file = stdout;
    stk_status status = write_all(j);
    int error = status == STK_IO ? errno : 0;
    if (status == STK_OK)
        error = stk_output_write("", 0); // flush
    return error ? stk_output_failed(error) : stk_exit_code(status);
}

static const char *misused(const void *options)
{
    const logits_options *o = options;
    if (!o->ids == !o->prompt)
        return "give either --ids or --prompt";
    if (!o->output_path)
        return "say where to write with -o FILE";
    if (strcmp(o->output_path, "-") == 0 && isatty(STDOUT_FILENO))
        return "logits are binary: not to a terminal";
    return NULL;
}

static int write_logits(job *j, stk_engine_options *engine)
{
    bool to_file = strcmp(j->options.output_path, "-") != 0;
    stk_status status = STK_OK;
    if (to_file)
        status = stk_output_check(j->options.output_path, engine->model_path, &j->console.log);
    if (status == STK_OK)
        status = open_job(j, engine);
    int exit_code = stk_exit_code(status);
    if (status == STK_OK)
        exit_code = to_file ? write_to_file(j) : write_to_output(j);
    stk_session_close(&j->session);
    free(j->ids);
    stk_text_model_close(&j->model);
    stk_ranks_part(engine);
    return exit_code;
}

int stk_cmd_logits(int argc, char **argv)
{
    stk_engine_options engine = {0};
    job j = {0};
    const stk_option_binding bindings[] = {{&logits_table, &j.options}};
    stk_model_command command = {
        .doc = "Writes the logits after every given token: float32, little endian, "
               "[tokens][vocab].",
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
    const stk_session_options plan = planned_session(&j);
    if (stk_ranks_join(&engine, &plan, argv[0], &exit_code))
        exit_code = write_logits(&j, &engine);
    stk_model_command_close(&command);
    return exit_code;
}
