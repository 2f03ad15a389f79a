// The generation loop with drafts, over a session made of a table: the same tokens as without, to
// the last one, however the text ends, and the frequencies that the model says.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "count_allocations.h"
#include "engine/generate.h"
#include <math.h>
#include <string.h>

enum { VOCAB = 20, USED = 16, CONTEXT_MAX = 20100, BATCH_MAX = 9 };

// Stands in for engine/session.c.
struct stk_session {
    uint32_t length, context, batch_max, logit_max, last_count, fail_at, forwards;
    int32_t tokens[CONTEXT_MAX];
    bool wants_logits[CONTEXT_MAX];
    float logits[BATCH_MAX][VOCAB];
};

// Four tokens may follow each one, with probabilities 3, 2, 1 and 2 eighths.
static void fill_logits(int32_t token, float *logits)
{
    static const float eighths[] = {3, 2, 1, 2};
    for (int32_t i = 0; i < VOCAB; i++)
        logits[i] = -INFINITY;
    for (int32_t i = 0; i < 4; i++)
        logits[(token * 3 + 7 * i + 1) % USED] = logf(eighths[i]);
}

stk_status stk_session_forward(stk_session *session, const stk_row *rows, uint32_t count)
{
    assert_true(count > 0 && count <= session->batch_max);
    assert_true(session->length + count <= session->context);
    uint32_t logits = 0;
    for (uint32_t i = 0; i < count; i++)
        logits += rows[i].logits != STK_LOGITS_NONE;
    assert_true(logits <= session->logit_max);
    if (++session->forwards == session->fail_at)
        return STK_IO;
    for (uint32_t i = 0; i < count; i++) {
        assert_int_equal(rows[i].sequence, 3);
        assert_int_equal(rows[i].position, session->length);
        fill_logits(rows[i].token, session->logits[i]);
        session->tokens[session->length] = rows[i].token;
        session->wants_logits[session->length++] = rows[i].logits;
    }
    session->last_count = count;
    return STK_OK;
}

const float *stk_session_logits(const stk_session *session, uint32_t row_index)
{
    assert_true(row_index < session->last_count);
    assert_true(session->wants_logits[session->length - session->last_count + row_index]);
    return session->logits[row_index];
}

#include "fake_session.h"

stk_status stk_session_truncate(stk_session *session, uint32_t sequence, uint32_t length_tokens)
{
    assert_int_equal(sequence, 3);
    assert_true(length_tokens < session->length);
    assert_true(length_tokens > session->length - session->last_count); // within the last batch
    session->length = length_tokens;
    return STK_OK;
}

uint32_t stk_session_logit_rows_max(const stk_session *session)
{
    return session->logit_max;
}

// A run with or without a draft, and all its tokens.
typedef struct drafted {
    stk_session session;
    int32_t tokens[CONTEXT_MAX];
    uint32_t count, stop_after;
    stk_generate_stats stats;
    stk_status status;
} drafted;

static drafted with, without;
static const int32_t prompt[] = {1, 4, 13, 8, 9, 12, 5, 1, 4, 13, 8, 9, 12, 5, 1};
enum { PROMPT_COUNT = sizeof prompt / sizeof *prompt };

static bool keep_token(void *user, int32_t token)
{
    drafted *d = user;
    d->tokens[d->count++] = token;
    return d->count != d->stop_after;
}

// draft_tokens 0: without a draft.
static void generate(drafted *d, const stk_sampler_options *sampling, uint32_t draft_tokens,
                     uint32_t tokens_max)
{
    stk_sampler *sampler;
    stk_draft *draft = NULL;
    assert_int_equal(stk_sampler_open(sampling, VOCAB, &sampler), STK_OK);
    const stk_draft_options drafting = {.tokens_max = draft_tokens, .history_max = 300};
    if (draft_tokens)
        assert_int_equal(stk_draft_open(&drafting, &draft), STK_OK);
    const stk_generate_options options = {.session = &d->session,
                                          .sampler = sampler,
                                          .draft = draft,
                                          .sequence = 3,
                                          .prompt = prompt,
                                          .prompt_count = PROMPT_COUNT,
                                          .tokens_max = tokens_max,
                                          .on_token = keep_token,
                                          .user = d};
    assert_true(allocations > 0); // the sampler's: the counter counts
    allocations = 0;
    d->status = stk_generate(&options, &d->stats);
    assert_int_equal(allocations, 0);
    assert_int_equal(d->stats.generated_tokens, d->count);
    // The sequence holds all but the last token, and nothing of what was guessed beyond.
    assert_int_equal(d->session.length, PROMPT_COUNT + d->count - 1);
    assert_memory_equal(d->session.tokens + PROMPT_COUNT, d->tokens, (d->count - 1) * 4);
    stk_draft_close(&draft);
    stk_sampler_close(&sampler);
}

static void begin(uint32_t context, uint32_t logit_rows)
{
    with = without = (drafted){
        .session = {.context = context, .batch_max = BATCH_MAX, .logit_max = logit_rows}};
}

static void same(void)
{
    assert_int_equal(with.count, without.count);
    assert_memory_equal(with.tokens, without.tokens, with.count * 4);
    assert_int_equal(with.status, without.status);
    assert_int_equal(with.stats.finish, without.stats.finish);
}

static const stk_sampler_options greedy = {.top_p = 1, .repeat_penalty = 1};
static const stk_sampler_options sampled = {
    .temperature = 1, .top_p = 1, .repeat_penalty = 1, .seed = 5};

// Every way to end, at every place in a draft.
static void ends(void **state)
{
    (void)state;
    static const stk_finish finish[] = {STK_FINISH_CONTEXT, STK_FINISH_CALLER, STK_FINISH_LENGTH};
    uint32_t accepted = 0;
    for (uint32_t end = 1; end < 40; end++)
        for (int way = 0; way < 3; way++)
            for (uint32_t rows = 1; rows < 8; rows += 3) {
                const stk_sampler_options *sampling = end % 2 ? &greedy : &sampled;
                begin(way == 0 ? PROMPT_COUNT - 1 + end : 1000, rows);
                with.stop_after = without.stop_after = way == 1 ? end : 0;
                generate(&without, sampling, 0, way == 2 ? end : 0);
                generate(&with, sampling, 5, way == 2 ? end : 0);
                same();
                assert_int_equal(with.count, end);
                assert_int_equal(with.stats.finish, finish[way]);
                assert_int_equal(without.stats.decode_passes, end - 1);
                accepted += with.stats.accepted_tokens;
                assert_true(rows > 1 || with.stats.drafted_tokens == 0);
            }
    assert_true(accepted > 100);
}

// Sampling, with and without a penalty whose window is longer or shorter than a draft.
static void samples(void **state)
{
    (void)state;
    for (uint32_t last = 0; last < 20; last += 3) {
        stk_sampler_options sampling = sampled;
        sampling.repeat_penalty = 1.3f;
        sampling.repeat_last = last;
        begin(3000, BATCH_MAX);
        generate(&without, &sampling, 0, 2500);
        generate(&with, &sampling, 6, 2500);
        same();
        // Both happened often: guesses that held and guesses that did not.
        assert_true(with.stats.accepted_tokens > 200);
        assert_true(with.stats.drafted_tokens > with.stats.accepted_tokens + 200);
        assert_int_equal(with.stats.decode_passes + with.stats.accepted_tokens, 2499);
    }
}

// The tokens after each token come as often as the model says: chi-square over 16 tokens with four
// successors each, 48 degrees of freedom, stays under 84 in 999 of 1000 cases; the seed is fixed.
static double chi_square(const drafted *d)
{
    static uint32_t counts[USED][VOCAB], totals[USED];
    double chi = 0;
    memset(counts, 0, sizeof counts);
    memset(totals, 0, sizeof totals);
    for (uint32_t i = 0; i + 1 < d->count; i++) {
        counts[d->tokens[i]][d->tokens[i + 1]]++;
        totals[d->tokens[i]]++;
    }
    for (int32_t token = 0; token < USED; token++) {
        float logits[VOCAB];
        fill_logits(token, logits);
        for (int32_t next = 0; next < VOCAB; next++) {
            double mean = exp((double)logits[next]) / 8 * totals[token];
            if (mean > 0)
                chi += pow(counts[token][next] - mean, 2) / mean;
            else
                assert_int_equal(counts[token][next], 0);
        }
    }
    return chi;
}

static void frequencies(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 3; seed++) {
        stk_sampler_options sampling = sampled;
        sampling.seed = seed;
        begin(CONTEXT_MAX, BATCH_MAX);
        generate(&with, &sampling, 6, CONTEXT_MAX - 100);
        assert_true(with.stats.accepted_tokens > 1000);
        assert_true(chi_square(&with) < 84);
    }
    stk_sampler_options other = sampled; // the measure itself: a little less noise is seen
    other.temperature = 0.9f;
    begin(CONTEXT_MAX, BATCH_MAX);
    generate(&with, &other, 6, CONTEXT_MAX - 100);
    assert_true(chi_square(&with) > 84);
}

// A failing pass leaves what was drawn before it.
static void failure(void **state)
{
    (void)state;
    begin(1000, BATCH_MAX);
    with.session.fail_at = 5;
    generate(&with, &greedy, 6, 100);
    assert_int_equal(with.status, STK_IO);
    assert_true(with.count >= 4 && with.count < 100);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ends),
        cmocka_unit_test(samples),
        cmocka_unit_test(frequencies),
        cmocka_unit_test(failure),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
