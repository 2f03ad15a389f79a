// Fewer slots under memory pressure: the governor's rule, and that taking slots away and giving
// them back while a model runs changes no number and does return memory.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "store_run.h"

#include <string.h>
#include <sys/mman.h>

#include "store/pressure.h"
#include "store/store_impl.h"

#define SECOND 1000000000ull

static void governor(void **state)
{
    (void)state;
    stk_pressure_governor g = {.slots_max = 160, .slots_min = 5, .slots = 160};
    uint64_t now = 100 * SECOND;
    assert_int_equal(stk_pressure_decide(&g, 0, now), 160);
    assert_int_equal(stk_pressure_decide(&g, 5.0, now), 160); // above, not at
    assert_int_equal(stk_pressure_decide(&g, 5.1, now), 140); // an eighth
    assert_int_equal(stk_pressure_decide(&g, 50, now + SECOND - 1), 140);
    assert_int_equal(stk_pressure_decide(&g, 50, now + SECOND), 122);      // 140 - 18
    assert_int_equal(stk_pressure_decide(&g, 2, now + 100 * SECOND), 122); // between: stays
    assert_int_equal(stk_pressure_decide(&g, 0.5, now + 100 * SECOND), 122);
    assert_int_equal(stk_pressure_decide(&g, 0.4, now + 11 * SECOND - 1), 122); // ten seconds
    assert_int_equal(stk_pressure_decide(&g, 0.4, now + 11 * SECOND), 132);     // a sixteenth
    assert_int_equal(stk_pressure_decide(&g, 0.4, now + 21 * SECOND - 1), 132);

    // it never leaves its bounds, and gets to both
    for (int i = 0; i < 100; i++) {
        now += SECOND;
        uint32_t slots = stk_pressure_decide(&g, 99, now + 30 * SECOND);
        assert_true(slots >= 5 && slots <= 160);
    }
    assert_int_equal(g.slots, 5);
    for (int i = 0; i < 100; i++) {
        now += 10 * SECOND;
        uint32_t slots = stk_pressure_decide(&g, 0, now + 60 * SECOND);
        assert_true(slots >= 5 && slots <= 160);
    }
    assert_int_equal(g.slots, 160);
}

// Pages of the slots from `first` on that are in memory.
static size_t resident_pages(const stk_expert_store *store, uint32_t first)
{
    static unsigned char in_memory[1 << 16];
    size_t from = first * store->slot_bytes, bytes = store->slots_size - from, count = 0;
    assert_true(bytes / 4096 <= sizeof in_memory);
    assert_int_equal(mincore(store->slots + from, bytes, in_memory), 0);
    for (size_t i = 0; i < bytes / 4096; i++)
        count += in_memory[i] & 1;
    return count;
}

static void shrink_and_grow(void **state)
{
    (void)state;
    store_write_tiny(store_path("tiny.gguf"), false, 1);
    store_result want = store_reference(store_path("tiny.gguf"), 10, 8);
    for (uint32_t guess = 0; guess < 3; guess++) {
        const stk_engine_options options = {.model_path = store_path("tiny.gguf"),
                                            .thread_count = 2,
                                            .guess_layers = guess,
                                            .ignores_sidecar = true,
                                            .ignores_usage = true};
        stk_engine *engine = store_open_limited(&options);
        stk_expert_store *store = stk_engine_store(engine);
        stk_session *session = store_session(engine);
        uint32_t full = stk_engine_memory(engine)->slots;
        uint32_t least = stk_expert_store_slots_min(stk_engine_model(engine));
        const uint32_t steps[] = {full, least, full / 2, full, full / 4, 0, 10 * full, least, full};
        for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
            uint32_t most = stk_expert_store_set_slots(store, UINT32_MAX); // sessions take some
            assert_true(most >= full);
            uint32_t slots = steps[i] > most ? most : steps[i] < least ? least : steps[i];
            size_t before = resident_pages(store, slots);
            assert_int_equal(stk_expert_store_set_slots(store, steps[i]), slots);
            // a guess may still be on its way into a slot that is to go
            size_t loads = guess ? STK_STAGING_COUNT : 0;
            assert_true(resident_pages(store, slots) <= loads * store->slot_bytes / 4096);
            if (i == 1)
                assert_true(before > 100); // there was something to give back
            store_result got = store_run(session, 1 + 4 * (i % 2), 10, 8, NULL);
            store_assert_same(&got, &want, "after a change of slots");
            store_result_free(&got);
            stk_expert_store_set_slots(store, steps[i]); // what arrived late goes too
            assert_true(resident_pages(store, slots) <= loads * store->slot_bytes / 4096);
        }
        assert_int_equal(stk_expert_store_get_stats(store).slots_used, full);
        stk_session_close(&session);
        stk_engine_close(&engine);
    }
    store_result_free(&want);
    store_folder_remove();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(governor),
        cmocka_unit_test(shrink_and_grow),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
