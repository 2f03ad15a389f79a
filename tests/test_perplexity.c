// Perplexity: which tokens are scored, what replaces the first one, and the arithmetic.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "cli/perplexity.h"
#include <math.h>
#include <string.h>

enum { VOCAB = 16, ROWS_MAX = 64 };

// Stands in for engine/session.c. Gives the successor of a token logit `lead`, all others 0.
struct stk_session {
    uint32_t length, batch_max, forwards, cancel_after;
    int32_t seen[200];
    bool wanted[200];
    uint32_t seen_count, chunks;
    float lead;
    float logits[ROWS_MAX][VOCAB];
    atomic_int cancel;
};

stk_status stk_session_truncate(stk_session *session, uint32_t sequence, uint32_t length_tokens)
{
    assert_int_equal(sequence, 0);
    assert_int_equal(length_tokens, 0);
    session->length = 0;
    session->chunks++;
    return STK_OK;
}

uint32_t stk_session_batch_rows_max(const stk_session *session)
{
    return session->batch_max;
}

uint32_t stk_session_inflight_max(const stk_session *session)
{
    (void)session;
    return 1;
}

stk_status stk_session_collect(stk_session *session)
{
    (void)session;
    return STK_OK;
}

stk_status stk_session_submit(stk_session *session, const stk_row *rows, uint32_t count)
{
    assert_in_range(count, 1, session->batch_max);
    memset(session->logits, 0, sizeof session->logits);
    for (uint32_t i = 0; i < count; i++) {
        assert_int_equal(rows[i].position, session->length++);
        session->wanted[session->seen_count] = rows[i].logits;
        session->seen[session->seen_count++] = rows[i].token;
        session->logits[i][(rows[i].token + 1) % VOCAB] = session->lead;
    }
    if (++session->forwards == session->cancel_after)
        atomic_store(&session->cancel, 1);
    return STK_OK;
}

const float *stk_session_logits(const stk_session *session, uint32_t row_index)
{
    return session->logits[row_index];
}

static stk_status measure(stk_session *session, int32_t *tokens, uint32_t count, uint32_t context,
                          uint32_t chunks_max, int32_t bos, stk_perplexity *out)
{
    const stk_perplexity_options options = {
        .session = session,
        .tokens = tokens,
        .count = count,
        .context = context,
        .vocab_size = VOCAB,
        .chunks_max = chunks_max,
        .bos = bos,
        .cancel = &session->cancel,
    };
    return stk_perplexity_measure(&options, out);
}

static void count_up(int32_t *tokens, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        tokens[i] = (int32_t)(i % VOCAB);
}

static void scores_second_halves(void **state)
{
    (void)state;
    for (uint32_t batch = 1; batch <= 10; batch++) {
        stk_session session = {.batch_max = batch, .lead = 2};
        int32_t tokens[35];
        stk_perplexity p;
        count_up(tokens, 35);
        assert_int_equal(measure(&session, tokens, 35, 10, 0, -1, &p), STK_OK);
        assert_int_equal(p.chunks, 3); // 5 tokens are left over
        assert_int_equal(session.chunks, 3);
        assert_int_equal(session.seen_count, 30);
        for (uint32_t i = 0; i < 30; i++) {
            assert_int_equal(session.seen[i], i % VOCAB);
            assert_int_equal(session.wanted[i], i % 10 >= 5 && i % 10 <= 8);
        }
        assert_int_equal(p.scored_tokens, 3 * 4);
        double expected = log(exp(2.0) + VOCAB - 1) - 2; // every successor is right
        assert_true(fabs(p.nll / 12 - expected) < 1e-12);
        assert_true(fabs(stk_perplexity_value(&p) - exp(expected)) < 1e-9);
        assert_true(stk_perplexity_error(&p) < 1e-6); // all the same
    }
}

static void odd_context(void **state)
{
    (void)state;
    stk_session session = {.batch_max = 64, .lead = 0};
    int32_t tokens[9];
    stk_perplexity p;
    count_up(tokens, 9);
    assert_int_equal(measure(&session, tokens, 9, 9, 0, -1, &p), STK_OK);
    assert_int_equal(p.scored_tokens, 4); // 4..7 predict 5..8
    assert_true(fabs(stk_perplexity_value(&p) - VOCAB) < 1e-9);
}

static void bos_replaces_the_first(void **state)
{
    (void)state;
    stk_session session = {.batch_max = 64, .lead = 1};
    int32_t tokens[20];
    stk_perplexity p;
    count_up(tokens, 20);
    assert_int_equal(measure(&session, tokens, 20, 10, 0, 15, &p), STK_OK);
    assert_int_equal(session.seen[0], 15);
    assert_int_equal(session.seen[10], 15);
    assert_int_equal(session.seen[11], 11);
}

static void stops(void **state)
{
    (void)state;
    int32_t tokens[40];
    stk_perplexity p;
    count_up(tokens, 40);
    stk_session session = {.batch_max = 64};
    assert_int_equal(measure(&session, tokens, 40, 10, 2, -1, &p), STK_OK);
    assert_int_equal(p.chunks, 2);
    assert_int_equal(session.seen_count, 20);

    session = (stk_session){.batch_max = 5, .cancel_after = 3}; // in the middle of the second
    assert_int_equal(measure(&session, tokens, 40, 10, 0, -1, &p), STK_CANCELLED);
    assert_int_equal(p.chunks, 1);
    assert_int_equal(p.scored_tokens, 4);

    session = (stk_session){.batch_max = 64};
    assert_int_equal(measure(&session, tokens, 9, 10, 0, -1, &p), STK_INVALID);
    assert_int_equal(session.forwards, 0);
}

static void arithmetic(void **state)
{
    (void)state;
    assert_true(fabs(stk_perplexity_nll((float[]){0, 0}, 2, 1) - log(2)) < 1e-15);
    assert_true(fabs(stk_perplexity_nll((float[]){1000, 999}, 2, 0) - log1p(exp(-1))) < 1e-12);
    assert_true(fabs(stk_perplexity_nll((float[]){-1000, 1000}, 2, 0) - 2000) < 1e-9);
    // two tokens with nll 1 and 3: mean 2, deviation 1, error 1 / sqrt(1) * e^2
    const stk_perplexity p = {.scored_tokens = 2, .nll = 4, .nll_squared = 10};
    assert_true(fabs(stk_perplexity_value(&p) - exp(2)) < 1e-12);
    assert_true(fabs(stk_perplexity_error(&p) - exp(2)) < 1e-12);
    const stk_perplexity none = {0};
    assert_true(isnan(stk_perplexity_value(&none)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scores_second_halves),
        cmocka_unit_test(odd_context),
        cmocka_unit_test(bos_replaces_the_first),
        cmocka_unit_test(stops),
        cmocka_unit_test(arithmetic),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
