// Which experts move to fast memory: pure decisions, hysteresis, no thrashing.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "base/random.h"
#include "scheduler/residency.h"

enum { EXPERTS = 64, SWAPS = 16 };

typedef struct world {
    float usage[EXPERTS];
    bool is_resident[EXPERTS];
    stk_residency now;
} world;

static void world_init(world *w, uint32_t capacity)
{
    memset(w, 0, sizeof *w);
    w->now = (stk_residency){.usage = w->usage,
                             .is_resident = w->is_resident,
                             .expert_count = EXPERTS,
                             .capacity = capacity,
                             .hysteresis = 1.25f,
                             .usage_gain_min = 0.01f};
}

static uint32_t resident_count(const world *w)
{
    uint32_t count = 0;
    for (uint32_t e = 0; e < EXPERTS; e++)
        count += w->is_resident[e];
    return count;
}

static void apply(world *w, const stk_residency_swap *swaps, uint32_t count, uint32_t limit)
{
    for (uint32_t i = 0; i < count; i++) {
        if (swaps[i].demote != STK_RESIDENCY_NONE) {
            assert_true(w->is_resident[swaps[i].demote]);
            w->is_resident[swaps[i].demote] = false;
        }
        if (swaps[i].promote != STK_RESIDENCY_NONE) {
            assert_false(w->is_resident[swaps[i].promote]);
            w->is_resident[swaps[i].promote] = true;
        }
        assert_true(resident_count(w) <= limit);
    }
}

static void fills_with_the_most_used(void **state)
{
    (void)state;
    world w;
    stk_residency_swap swaps[SWAPS];
    world_init(&w, 3);
    w.usage[7] = 0.5f;
    w.usage[9] = 0.2f;
    uint32_t count = stk_residency_decide(&w.now, swaps, SWAPS);
    assert_int_equal(count, 2); // a third was never used
    assert_int_equal(swaps[0].promote, 7);
    assert_int_equal(swaps[1].promote, 9);
    assert_int_equal(swaps[0].demote, STK_RESIDENCY_NONE);
    assert_int_equal(stk_residency_decide(&w.now, swaps, 1), 1);
}

static void equals_come_in_by_number_and_go_against_it(void **state)
{
    (void)state;
    world w;
    stk_residency_swap swaps[SWAPS];
    world_init(&w, 1);
    w.usage[7] = w.usage[9] = 0.5f;
    assert_int_equal(stk_residency_decide(&w.now, swaps, SWAPS), 1);
    assert_int_equal(swaps[0].promote, 7);
    w.is_resident[7] = w.is_resident[9] = true;
    assert_int_equal(stk_residency_decide(&w.now, swaps, SWAPS), 1);
    assert_int_equal(swaps[0].demote, 9);
}

static void little_more_is_not_enough(void **state)
{
    (void)state;
    world w;
    stk_residency_swap swaps[SWAPS];
    world_init(&w, 1);
    w.is_resident[3] = true;
    w.usage[3] = 0.40f;
    w.usage[5] = 0.49f;
    assert_int_equal(stk_residency_decide(&w.now, swaps, SWAPS), 0);
    w.usage[5] = 0.51f;
    assert_int_equal(stk_residency_decide(&w.now, swaps, SWAPS), 1);
    assert_int_equal(swaps[0].promote, 5);
    assert_int_equal(swaps[0].demote, 3);
    // Twice as much of almost nothing is no reason either.
    w.usage[3] = 0.004f;
    w.usage[5] = 0.008f;
    assert_int_equal(stk_residency_decide(&w.now, swaps, SWAPS), 0);
}

static void shrinks_from_the_least_used(void **state)
{
    (void)state;
    world w;
    stk_residency_swap swaps[SWAPS];
    world_init(&w, 2);
    for (uint32_t e = 0; e < 4; e++) {
        w.is_resident[e] = true;
        w.usage[e] = 0.1f * (float)(e + 1);
    }
    uint32_t count = stk_residency_decide(&w.now, swaps, SWAPS);
    assert_int_equal(count, 2);
    assert_int_equal(swaps[0].demote, 0);
    assert_int_equal(swaps[1].demote, 1);
    assert_int_equal(swaps[0].promote, STK_RESIDENCY_NONE);
    w.now.capacity = 0;
    assert_int_equal(stk_residency_decide(&w.now, swaps, SWAPS), 4);
}

// Whatever the usage: after the changes none is left to do, none was useless, and the set holds
// nothing that something outside clearly beats.
static void settles(void **state)
{
    (void)state;
    stk_random random = stk_random_seeded(4);
    stk_residency_swap swaps[SWAPS];
    for (uint32_t round = 0; round < 200; round++) {
        world w;
        world_init(&w, round % (EXPERTS + 2));
        for (uint32_t e = 0; e < EXPERTS; e++) {
            double u = stk_random_unit(&random);
            w.usage[e] = (float)(u * u * u);
            w.is_resident[e] = resident_count(&w) < w.now.capacity &&
                               stk_random_unit(&random) < 0.5;
        }
        uint32_t calls = 0, count;
        while ((count = stk_residency_decide(&w.now, swaps, SWAPS)) > 0) {
            apply(&w, swaps, count, w.now.capacity);
            assert_true(++calls <= EXPERTS);
        }
        for (uint32_t in = 0; in < EXPERTS; in++)
            for (uint32_t out = 0; out < EXPERTS; out++)
                if (!w.is_resident[in] && w.is_resident[out])
                    assert_true(w.usage[in] <= w.usage[out] * 1.25f ||
                                w.usage[in] - w.usage[out] <= 0.01f);
    }
}

static void follows_a_change_of_topic_without_thrashing(void **state)
{
    (void)state;
    stk_random random = stk_random_seeded(9);
    stk_residency_swap swaps[SWAPS];
    world w;
    uint32_t moved_early = 0, moved_late = 0;
    world_init(&w, 8);
    for (uint32_t token = 0; token < 4000; token++) {
        uint32_t first = token < 2000 ? 0 : 32; // eight experts are hot, later eight others
        for (uint32_t e = 0; e < EXPERTS; e++) {
            w.usage[e] = stk_usage_after(w.usage[e], 1, 256);
            bool is_hot = e >= first && e < first + 8;
            if (stk_random_unit(&random) < (is_hot ? 0.5 : 0.05))
                w.usage[e] = stk_usage_touched(w.usage[e], 256);
        }
        uint32_t count = stk_residency_decide(&w.now, swaps, 2);
        apply(&w, swaps, count, 8);
        moved_early += token >= 1000 && token < 2000 ? count : 0;
        moved_late += token >= 3000 ? count : 0;
        for (uint32_t e = 0; token == 1999 && e < 8; e++)
            assert_true(w.is_resident[e]);
    }
    for (uint32_t e = 32; e < 40; e++)
        assert_true(w.is_resident[e]);
    assert_int_equal(moved_early, 0);
    assert_int_equal(moved_late, 0);
}

static void decays(void **state)
{
    (void)state;
    assert_true(stk_usage_after(1, 256, 256) == 0.5f);
    float rate = 0;
    for (uint32_t i = 0; i < 5000; i++)
        rate = stk_usage_touched(stk_usage_after(rate, 1, 64), 64);
    assert_true(rate > 0.99f && rate < 1.01f); // used by every token
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fills_with_the_most_used),
        cmocka_unit_test(equals_come_in_by_number_and_go_against_it),
        cmocka_unit_test(little_more_is_not_enough),
        cmocka_unit_test(shrinks_from_the_least_used),
        cmocka_unit_test(settles),
        cmocka_unit_test(follows_a_change_of_topic_without_thrashing),
        cmocka_unit_test(decays),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
