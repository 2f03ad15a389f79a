// Which experts get and keep the memory there is: what a sweep and a guess protect from eviction,
// which experts are guessed at all, and how slots come and go with what sessions use.
//
// Looks at residency through stk_expert_store_poll, which changes nothing.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "store_run.h"

#include <string.h>

#include "engine/engine_impl.h"

enum { FEW = 1, SLOTS = 8, LAYER_PASSED = 1, LAYER_NOW = 3, LAYER_NEXT = 4, LAYER_TO_COME = 6 };

// ---- eviction: a store of SLOTS slots, where the least recently used goes first ----

static void open_store(store_alone *f)
{
    store_alone_open(f, store_path("tiny.gguf"), NULL, SLOTS);
}

static void wait_for(stk_expert_store *store, uint32_t layer, uint32_t expert)
{
    for (;;) {
        uint32_t events = stk_expert_store_events(store);
        if (store_has(store, layer, expert))
            return;
        stk_expert_store_wait(store, events);
    }
}

// As a layer does: wanted, waited for, given back.
static void use(stk_expert_store *store, uint32_t layer, uint32_t expert)
{
    stk_expert_store_want(store, layer, &expert, NULL, NULL, 1, STK_WANT_EXACT);
    wait_for(store, layer, expert);
    stk_expert_store_release(store, layer, expert);
}

static void guess(stk_expert_store *store, uint32_t layer, uint32_t expert)
{
    stk_expert_store_want(store, layer, &expert, NULL, NULL, 1, STK_WANT_SPECULATIVE);
}

// Half of the slots with experts of LAYER_TO_COME, used first, and half with LAYER_PASSED's.
static void fill(stk_expert_store *store)
{
    for (uint32_t e = 0; e < SLOTS / 2; e++)
        use(store, LAYER_TO_COME, e);
    for (uint32_t e = 0; e < SLOTS / 2; e++)
        use(store, LAYER_PASSED, e);
}

static uint32_t count_there(stk_expert_store *store, uint32_t layer)
{
    uint32_t count = 0;
    for (uint32_t e = 0; e < SLOTS / 2; e++)
        count += store_has(store, layer, e);
    return count;
}

static void sweep_keeps_what_is_to_come(void **state)
{
    (void)state;
    store_alone f;
    open_store(&f);
    // A few tokens: the policy alone decides, and what was used first goes first.
    fill(f.store);
    stk_expert_store_tick(f.store, FEW);
    use(f.store, LAYER_NOW, 0);
    assert_false(store_has(f.store, LAYER_TO_COME, 0));
    assert_int_equal(count_there(f.store, LAYER_PASSED), SLOTS / 2);
    // Enough tokens to need every expert: layers that were passed make room, used last or not.
    fill(f.store);
    stk_expert_store_tick(f.store, f.model.expert_count);
    for (uint32_t e = 0; e < SLOTS / 2; e++) {
        use(f.store, LAYER_NOW, 10 + e);
        assert_int_equal(count_there(f.store, LAYER_TO_COME), SLOTS / 2);
    }
    assert_int_equal(count_there(f.store, LAYER_PASSED), 0);
    // When nothing else is left to give up, the rest goes too.
    const uint32_t all[SLOTS] = {0, 1, 2, 3, 4, 5, 6, 7};
    stk_expert_store_want(f.store, LAYER_NOW, all, NULL, NULL, SLOTS, STK_WANT_EXACT);
    for (uint32_t e = 0; e < SLOTS; e++)
        wait_for(f.store, LAYER_NOW, e);
    assert_int_equal(count_there(f.store, LAYER_TO_COME), 0);
    for (uint32_t e = 0; e < SLOTS; e++)
        stk_expert_store_release(f.store, LAYER_NOW, e);
    store_alone_close(&f);
}

// A guess outlives what was used, though it never was, until its layer's router has spoken.
static void guess_is_kept_for_its_layer(void **state)
{
    (void)state;
    store_alone f;
    open_store(&f);
    fill(f.store);
    stk_expert_store_tick(f.store, FEW);
    use(f.store, LAYER_NOW, 0);
    guess(f.store, LAYER_NEXT, 5);
    wait_for(f.store, LAYER_NEXT, 5);
    for (uint32_t e = 1; e < SLOTS; e++)
        use(f.store, LAYER_NOW, e);
    assert_true(store_has(f.store, LAYER_NEXT, 5));
    // The router chose another one: the guess is now the least recently used of all.
    use(f.store, LAYER_NEXT, 6);
    use(f.store, LAYER_NEXT, 7);
    assert_false(store_has(f.store, LAYER_NEXT, 5));
    stk_expert_store_stats stats = stk_expert_store_get_stats(f.store);
    assert_int_equal(stats.speculative, 1);
    assert_int_equal(stats.speculative_used, 0);
    store_alone_close(&f);
}

// In a sweep a guess takes no slot from what is to come; it waits, and is dropped by its router.
static void guess_does_not_displace_a_sweep(void **state)
{
    (void)state;
    store_alone f;
    open_store(&f);
    stk_expert_store_tick(f.store, f.model.expert_count);
    use(f.store, LAYER_PASSED, 0);
    for (uint32_t e = 0; e < SLOTS; e++)
        guess(f.store, LAYER_TO_COME, e);
    for (uint32_t e = 0; e < SLOTS; e++)
        wait_for(f.store, LAYER_TO_COME, e); // the last one in the passed layer's slot
    assert_false(store_has(f.store, LAYER_PASSED, 0));
    guess(f.store, LAYER_NEXT, 0);
    // What is exactly wanted does displace one.
    uint32_t kept = 0, wanted = 0;
    stk_expert_store_want(f.store, LAYER_NOW, &wanted, NULL, NULL, 1, STK_WANT_EXACT);
    wait_for(f.store, LAYER_NOW, wanted);
    for (uint32_t e = 0; e < SLOTS; e++)
        kept += store_has(f.store, LAYER_TO_COME, e);
    assert_int_equal(kept, SLOTS - 1);
    assert_false(store_has(f.store, LAYER_NEXT, 0));
    stk_expert_store_release(f.store, LAYER_NOW, wanted); // now its slot is the guess's to take
    store_alone_close(&f);
}

// With fewer slots than were taken at open, those past the limit stay empty.
static void slots_past_the_limit_stay_empty(void **state)
{
    (void)state;
    store_alone f;
    open_store(&f);
    fill(f.store);
    uint32_t least = stk_expert_store_set_slots(f.store, 0), kept = 0;
    assert_true(least < SLOTS);
    for (uint32_t e = 0; e < SLOTS; e++)
        use(f.store, LAYER_NOW, e);
    for (uint32_t e = 0; e < SLOTS; e++)
        kept += store_has(f.store, LAYER_NOW, e);
    assert_int_equal(kept, least);
    store_alone_close(&f);
}

// ---- which experts are guessed ----

// Routers of `layer` that make logits[expert] of an input whose first value is 1.
static void write_router(stk_engine *engine, uint32_t layer, const float *logits)
{
    const stk_model *m = &engine->model;
    const stk_linear *router = &engine->weights.layers[layer].router;
    assert_int_equal(router->part_count, 1);
    const stk_matrix *w = &router->parts[0].matrix;
    assert_int_equal(w->format, STK_FORMAT_ROWS);
    assert_ptr_equal(w->type, &stk_type_f32);
    float *data = (float *)(uintptr_t)w->data;
    memset(data, 0, (size_t)m->expert_count * m->width * sizeof *data);
    for (uint32_t e = 0; e < m->expert_count; e++)
        data[(size_t)e * m->width] = logits[e];
}

// Of four experts the router would choose, those are read whose logit is clear of the fifth by 0.15
// of the first one's lead.
static void guess_needs_a_margin(void **state)
{
    (void)state;
    const stk_engine_options options = {.model_path = store_path("tiny.gguf"),
                                        .thread_count = 1,
                                        .guess_layers = 2,
                                        .ignores_sidecar = true,
                                        .ignores_usage = true};
    stk_engine *engine = store_open_limited(&options);
    stk_session *s = store_session(engine);
    stk_expert_store *store = engine->store;
    float logits[2][16] = {{0}};
    const stk_row row = {.logits = STK_LOGITS_NONE};
    assert_int_equal(engine->model.expert_used_count, 4);
    assert_int_equal(engine->model.expert_count, 16);
    // Lead 2: at least 0.3 above the cut, which is 1.
    logits[0][3] = 3, logits[0][9] = 1.31f, logits[0][1] = 1.29f, logits[0][7] = 1.1f;
    logits[0][12] = 1;
    // Two layers ahead the last of the four ranks is not asked for, however clear.
    logits[1][2] = 8, logits[1][4] = 7, logits[1][6] = 6, logits[1][8] = 5, logits[1][10] = 1;
    write_router(engine, 5, logits[0]);
    write_router(engine, 6, logits[1]);
    stk_expert_store_reset_stats(store);
    s->rows = &row;
    s->row_count = 1;
    memset(s->x, 0, engine->model.width * sizeof *s->x);
    s->x[0] = 1;
    stk_experts_guess(s, 4);
    assert_int_equal(stk_expert_store_get_stats(store).speculative, 5);
    wait_for(store, 5, 3);
    wait_for(store, 5, 9);
    wait_for(store, 6, 2);
    wait_for(store, 6, 4);
    wait_for(store, 6, 6);
    assert_int_equal(stk_expert_store_get_stats(store).reads, 5);
    stk_session_close(&s);
    stk_engine_close(&engine);
}

// ---- slots and sessions share memory ----

static void run_rows(stk_session *s, uint32_t position, uint32_t count)
{
    static stk_row rows[64];
    assert_true(count <= 64);
    for (uint32_t i = 0; i < count; i++)
        rows[i] = (stk_row){
            .position = position + i, .token = (int32_t)i, .logits = STK_LOGITS_NONE};
    assert_int_equal(stk_session_forward(s, rows, count), STK_OK);
}

// What is lent is what sessions leave of the sum, to the slot.
static void check_sum(const stk_engine *e)
{
    uint64_t shared = e->memory.shared_bytes + stk_expert_store_unused_bytes(e->store);
    uint64_t slot = stk_expert_store_slot_bytes(&e->model);
    assert_true(e->sessions_bytes > 0 && e->sessions_bytes <= shared);
    assert_int_equal(e->slots_lent, (shared - e->sessions_bytes) / slot);
    uint32_t slots = stk_expert_store_get_stats(e->store).slot_count;
    assert_true(slots * slot + e->sessions_bytes <= shared);
}

// Whether scratch past that of 32 rows holds anything.
static bool scratch_is_used(const stk_session *s)
{
    const uint8_t *bytes = s->scratch_pages;
    uint64_t from = stk_session_scratch_bytes(s, 32, 1);
    assert_true(from < s->scratch_bytes);
    for (uint64_t i = (from + 4095) / 4096 * 4096; i < s->scratch_bytes; i++)
        if (bytes[i])
            return true;
    return false;
}

static void slots_follow_sessions(void **state)
{
    (void)state;
    const stk_engine_options options = {.model_path = store_path("tiny.gguf"),
                                        .thread_count = 2,
                                        .ignores_sidecar = true,
                                        .ignores_usage = true};
    stk_engine *engine = store_open_limited(&options);
    stk_session *s = store_session(engine);
    const stk_model *m = &engine->model;
    run_rows(s, 0, 1);
    check_sum(engine);
    uint64_t one = engine->sessions_bytes;
    uint32_t slots = engine->slots_lent;
    run_rows(s, 1, 32); // up to 32 rows need no more scratch, up to 64 positions no more KV
    assert_int_equal(engine->sessions_bytes, one);
    run_rows(s, 33, 33); // both
    check_sum(engine);
    assert_true(engine->slots_lent < slots);
    assert_true(scratch_is_used(s));
    run_rows(s, 66, 1); // a token's scratch again, and KV of 128 positions
    assert_false(scratch_is_used(s));
    check_sum(engine);
    uint64_t kv_64 = (uint64_t)m->layer_count * 2 * m->kv_head_count * 64 * m->head_dim *
                     sizeof(uint16_t);
    assert_int_equal(engine->sessions_bytes, one + kv_64);

    // A second session takes from the same sum, and gives back.
    stk_session *other = store_session(engine);
    run_rows(other, 0, 1);
    check_sum(engine);
    assert_int_equal(engine->sessions_bytes, 2 * one + kv_64);
    stk_session_close(&other);
    assert_int_equal(engine->sessions_bytes, one + kv_64);

    // What an emptied sequence had is given back to the system, not only counted as such.
    assert_true(s->kv[0].k[0] != 0);
    assert_int_equal(stk_session_truncate(s, 0, 0), STK_OK);
    assert_int_equal(s->kv[0].k[0], 0);
    run_rows(s, 0, 1);
    check_sum(engine);
    assert_int_equal(engine->sessions_bytes, one);
    assert_int_equal(engine->slots_lent, slots);
    stk_session_close(&s);
    stk_engine_close(&engine);
}

static int make_model(void **state)
{
    (void)state;
    store_write_tiny(store_path("tiny.gguf"), false, 1);
    return 0;
}

static int remove_model(void **state)
{
    (void)state;
    store_folder_remove();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sweep_keeps_what_is_to_come),
        cmocka_unit_test(guess_is_kept_for_its_layer),
        cmocka_unit_test(guess_does_not_displace_a_sweep),
        cmocka_unit_test(slots_past_the_limit_stay_empty),
        cmocka_unit_test(guess_needs_a_margin),
        cmocka_unit_test(slots_follow_sessions),
    };
    return cmocka_run_group_tests(tests, make_model, remove_model);
}
