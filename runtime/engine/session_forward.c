// A batch from its check to its answer.
#include "engine/engine_impl.h"

#include <math.h>
#include <time.h>

#include "engine/pipeline.h"
#include "engine/sampler.h"

// Rows of a sequence must continue it without a gap; leaves the lengths as they were.
static stk_status check_rows(stk_session *s, const stk_row *rows, uint32_t count)
{
    const stk_log *log = s->engine->log;
    stk_status status = STK_OK;
    uint32_t checked = 0, logits = 0;
    if (count == 0 || count > s->batch_rows_max)
        return stk_fail(log, STK_INVALID, "a batch of %u rows; 1 to %u are possible", count,
                        s->batch_rows_max);
    for (; checked < count; checked++) {
        const stk_row *r = &rows[checked];
        if (r->sequence >= s->sequence_count)
            status = stk_fail(log, STK_INVALID, "row %u: sequence %u of %u", checked, r->sequence,
                              s->sequence_count);
        else if (r->token < 0 || (uint32_t)r->token >= s->engine->model.vocab_size)
            status = stk_fail(log, STK_INVALID, "row %u: token %d is outside the vocabulary of %u",
                              checked, r->token, s->engine->model.vocab_size);
        else if (r->position >= s->context_tokens)
            status = stk_fail(log, STK_INVALID, "row %u: position %u is past the context of %u",
                              checked, r->position, s->context_tokens);
        else if (r->position != s->length[r->sequence])
            status = stk_fail(
                log, STK_INVALID,
                "row %u: position %u does not continue sequence %u, which holds %u tokens", checked,
                r->position, r->sequence, s->length[r->sequence]);
        else if ((logits += r->logits != STK_LOGITS_NONE) > s->logit_rows_max)
            status = stk_fail(log, STK_INVALID,
                              "row %u: the session computes the logits of %u rows at most", checked,
                              s->logit_rows_max);
        if (status != STK_OK)
            break;
        s->length[r->sequence]++;
    }
    for (uint32_t i = 0; i < checked; i++)
        s->length[rows[i].sequence]--;
    return status;
}

// Twice a second, between forward passes: when the system runs short of memory, use fewer slots.
static void heed_pressure(stk_engine *engine)
{
    struct timespec t;
    double stalled;
    clock_gettime(CLOCK_MONOTONIC_COARSE, &t);
    uint64_t now = (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
    if (now - engine->pressure_read_ns < 500000000u || stk_expert_store_is_resident(engine->store))
        return;
    engine->pressure_read_ns = now;
    if (!stk_pressure_read(&stalled))
        return;
    uint32_t before = engine->pressure.slots;
    uint32_t slots = stk_pressure_decide(&engine->pressure, stalled, now);
    if (slots == before)
        return;
    stk_expert_store_set_slots(engine->store, slots);
    stk_info(engine->log, "memory pressure %.1f %%: %u of %u slots for experts", stalled, slots,
             engine->pressure.slots_max);
}

// Of what the scratch holds.
static void set_answer(stk_session *s)
{
    s->answer = (stk_answer){.row_count = s->row_count, .slot = s->logit_slot};
    if (stk_model_has_head(&s->engine->model))
        s->answer.logits = s->logits;
}

static stk_status run(stk_session *s, const stk_row *rows, uint32_t count)
{
    stk_status status = s->engine->pipeline ? stk_pipeline_begin(s) : STK_OK;
    if (status != STK_OK)
        return status;
    heed_pressure(s->engine);
    stk_expert_store_tick(s->engine->store, count);
    if (s->engine->heat)
        stk_heat_tick(s->engine->heat, count);
    stk_gpu_turn(s);
    status = stk_session_run(s, rows, count);
    if (status == STK_OK) {
        stk_meter_forward(s);
        stk_session_gather_kv(s);
    }
    set_answer(s);
    if (s->engine->pipeline && status == STK_OK)
        status = stk_pipeline_pass_on(s);
    s->rows = NULL; // the caller's
    for (uint32_t i = 0; i < count; i++) {
        uint32_t length = ++s->length[rows[i].sequence];
        if (length > s->highest[rows[i].sequence])
            s->highest[rows[i].sequence] = length; // a failed pass has overwritten rings too
    }
    for (uint32_t i = 0; i < count && status != STK_OK; i++)
        s->length[rows[i].sequence]--;
    return status;
}

stk_status stk_session_submit(stk_session *s, const stk_row *rows, uint32_t count)
{
    if (s->inflight_count == s->inflight_max)
        return STK_BUSY;
    stk_status status = check_rows(s, rows, count);
    if (status == STK_OK)
        status = run(s, rows, count);
    s->inflight_count += status == STK_OK;
    return status;
}

stk_status stk_session_collect(stk_session *s)
{
    if (s->inflight_count == 0)
        return STK_INVALID;
    s->inflight_count--;
    return stk_pipeline_is_first(s->engine) ? stk_pipeline_collect(s) : STK_OK;
}

stk_status stk_session_forward(stk_session *s, const stk_row *rows, uint32_t count)
{
    if (s->inflight_count > 0)
        return STK_BUSY;
    stk_status status = stk_session_submit(s, rows, count);
    if (status != STK_OK)
        return status;
    status = stk_session_collect(s);
    for (uint32_t i = 0; i < count && status != STK_OK; i++)
        s->length[rows[i].sequence]--;
    return status;
}

// Whether the last answer has anything of this row.
static bool has_answer(const stk_session *s, uint32_t row_index)
{
    const stk_answer *a = &s->answer;
    return row_index < a->row_count && a->slot[row_index] != UINT32_MAX && (a->logits || a->picked);
}

const float *stk_session_logits(const stk_session *s, uint32_t row_index)
{
    if (!has_answer(s, row_index) || s->answer.picked)
        return NULL;
    if (stk_gpu_heads(s))
        return stk_vk_stream_logits(s->stream, s->answer.slot[row_index]);
    return s->answer.logits + s->answer.slot[row_index] * s->vocab_padded;
}

int32_t stk_session_best(const stk_session *s, uint32_t row_index)
{
    if (!has_answer(s, row_index))
        return 0;
    uint32_t slot = s->answer.slot[row_index];
    if (s->answer.picked)
        return s->answer.picked[slot];
    if (stk_gpu_heads(s))
        return (int32_t)stk_vk_stream_best(s->stream, slot);
    const float *logits = s->answer.logits + slot * s->vocab_padded;
    uint32_t best = 0;
    for (uint32_t i = 1; i < s->engine->model.vocab_size; i++)
        if (logits[i] > logits[best] || (isnan(logits[best]) && !isnan(logits[i])))
            best = i;
    return (int32_t)best;
}

void stk_session_set_sampler(stk_session *s, const stk_sampler *sampler)
{
    s->sampler = sampler;
}

int32_t stk_session_draw(const stk_session *s, uint32_t row_index, stk_sampler *sampler)
{
    const float *logits = stk_session_logits(s, row_index);
    if (logits)
        return stk_sampler_sample(sampler, logits);
    stk_sampler_skip(sampler);
    return stk_session_best(s, row_index); // the token that came back
}
