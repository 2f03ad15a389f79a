// Memory that sessions do not use yet holds experts until they do.
//
// A session is planned with its whole context and its largest batch, but a short conversation that
// decodes touches little of that. Slots and sessions share one sum: before each forward pass the
// session's use is counted anew, in whole pages, and the store gets the rest. What is given up is
// freed before what is gained is touched, so the sum holds at every moment.
#include "engine/engine_impl.h"

#include "base/pages.h"
#include "engine/pipeline.h"

enum {
    ROWS_STEP = 32,      // rows and positions are counted in steps, so that slots
    POSITIONS_STEP = 64, // do not come and go with every token
};

static uint32_t round_up(uint32_t value, uint32_t step, uint32_t max)
{
    uint64_t up = ((uint64_t)value + step - 1) / step * step;
    return up < max ? (uint32_t)up : max;
}

static uint64_t pages_of(uint64_t bytes)
{
    return (bytes + STK_DIRECT_ALIGN - 1) / STK_DIRECT_ALIGN * STK_DIRECT_ALIGN;
}

// KV of the first `positions` of one sequence.
static uint64_t kv_bytes(const stk_session *s, uint32_t positions)
{
    const stk_model *m = &s->engine->model;
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < m->layer_count; i++) {
        if (!s->kv[i].k)
            continue; // on a device
        uint64_t held = positions < s->kv[i].capacity_tokens ? positions : s->kv[i].capacity_tokens;
        bytes += 2 * m->kv_head_count * pages_of(held * m->head_dim * sizeof *s->kv[i].k);
    }
    return bytes;
}

static uint64_t count_kv(stk_session *s, const stk_row *rows, uint32_t count)
{
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t *touched = &s->touched[rows[i].sequence];
        if (rows[i].position >= *touched)
            *touched = round_up(rows[i].position + 1, POSITIONS_STEP, UINT32_MAX);
    }
    for (uint32_t i = 0; i < s->sequence_count; i++)
        bytes += kv_bytes(s, s->touched[i]);
    return bytes;
}

static void lend_slots(stk_engine *engine)
{
    uint64_t shared = engine->memory.shared_bytes + stk_expert_store_unused_bytes(engine->store);
    uint64_t left = shared > engine->sessions_bytes ? shared - engine->sessions_bytes : 0;
    uint32_t slots = (uint32_t)(left / stk_expert_store_slot_bytes(&engine->model));
    if (slots != engine->slots_lent)
        stk_expert_store_lend(engine->store, slots);
    engine->slots_lent = slots;
}

void stk_spare_forget(stk_session *s, uint32_t sequence)
{
    const stk_model *m = &s->engine->model;
    if (stk_expert_store_is_resident(s->engine->store) || s->touched[sequence] == 0)
        return;
    for (uint32_t i = 0; i < m->layer_count; i++) {
        if (!s->kv[i].k)
            continue;
        size_t values = (size_t)m->kv_head_count * s->kv[i].capacity_tokens * m->head_dim;
        stk_pages_discard(s->kv[i].k + sequence * values, values * sizeof *s->kv[i].k);
        stk_pages_discard(s->kv[i].v + sequence * values, values * sizeof *s->kv[i].v);
    }
    s->touched[sequence] = 0;
}

void stk_spare_lend(stk_session *s, const stk_row *rows, uint32_t count)
{
    stk_engine *engine = s->engine;
    if (stk_expert_store_is_resident(engine->store))
        return;
    uint32_t logits = s->placed_logits > 0 ? s->placed_logits : 1, asked = 0;
    for (uint32_t i = 0; i < count; i++)
        asked += rows[i].logits != STK_LOGITS_NONE;
    logits = asked > logits ? asked : logits;
    uint32_t row_count = round_up(count, ROWS_STEP, s->batch_rows_max);
    bool moves = row_count != s->placed_rows || logits != s->placed_logits;
    uint64_t scratch = stk_session_scratch_bytes(s, row_count, logits);
    if (moves && row_count < s->placed_rows && scratch < s->scratch_bytes)
        stk_pages_discard((uint8_t *)s->scratch_pages + scratch, s->scratch_bytes - scratch);
    uint64_t used = scratch + count_kv(s, rows, count);
    if (s->stream && engine->share.shares_memory)
        used += engine->share.stream_bytes;
    if (engine->pipeline)
        used += stk_pipeline_session_bytes(s);
    engine->sessions_bytes += used - s->used_bytes;
    s->used_bytes = used;
    lend_slots(engine);
    if (moves)
        stk_session_place(s, row_count, logits);
    s->placed_rows = row_count;
    s->placed_logits = logits;
}

void stk_spare_return(stk_session *s)
{
    s->engine->sessions_bytes -= s->used_bytes;
    s->used_bytes = 0;
}
