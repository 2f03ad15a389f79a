// The generation loop over a session made of counters: chunks, ends, limits, cancelling, errors.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "count_allocations.h"
#include "engine/generate.h"
#include <string.h>

enum { VOCAB = 50 };

// Stands in for engine/session.c: the token after t is always t + 1.
struct stk_session {
    uint32_t length, context, batch_max;
    uint32_t forwards, rows_max_seen, last_count;
    uint32_t fail_at; // the forward that fails, from 1; 0: none
    int32_t tokens[200];
    bool wants_logits[200];
    float logits[VOCAB];
};

stk_status stk_session_forward(stk_session *session, const stk_row *rows, uint32_t count)
{
    assert_true(count > 0 && count <= session->batch_max);
    assert_true(session->length + count <= session->context);
    if (++session->forwards == session->fail_at)
        return STK_IO;
    for (uint32_t i = 0; i < count; i++) {
        assert_int_equal(rows[i].sequence, 3);
        assert_int_equal(rows[i].position, session->length);
        session->tokens[session->length] = rows[i].token;
        session->wants_logits[session->length++] = rows[i].logits;
    }
    session->last_count = count;
    if (count > session->rows_max_seen)
        session->rows_max_seen = count;
    memset(session->logits, 0, sizeof session->logits);
    session->logits[(rows[count - 1].token + 1) % VOCAB] = 5;
    return STK_OK;
}

const float *stk_session_logits(const stk_session *session, uint32_t row_index)
{
    assert_int_equal(row_index, session->last_count - 1);
    assert_true(session->wants_logits[session->length - 1]);
    return session->logits;
}

#include "fake_session.h"

stk_status stk_session_truncate(stk_session *session, uint32_t sequence, uint32_t length_tokens)
{
    (void)session, (void)sequence, (void)length_tokens;
    fail_msg("nothing is taken back without a draft");
    return STK_INVALID;
}

uint32_t stk_session_logit_rows_max(const stk_session *session)
{
    return session->batch_max;
}

typedef struct seen {
    int32_t tokens[100];
    uint32_t count, stop_after, cancel_after, log_lines, progress_calls;
    int32_t end_token;
    atomic_int cancel;
} seen;

static bool on_token(void *user, int32_t token)
{
    seen *s = user;
    s->tokens[s->count++] = token;
    if (s->count == s->cancel_after)
        atomic_store(&s->cancel, 1);
    return s->count != s->stop_after;
}

static bool is_end(void *user, int32_t token)
{
    return token == ((seen *)user)->end_token;
}

static void on_log(void *user, stk_log_level level, const char *line)
{
    (void)level, (void)line;
    ((seen *)user)->log_lines++;
}

static void on_progress(void *user, const char *what, uint64_t done, uint64_t total)
{
    (void)what;
    assert_true(done <= total);
    ((seen *)user)->progress_calls++;
}

static const int32_t prompt[] = {4, 9, 2, 7, 10, 20, 30};

static stk_status generate(stk_session *session, seen *s, uint32_t tokens_max,
                           stk_generate_stats *stats)
{
    const stk_sampler_options greedy = {
        .top_p = 1, .repeat_penalty = 1.001f, .repeat_last = 8, .top_k = 3};
    const stk_log log = {on_log, on_progress, s, STK_LOG_INFO};
    stk_sampler *sampler;
    assert_int_equal(stk_sampler_open(&greedy, VOCAB, &sampler), STK_OK);
    const stk_generate_options options = {
        .session = session,
        .sampler = sampler,
        .log = &log,
        .sequence = 3,
        .prompt = prompt,
        .prompt_count = sizeof prompt / sizeof *prompt,
        .tokens_max = tokens_max,
        .is_end = is_end,
        .on_token = on_token,
        .user = s,
        .cancel = &s->cancel,
    };
    assert_true(allocations > 0); // the sampler's: the counter counts
    allocations = 0;
    stk_status status = stk_generate(&options, stats);
    assert_int_equal(allocations, 0);
    stk_sampler_close(&sampler);
    return status;
}

static void length(void **state)
{
    (void)state;
    stk_session session = {.context = 100, .batch_max = 3};
    seen s = {.end_token = -1};
    stk_generate_stats stats;
    assert_int_equal(generate(&session, &s, 5, &stats), STK_OK);
    assert_int_equal(stats.finish, STK_FINISH_LENGTH);
    assert_int_equal(stats.prompt_tokens, 7);
    assert_int_equal(stats.generated_tokens, 5);
    assert_int_equal(session.forwards, 3 + 4); // the last token is not fed
    assert_int_equal(session.length, 7 + 4);
    assert_int_equal(session.rows_max_seen, 3);
    assert_int_equal(s.progress_calls, 3);
    assert_memory_equal(session.tokens, prompt, sizeof prompt);
    for (int32_t i = 0; i < 5; i++)
        assert_int_equal(s.tokens[i], 31 + i);
    for (int i = 0; i < 7; i++) // only the last row of a prompt asks for logits
        assert_int_equal(session.wants_logits[i], i == 6);

    // the next turn goes on where the sequence stands
    assert_int_equal(generate(&session, &s, 1, &stats), STK_OK);
    assert_int_equal(session.length, 11 + 7);
}

static void ends(void **state)
{
    (void)state;
    stk_generate_stats stats;
    stk_session session = {.context = 100, .batch_max = 256};
    seen s = {.end_token = 34};
    assert_int_equal(generate(&session, &s, 0, &stats), STK_OK);
    assert_int_equal(stats.finish, STK_FINISH_END);
    assert_int_equal(stats.generated_tokens, 4);
    assert_int_equal(s.tokens[3], 34);

    session = (stk_session){.context = 9, .batch_max = 256};
    s = (seen){.end_token = -1};
    assert_int_equal(generate(&session, &s, 0, &stats), STK_OK);
    assert_int_equal(stats.finish, STK_FINISH_CONTEXT);
    assert_int_equal(session.length, 9);
    assert_int_equal(stats.generated_tokens, 3); // one more than fits: it needs no room

    session = (stk_session){.context = 100, .batch_max = 256};
    s = (seen){.end_token = -1, .stop_after = 2};
    assert_int_equal(generate(&session, &s, 0, &stats), STK_OK);
    assert_int_equal(stats.finish, STK_FINISH_CALLER);
    assert_int_equal(stats.generated_tokens, 2);
}

static void cancelled(void **state)
{
    (void)state;
    stk_generate_stats stats;
    stk_session session = {.context = 100, .batch_max = 3};
    seen s = {.end_token = -1, .cancel_after = 6};
    assert_int_equal(generate(&session, &s, 0, &stats), STK_OK);
    assert_int_equal(stats.finish, STK_FINISH_CANCELLED);
    assert_int_equal(stats.generated_tokens, 6);
    assert_int_equal(session.length, 7 + 5); // as everywhere: all but the last token

    session = (stk_session){.context = 100, .batch_max = 3};
    assert_int_equal(generate(&session, &s, 0, &stats), STK_OK); // the flag is still up
    assert_int_equal(stats.finish, STK_FINISH_CANCELLED);
    assert_int_equal(stats.prompt_tokens, 0);
    assert_int_equal(session.forwards, 0);
}

static void failures(void **state)
{
    (void)state;
    stk_generate_stats stats;
    stk_session session = {.context = 6, .batch_max = 3};
    seen s = {.end_token = -1};
    assert_int_equal(generate(&session, &s, 0, &stats), STK_INVALID); // seven tokens into six
    assert_int_equal(s.log_lines, 1);
    assert_int_equal(session.forwards, 0);

    session = (stk_session){.context = 100, .batch_max = 3, .fail_at = 2};
    assert_int_equal(generate(&session, &s, 0, &stats), STK_IO);
    assert_int_equal(stats.prompt_tokens, 3);
    session = (stk_session){.context = 100, .batch_max = 3, .fail_at = 6};
    assert_int_equal(generate(&session, &s, 0, &stats), STK_IO);
    assert_int_equal(stats.prompt_tokens, 7);
    assert_int_equal(stats.generated_tokens, 3);
}

// The last token of a turn comes again at the start of the next: the penalty sees it once.
static void known(void **state)
{
    (void)state;
    for (uint32_t prompt_known = 0; prompt_known < 2; prompt_known++) {
        stk_session session = {.context = 100, .batch_max = 3};
        const stk_sampler_options penalised = {.top_p = 1, .repeat_penalty = 10, .repeat_last = 3};
        stk_sampler *sampler;
        assert_int_equal(stk_sampler_open(&penalised, VOCAB, &sampler), STK_OK);
        stk_generate_options options = {.session = &session,
                                        .sampler = sampler,
                                        .sequence = 3,
                                        .prompt = (int32_t[]){4},
                                        .prompt_count = 1,
                                        .tokens_max = 1};
        stk_generate_stats stats;
        assert_int_equal(stk_generate(&options, &stats), STK_OK); // draws 5
        options.prompt = (int32_t[]){5};
        options.prompt_known = prompt_known;
        assert_int_equal(stk_generate(&options, &stats), STK_OK); // draws 6
        float logits[VOCAB] = {[4] = 3, [20] = 2};
        // The window of three holds 4, 5, 6 or, counted twice, 5, 5, 6.
        assert_int_equal(stk_sampler_sample(sampler, logits), prompt_known ? 20 : 4);
        stk_sampler_close(&sampler);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(length),   cmocka_unit_test(ends),  cmocka_unit_test(cancelled),
        cmocka_unit_test(failures), cmocka_unit_test(known),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
