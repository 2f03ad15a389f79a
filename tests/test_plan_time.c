// What a plan's time is made of.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "plan_shapes.h"

#include <math.h>

// The time of a plan is that of its passes: a prompt in one, the head's time with it, and each
// token.
static void time_is_that_of_the_passes(void **state)
{
    (void)state;
    stk_plan_model o = plan_model_4b();
    stk_plan_machine m = plan_machine(1, 4, UINT64_C(16) << 30, 40);
    stk_plan_wishes wishes = plan_open_wishes();
    o.session_row_bytes = o.session_worker_bytes = 0; // taking them is no pass
    wishes.prompt_tokens = 32;
    wishes.new_tokens = 10;
    stk_plan plan;
    stk_plan_cost decode;
    assert_int_equal(stk_plan_make(&m, &o, &wishes, &plan), STK_OK);
    stk_cost_decode(&m, &o, &plan.choices, 32 + 10 / 2, &decode);
    assert_true(plan.choices.batch_rows >= 32);
    double passes_s = plan.prefill.seconds + 10 * decode.seconds;
    assert_true(fabs(plan.seconds - passes_s) < 1e-9 * passes_s);
}

// One read at a time leaves a disk idle while it looks for the next.
static void reads_in_flight_hide_the_latency(void **state)
{
    (void)state;
    stk_plan_model o = plan_model_4b();
    stk_plan_machine m = plan_machine(1, 8, UINT64_C(16) << 30, 40);
    stk_plan_choices c = {
        .worker_count = 8, .batch_rows = 256, .reads_inflight = 1, .decode_slots = 300};
    stk_plan_cost one, many;
    m.disk_latency_s = 5e-3;
    stk_cost_decode(&m, &o, &c, 0, &one);
    c.reads_inflight = 64;
    stk_cost_decode(&m, &o, &c, 0, &many);
    assert_true(one.seconds > 2 * many.seconds);
}

static const stk_plan_choices two_workers = {
    .worker_count = 2, .batch_rows = 256, .prompt_slots = UINT32_MAX, .decode_slots = UINT32_MAX};

// Weights of another kind take as long as their kernels, in the stages that have them and in no
// other; kinds that nobody measured are as fast as the machine's.
static void kinds_of_weights_have_rates(void **state)
{
    (void)state;
    stk_plan_model o = plan_model_4b();
    stk_plan_machine m = plan_machine(1, 2, UINT64_C(16) << 30, 40);
    stk_plan_cost plain[2], mixed[2];
    for (int many = 0; many < 2; many++) {
        m.rate_count = 0;
        o.gate_mix = (stk_plan_mix){2, {7, 8}, {0.5, 0.5}};
        if (many)
            stk_cost_prefill(&m, &o, &two_workers, 256, 0, &plain[many]);
        else
            stk_cost_decode(&m, &o, &two_workers, 0, &plain[many]);
        m.rates[0] = (stk_plan_rate){7, m.decode_macs_per_s / 100, m.prefill_macs_per_s / 100};
        m.rates[1] = (stk_plan_rate){8, m.decode_macs_per_s, m.prefill_macs_per_s};
        m.rate_count = 2;
        if (many)
            stk_cost_prefill(&m, &o, &two_workers, 256, 0, &mixed[many]);
        else
            stk_cost_decode(&m, &o, &two_workers, 0, &mixed[many]);
        for (int i = 0; i < STK_STAGE_COUNT; i++) {
            double ratio = mixed[many].stages[i].seconds / plain[many].stages[i].seconds;
            if (i == STK_STAGE_GATE) // half of it a hundred times as slow, and memory beside it
                assert_true(ratio > 20 && ratio < 50.6);
            else
                assert_false(ratio > 1 || ratio < 1);
        }
    }
    o.gate_mix = (stk_plan_mix){1, {9}, {1}};
    stk_cost_decode(&m, &o, &two_workers, 0, &mixed[0]);
    assert_true(fabs(mixed[0].seconds - plain[0].seconds) < 1e-12);
}

// A `down` whose kernels read all of it costs so when decoding; an `up` without kernels for many
// rows computes only active neurons in a prompt.
static void resting_neurons_cost_what_kernels_do(void **state)
{
    (void)state;
    stk_plan_model o = plan_model_4b();
    const stk_plan_machine m = plan_machine(1, 2, UINT64_C(16) << 30, 40);
    stk_plan_cost cost, whole;
    stk_cost_decode(&m, &o, &two_workers, 0, &cost);
    const stk_plan_stage *gate = &cost.stages[STK_STAGE_GATE], *up = &cost.stages[STK_STAGE_UP],
                         *down = &cost.stages[STK_STAGE_DOWN];
    assert_true(fabs(up->bytes / gate->bytes - o.active_fraction) < 1e-9);
    assert_true(fabs(down->macs / gate->macs - o.active_fraction) < 1e-9);
    o.down_always_bytes = o.down_bytes / 8;
    stk_cost_decode(&m, &o, &two_workers, 0, &whole);
    assert_true(fabs(whole.stages[STK_STAGE_DOWN].bytes / gate->bytes -
                     (0.125 + 0.875 * o.active_fraction)) < 1e-6);
    o.down_always_bytes = o.down_bytes;
    stk_cost_decode(&m, &o, &two_workers, 0, &whole);
    assert_true(fabs(whole.stages[STK_STAGE_DOWN].bytes / gate->bytes - 1) < 1e-9);
    assert_true(fabs(whole.stages[STK_STAGE_DOWN].macs / gate->macs - 1) < 1e-9);
    stk_cost_prefill(&m, &o, &two_workers, 256, 0, &whole);
    assert_true(fabs(whole.stages[STK_STAGE_UP].macs / whole.stages[STK_STAGE_GATE].macs - 1) <
                1e-9);
    o.up_skips = true;
    stk_cost_prefill(&m, &o, &two_workers, 256, 0, &cost);
    assert_true(fabs(up->macs / gate->macs - o.active_fraction) < 1e-9);
    assert_true(fabs(down->macs / gate->macs - 1) < 1e-9);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(time_is_that_of_the_passes),
        cmocka_unit_test(kinds_of_weights_have_rates),
        cmocka_unit_test(resting_neurons_cost_what_kernels_do),
        cmocka_unit_test(reads_in_flight_hide_the_latency),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
