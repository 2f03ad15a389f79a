#include "engine/generate.h"

#include <time.h>

enum { CHUNK_ROWS_MAX = 1024 }; // bounds the stack; batches beyond it are split

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

const char *stk_finish_name(stk_finish finish)
{
    switch (finish) {
    case STK_FINISH_END:
        return "end";
    case STK_FINISH_LENGTH:
        return "length";
    case STK_FINISH_CONTEXT:
        return "context";
    case STK_FINISH_CANCELLED:
        return "cancelled";
    case STK_FINISH_CALLER:
        return "caller";
    }
    return "unknown";
}

static bool is_cancelled(const stk_generate_options *o)
{
    // Relaxed: the flag carries no data with it.
    return o->cancel && atomic_load_explicit(o->cancel, memory_order_relaxed);
}

static stk_want_logits wanted_logits(const stk_generate_options *o)
{
    return stk_sampler_is_greedy(o->sampler) ? STK_LOGITS_BEST : STK_LOGITS_DRAWN;
}

static void accept(const stk_generate_options *o, int32_t token)
{
    stk_sampler_accept(o->sampler, token);
    if (o->draft)
        stk_draft_accept(o->draft, token);
}

// Leaves the logits of the last prompt token in row *last_row of the last forward pass.
static stk_status read_prompt(const stk_generate_options *o, stk_generate_stats *stats,
                              uint32_t *last_row)
{
    stk_row rows[CHUNK_ROWS_MAX];
    uint32_t start = stk_session_length(o->session, o->sequence);
    uint32_t chunk = stk_session_batch_rows_max(o->session);
    if (chunk > CHUNK_ROWS_MAX)
        chunk = CHUNK_ROWS_MAX;
    for (uint32_t done = 0; done < o->prompt_count;) {
        if (is_cancelled(o))
            return STK_CANCELLED;
        uint32_t count = o->prompt_count - done < chunk ? o->prompt_count - done : chunk;
        for (uint32_t i = 0; i < count; i++)
            rows[i] = (stk_row){
                .sequence = o->sequence,
                .position = start + done + i,
                .token = o->prompt[done + i],
                .logits = done + i + 1 == o->prompt_count ? wanted_logits(o) : STK_LOGITS_NONE,
            };
        for (uint32_t i = 0; i < count; i++) // before: the last row's token may be drawn elsewhere
            if (done + i >= o->prompt_known)
                accept(o, o->prompt[done + i]);
        stk_status status = stk_session_forward(o->session, rows, count);
        if (status != STK_OK)
            return status;
        done += count;
        stats->prompt_tokens = done;
        *last_row = count - 1;
        stk_progress(o->log, "reading the prompt", done, o->prompt_count);
    }
    return STK_OK;
}

// Draws a token from the row's logits, which stand for a sequence of `length` tokens, and hands it
// on. True: it was not the last one, *token must be fed next.
static bool draw(const stk_generate_options *o, uint32_t row, uint32_t length,
                 stk_generate_stats *stats, int32_t *token)
{
    *token = stk_sampler_is_greedy(o->sampler) ? stk_session_best(o->session, row)
                                               : stk_session_draw(o->session, row, o->sampler);
    accept(o, *token);
    stats->generated_tokens++;
    bool go_on = !o->on_token || o->on_token(o->user, *token);
    if (o->is_end && o->is_end(o->user, *token))
        stats->finish = STK_FINISH_END;
    else if (!go_on)
        stats->finish = STK_FINISH_CALLER;
    else if (o->tokens_max && stats->generated_tokens >= o->tokens_max)
        stats->finish = STK_FINISH_LENGTH;
    else if (length >= stk_session_context_tokens(o->session))
        stats->finish = STK_FINISH_CONTEXT;
    else if (is_cancelled(o))
        stats->finish = STK_FINISH_CANCELLED;
    else
        return true;
    return false;
}

// How many guesses may follow a token at position `length`: they must fit into the batch and the
// context, and the last token wanted needs none.
static uint32_t draft_limit(const stk_generate_options *o, uint32_t length,
                            const stk_generate_stats *stats)
{
    uint32_t limit = STK_DRAFT_TOKENS_MAX, rows = stk_session_logit_rows_max(o->session);
    uint32_t room = stk_session_context_tokens(o->session) - length;
    uint32_t wanted = o->tokens_max ? o->tokens_max - stats->generated_tokens : UINT32_MAX;
    limit = rows - 1 < limit ? rows - 1 : limit; // logits of a batch, so no more than its rows
    limit = room - 1 < limit ? room - 1 : limit;
    return wanted - 1 < limit ? wanted - 1 : limit;
}

// One forward pass over *token and what is guessed to follow, then as many draws as guesses held,
// and one. *goes_on: *token must be fed next. On failure the sequence is as before.
static stk_status step(const stk_generate_options *o, stk_generate_stats *stats, int32_t *token,
                       bool *goes_on)
{
    stk_row rows[STK_DRAFT_TOKENS_MAX + 1];
    int32_t guesses[STK_DRAFT_TOKENS_MAX];
    uint32_t length = stk_session_length(o->session, o->sequence), guess_count = 0, row = 0;
    if (o->draft)
        guess_count = stk_draft_propose(o->draft, draft_limit(o, length, stats), guesses);
    for (uint32_t i = 0; i <= guess_count; i++)
        rows[i] = (stk_row){.sequence = o->sequence,
                            .position = length + i,
                            .token = i == 0 ? *token : guesses[i - 1],
                            .logits = wanted_logits(o)};
    stk_status status = stk_session_forward(o->session, rows, guess_count + 1);
    if (status != STK_OK)
        return status;
    stats->decode_passes++;
    stats->drafted_tokens += guess_count;
    for (;; row++) {
        *goes_on = draw(o, row, length + row + 1, stats, token);
        bool holds = row < guess_count && *token == guesses[row];
        stats->accepted_tokens += holds;
        if (!*goes_on || !holds)
            break;
    }
    // A ring holds a window and a batch, so going back within a batch is always possible.
    return row < guess_count ? stk_session_truncate(o->session, o->sequence, length + row + 1)
                             : STK_OK;
}

static stk_status generate(const stk_generate_options *o, stk_generate_stats *stats)
{
    uint64_t start = now_ns();
    uint32_t row = 0;
    stk_status status = read_prompt(o, stats, &row);
    stats->prompt_ns = now_ns() - start;
    if (status != STK_OK)
        return status == STK_CANCELLED && is_cancelled(o) ? STK_OK : status;

    start = now_ns();
    int32_t token;
    bool goes_on = draw(o, row, stk_session_length(o->session, o->sequence), stats, &token);
    while (goes_on && status == STK_OK)
        status = step(o, stats, &token, &goes_on);
    stats->decode_ns = now_ns() - start;
    return status;
}

stk_status stk_generate(const stk_generate_options *options, stk_generate_stats *stats)
{
    const stk_generate_options *o = options;
    *stats = (stk_generate_stats){.finish = STK_FINISH_CANCELLED};
    uint32_t length = stk_session_length(o->session, o->sequence);
    uint32_t context = stk_session_context_tokens(o->session);
    if (o->prompt_count == 0)
        return stk_fail(o->log, STK_INVALID, "the prompt is empty");
    if (o->prompt_count > context - length)
        return stk_fail(o->log, STK_INVALID,
                        "the prompt has %u tokens, but only %u of the context's %u are free; "
                        "--ctx gives it more",
                        o->prompt_count, context - length, context);
    stk_session_set_sampler(o->session, o->sampler);
    stk_status status = generate(o, stats);
    stk_session_set_sampler(o->session, NULL); // borrowed
    return status;
}
