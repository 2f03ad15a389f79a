// tests/fake_session.h: what the sessions that stand in for engine/session.c have in common.
// Included after `struct stk_session` (length, context, batch_max), VOCAB, and stk_session_logits.
#ifndef STK_TESTS_FAKE_SESSION_H
#define STK_TESTS_FAKE_SESSION_H

#include "engine/session.h"

void stk_session_set_sampler(stk_session *session, const struct stk_sampler *sampler)
{
    (void)session, (void)sampler;
}

int32_t stk_session_draw(const stk_session *session, uint32_t row_index, stk_sampler *sampler)
{
    return stk_sampler_sample(sampler, stk_session_logits(session, row_index));
}

int32_t stk_session_best(const stk_session *session, uint32_t row_index)
{
    const float *logits = stk_session_logits(session, row_index);
    int32_t best = 0;
    for (int32_t i = 1; i < VOCAB; i++)
        best = logits[i] > logits[best] ? i : best;
    return best;
}

uint32_t stk_session_length(const stk_session *session, uint32_t sequence)
{
    assert_int_equal(sequence, 3);
    return session->length;
}

uint32_t stk_session_context_tokens(const stk_session *session)
{
    return session->context;
}

uint32_t stk_session_batch_rows_max(const stk_session *session)
{
    return session->batch_max;
}

#endif
