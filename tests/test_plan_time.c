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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(time_is_that_of_the_passes),
        cmocka_unit_test(reads_in_flight_hide_the_latency),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
