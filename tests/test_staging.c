// Copies to a GPU at the moment of choice: only where they make the layer faster.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "scheduler/staging.h"

static void test_decisions(void **state)
{
    (void)state;
    // six experts, 50 us each on the CPU; a copy takes as long as three, half of it under attention
    stk_staging f = {6, 4, 75e-6, 50e-6, 150e-6, 20e-6};
    assert_int_equal(stk_staging_decide(&f), 2); // the second is there at 245 us instead of 250
    f.attention_s = 400e-6;
    assert_int_equal(stk_staging_decide(&f), 3); // 150 us: three are there at 70
    f.copies_max = 2;
    assert_int_equal(stk_staging_decide(&f), 2);
    f = (stk_staging){6, 4, 0, 50e-6, 400e-6, 0}; // a slow bus
    assert_int_equal(stk_staging_decide(&f), 0);
    f = (stk_staging){1, 4, 0, 400e-6, 50e-6, 20e-6}; // a slow CPU
    assert_int_equal(stk_staging_decide(&f), 1);
    f.expert_count = 0;
    assert_int_equal(stk_staging_decide(&f), 0);
}

static void test_unknown(void **state)
{
    (void)state;
    const stk_staging no_cpu = {6, 4, 1, 0, 1e-6, 0}, no_copy = {6, 4, 1, 1, 0, 0};
    assert_int_equal(stk_staging_decide(&no_cpu), 0);
    assert_int_equal(stk_staging_decide(&no_copy), 0);
}

// Never slower than without: against every other number, over many machines.
static void test_best_of_all(void **state)
{
    (void)state;
    uint32_t seed = 1;
    for (int i = 0; i < 2000; i++) {
        double t[4];
        for (int k = 0; k < 4; k++) {
            seed = seed * 1664525u + 1013904223u;
            t[k] = (double)(seed >> 12) * 1e-9 + 1e-9;
        }
        const stk_staging f = {1 + seed % 8, 4, t[0], t[1], t[2], t[3]};
        uint32_t got = stk_staging_decide(&f);
        assert_true(got <= 4 && got <= f.expert_count);
        for (uint32_t n = 0; n <= 4 && n <= f.expert_count; n++) {
            double time[2];
            const uint32_t counts[2] = {got, n};
            for (int k = 0; k < 2; k++) {
                double cpu = (f.expert_count - counts[k]) * t[1];
                double gpu = counts[k] * t[2] > t[0] ? counts[k] * t[2] - t[0] + t[3] : t[3];
                time[k] = counts[k] != 0 && gpu > cpu ? gpu : cpu;
            }
            assert_true(time[0] < time[1] || time[0] == time[1]);
            assert_true(got <= n || time[0] < time[1]);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_decisions),
                                       cmocka_unit_test(test_unknown),
                                       cmocka_unit_test(test_best_of_all)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
