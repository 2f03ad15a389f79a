// cli/cmd_run_chat.c: stoker run --chat: questions from a line editor or a pipe, answers streamed.
//
// Only what is new is fed to the model: each turn continues the sequence. Tokens the sequence does
// not hold yet (the last one drawn, what an interrupt left unread) wait in `pending` and go first.
#include "cli/commands.h"
#include "cli/interrupt.h"
#include "cli/line_edit.h"
#include "cli/output.h"
#include "cli/run.h"
#include "model/chat.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct chat_loop {
    stk_run *run;
    const stk_log *log;
    stk_chat *chat;
    stk_line_edit *edit;
    int32_t *pending;
    uint32_t pending_count;
    uint32_t pending_known; // of them drawn: 1 at most, the first
    char *system;           // owned, NULL: none
    bool is_fresh;          // nothing was said yet
} chat_loop;

static const char help_text[] = "/help         this list\n"
                                "/reset        forget the conversation\n"
                                "/system TEXT  forget it and start again with these instructions\n"
                                "/exit         end, like Ctrl-D\n"
                                "//TEXT        say TEXT with one / in front\n"
                                "Ctrl-C stops an answer.\n";

static stk_status reset(chat_loop *loop)
{
    stk_chat_reset(loop->chat);
    stk_sampler_reset(loop->run->sampler);
    if (loop->run->draft)
        stk_draft_reset(loop->run->draft);
    loop->pending_count = loop->pending_known = 0;
    loop->is_fresh = true;
    return stk_session_truncate(loop->run->session, 0, 0);
}

static stk_status set_system(chat_loop *loop, stk_str text)
{
    char *copy = strndup(text.data, text.len_bytes);
    if (!copy)
        return stk_fail(loop->log, STK_NO_MEMORY, "no memory for the instructions");
    free(loop->system);
    loop->system = copy;
    return STK_OK;
}

// Appends ids[0..count) to pending.
static stk_status append(chat_loop *loop, const int32_t *ids, size_t count)
{
    if (count > INT32_MAX - loop->pending_count)
        return stk_fail(loop->log, STK_INVALID, "the turn has too many tokens");
    size_t bytes = (loop->pending_count + count + 1) * sizeof *ids;
    int32_t *larger = realloc(loop->pending, bytes);
    if (!larger)
        return stk_fail(loop->log, STK_NO_MEMORY, "no memory for the tokens of the turn");
    loop->pending = larger;
    if (count)
        memcpy(larger + loop->pending_count, ids, count * sizeof *ids);
    loop->pending_count += (uint32_t)count;
    return STK_OK;
}

// Puts the user's turn, in the model's format, behind what is pending.
static stk_status compose(chat_loop *loop, stk_str line)
{
    unsigned flags = loop->is_fresh ? STK_ENCODE_BOS : 0u;
    stk_status status = STK_OK;
    if (loop->is_fresh && loop->system)
        status = stk_chat_add(loop->chat, STK_CHAT_SYSTEM, stk_str_of(loop->system));
    if (status == STK_OK)
        status = stk_chat_add(loop->chat, STK_CHAT_USER, line);
    if (status == STK_OK)
        status = stk_chat_prompt(loop->chat);
    if (status != STK_OK)
        return stk_fail(loop->log, status, "the turn cannot be written: %s",
                        stk_status_name(status));
    size_t segment_count, id_count;
    const stk_text_segment *segments = stk_chat_segments(loop->chat, &segment_count);
    const int32_t *ids;
    status = stk_encoder_encode_segments(loop->run->model.encoder, segments, segment_count, flags,
                                         &ids, &id_count);
    if (status == STK_OK)
        status = append(loop, ids, id_count);
    stk_chat_clear(loop->chat);
    loop->is_fresh = false;
    return status;
}

// Leaves in pending what the sequence does not hold, and ends the reply in the chat.
static stk_status settle(chat_loop *loop, const stk_generate_stats *stats)
{
    stk_run *run = loop->run;
    loop->pending_count -= stats->prompt_tokens;
    if (stats->prompt_tokens > 0)
        loop->pending_known = 0;
    memmove(loop->pending, loop->pending + stats->prompt_tokens,
            loop->pending_count * sizeof *loop->pending);
    stk_status status = STK_OK;
    if (run->id_count > 0) {
        status = append(loop, &run->ids[run->id_count - 1], 1);
        loop->pending_known = 1; // the prompt was read, so it is the only one
    }
    // Of the stop strings the first is the format's end of a reply; others begin the next turn.
    bool has_end = stats->finish == STK_FINISH_END || (run->stop.is_over && run->stop.found == 0);
    if (status == STK_OK)
        status = stk_chat_end_reply(loop->chat, has_end);
    return status;
}

static stk_status answer(chat_loop *loop, stk_str line)
{
    stk_run *run = loop->run;
    stk_generate_stats stats;
    stk_status status = compose(loop, line);
    if (status != STK_OK)
        return status;
    status = stk_run_generate(run, loop->pending, loop->pending_count, loop->pending_known, &stats);
    if (stk_line_edit_is_terminal(loop->edit)) // where Ctrl-C means this answer, not all of them
        stk_interrupt_clear();
    if (run->output_error == 0)
        run->output_error = stk_output_write("\n", 1);
    if (status == STK_OK)
        stk_run_report(run, &stats);
    else if (status == STK_INVALID)
        stk_warn(loop->log, "/reset forgets the conversation and frees the context");
    stk_status settled = settle(loop, &stats);
    return status == STK_OK ? settled : status;
}

// True: the line was a command. *is_over: it was /exit.
static bool command(chat_loop *loop, stk_str line, stk_status *status, bool *is_over)
{
    if (line.len_bytes == 0 || line.data[0] != '/' || (line.len_bytes > 1 && line.data[1] == '/'))
        return false;
    const char system[] = "/system ";
    size_t system_bytes = sizeof system - 1;
    if (stk_str_is(line, "/exit") || stk_str_is(line, "/quit")) {
        *is_over = true;
    } else if (stk_str_is(line, "/reset")) {
        *status = reset(loop);
    } else if (line.len_bytes > system_bytes && memcmp(line.data, system, system_bytes) == 0) {
        stk_str text = {line.data + system_bytes, line.len_bytes - system_bytes};
        *status = set_system(loop, text);
        if (*status == STK_OK)
            *status = reset(loop);
    } else {
        if (!stk_str_is(line, "/help"))
            stk_warn(loop->log, "there is no '%.*s'",
                     (int)(line.len_bytes > 64 ? 64 : line.len_bytes), line.data);
        fputs(help_text, stderr);
    }
    return true;
}

// Ctrl-C ends a pipe's conversation; a person's only loses the answer.
static bool is_interrupted(bool is_terminal)
{
    return !is_terminal && atomic_load(stk_interrupt_flag());
}

static int converse(chat_loop *loop)
{
    bool is_terminal = stk_line_edit_is_terminal(loop->edit), is_over = false;
    if (is_terminal) // the line editor reads on after a signal
        stk_interrupt_only_from_keyboard();
    while (!is_over) {
        stk_str line;
        stk_status status = STK_OK;
        // Before, not after: from the line's end on, Ctrl-C means the answer to it.
        if (is_terminal)
            stk_interrupt_clear();
        stk_line_result result = stk_line_edit_read(loop->edit, &line);
        if (result == STK_LINE_FAILED) {
            stk_error(loop->log, "standard input: %s", strerror(errno));
            return STK_EXIT_FAILED;
        }
        if (result == STK_LINE_END || is_interrupted(is_terminal))
            break;
        if (line.len_bytes == 0)
            continue;
        if (!command(loop, line, &status, &is_over)) {
            if (line.data[0] == '/') // of two: see help_text
                line = (stk_str){line.data + 1, line.len_bytes - 1};
            status = answer(loop, line);
        }
        if (loop->run->output_error)
            return stk_output_failed(loop->run->output_error);
        // A person can go on after a turn that does not fit; a pipe must not lose answers silently.
        if (status != STK_OK && !(status == STK_INVALID && is_terminal))
            return STK_EXIT_FAILED;
    }
    if (is_interrupted(is_terminal))
        return STK_EXIT_INTERRUPTED;
    if (is_terminal && !is_over)
        fputc('\n', stderr); // after Ctrl-D the cursor still stands behind the prompt
    return STK_EXIT_DONE;
}

static bool has_end_token(const stk_tokenizer *tokenizer)
{
    for (size_t id = 0; id < stk_tokenizer_count(tokenizer); id++)
        if (stk_tokenizer_is_end(tokenizer, (int32_t)id))
            return true;
    return false;
}

int stk_run_chat(stk_run *run)
{
    chat_loop loop = {.run = run, .log = &run->console.log, .is_fresh = true};
    stk_chat_format format = stk_chat_detect(run->model.source.chat_template);
    stk_info(loop.log, "chat format %s", stk_chat_format_name(format));
    if (format == STK_CHAT_UNKNOWN)
        stk_warn(loop.log, "the model's chat template is not known, ChatML is used");
    if (!has_end_token(run->model.tokenizer)) {
        run->stops = stk_chat_stops(format, &run->stop_count);
        stk_info(loop.log, "the vocabulary has no token that ends a reply, '%s' does",
                 run->stop_count ? run->stops[0] : "nothing");
    }
    stk_status status = stk_chat_open(format, &loop.chat);
    if (status == STK_OK)
        status = stk_line_edit_open("> ", &loop.edit);
    if (status == STK_OK && run->options.system)
        status = set_system(&loop, stk_str_of(run->options.system));
    int exit_code = STK_EXIT_FAILED;
    if (status == STK_OK)
        exit_code = converse(&loop);
    else
        stk_error(loop.log, "chat: %s", stk_status_name(status));
    stk_line_edit_close(&loop.edit);
    stk_chat_close(&loop.chat);
    free(loop.pending);
    free(loop.system);
    return exit_code;
}
