// What plans give a GPU, on invented machines from 512 MB to 80 GB.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "plan_shapes.h"

static const uint64_t memories[] = {512 * MIB, GIB, 3 * GIB, 8 * GIB, 24 * GIB, 80 * GIB};
enum { MEMORIES = sizeof memories / sizeof *memories };

static stk_plan make(const stk_plan_machine *machine, const stk_plan_model *model,
                     const stk_plan_wishes *wishes)
{
    stk_plan plan;
    stk_plan_wishes w = *wishes;
    w.gpu_count = machine->gpu_count;
    assert_int_equal(stk_plan_make(machine, model, &w, &plan), STK_OK);
    for (uint32_t g = 0; g < machine->gpu_count; g++)
        assert_true(plan.gpu_bytes[g] <= machine->gpus[g].memory_bytes);
    assert_true(plan.choices.gpu_layers <= model->layer_count);
    return plan;
}

static bool has_nothing(const stk_plan *p)
{
    return !p->choices.gpu_experts[0] && !p->choices.gpu_layers && !p->choices.gpu_head;
}

// A card of 512 MB helps a little, one of 80 GB takes everything.
static void a_card_takes_what_fits(void **state)
{
    (void)state;
    const stk_plan_model models[] = {plan_model_4b(), plan_model_21b()};
    const stk_plan_wishes wishes = plan_open_wishes();
    for (int big = 0; big < 2; big++) {
        stk_plan_machine machine = plan_machine(1, 16, 64 * GIB, 60);
        stk_plan without = make(&machine, &models[big], &wishes), small, large;
        plan_add_gpu(&machine, 512 * MIB, false, 300);
        small = make(&machine, &models[big], &wishes);
        assert_false(has_nothing(&small));
        assert_true(small.seconds < without.seconds);
        machine.gpus[0].memory_bytes = 80 * GIB;
        machine.gpus[0].read_bytes_per_s = 1500e9;
        machine.gpus[0].operations_per_s = 100e12;
        large = make(&machine, &models[big], &wishes);
        assert_int_equal(large.choices.gpu_layers, models[big].layer_count);
        assert_int_equal(large.choices.gpu_head, 1);
        assert_true(large.choices.gpu_experts[0] > large.experts / 2);
        assert_true(large.decode.tokens_per_s > 1.5 * without.decode.tokens_per_s);
        assert_true(large.prefill.tokens_per_s > 1.5 * without.prefill.tokens_per_s);
    }
}

// A GPU of the host's memory takes its bytes from the cores: decoding gains next to nothing.
static void an_integrated_one_shares_bandwidth(void **state)
{
    (void)state;
    stk_plan_model model = plan_model_4b();
    const stk_plan_wishes wishes = plan_open_wishes();
    stk_plan_machine machine = plan_machine(1, 8, 16 * GIB, 50);
    stk_plan without = make(&machine, &model, &wishes), with;
    plan_add_gpu(&machine, 8 * GIB, true, 50);
    with = make(&machine, &model, &wishes);
    assert_true(with.seconds <= without.seconds);
    double bytes = 0;
    for (int i = 0; i <= STK_STAGE_HEAD; i++)
        bytes += without.decode.stages[i].bytes * (i != STK_STAGE_ROWS);
    assert_true(with.decode.seconds >= bytes / 50e9);
}

// lavapipe and its like compute on the same cores.
static void software_gets_nothing(void **state)
{
    (void)state;
    stk_plan_model model = plan_model_4b();
    const stk_plan_wishes wishes = plan_open_wishes();
    for (uint32_t cores = 1; cores <= 64; cores *= 4) {
        stk_plan_machine machine = plan_machine(1, cores, 24 * GIB, 30);
        stk_plan without = make(&machine, &model, &wishes), with;
        plan_add_gpu(&machine, 16 * GIB, true, 30);
        machine.gpus[0].is_software = true;
        machine.gpus[0].operations_per_s = machine.decode_macs_per_s / 4;
        with = make(&machine, &model, &wishes);
        assert_true(has_nothing(&with));
        assert_true(with.seconds == without.seconds);
    }
}

static void what_is_given_is_kept(void **state)
{
    (void)state;
    stk_plan_model model = plan_model_4b();
    stk_plan_machine machine = plan_machine(1, 16, 64 * GIB, 60);
    stk_plan_wishes wishes = plan_open_wishes();
    plan_add_gpu(&machine, 80 * GIB, false, 1500);
    wishes.gpu_percent = 25;
    wishes.gpu_layers = 7;
    wishes.gpu_head = 1;
    stk_plan plan = make(&machine, &model, &wishes);
    assert_int_equal(plan.choices.gpu_experts[0], plan.experts / 4);
    assert_int_equal(plan.choices.gpu_layers, 7);
    assert_int_equal(plan.choices.gpu_head, 1);
    wishes.gpu_percent = wishes.gpu_layers = wishes.gpu_head = 0;
    plan = make(&machine, &model, &wishes);
    assert_true(has_nothing(&plan));
    wishes.gpu_percent = 100;
    wishes.gpu_layers = 9999;
    wishes.gpu_head = STK_PLAN_OPEN;
    plan = make(&machine, &model, &wishes);
    assert_int_equal(plan.choices.gpu_experts[0], plan.experts);
    assert_int_equal(plan.choices.gpu_layers, model.layer_count);
    assert_int_equal(plan.choices.gpu_head, 1);
    wishes.gpu_memory_bytes = 300 * MIB; // a cap: fewer layers, no head, no experts
    plan = make(&machine, &model, &wishes);
    assert_in_range(plan.choices.gpu_layers, 1, model.layer_count - 1);
    assert_int_equal(plan.choices.gpu_head, 0);
    assert_true(plan.gpu_bytes[0] <= 300 * MIB);
}

// More memory or speed of a GPU never makes the work longer; memory goes in steps, so a little.
static void more_never_hurts(void **state)
{
    (void)state;
    const stk_plan_wishes wishes = plan_open_wishes();
    for (int kind = 0; kind < 4; kind++) {
        bool is_integrated = kind % 2;
        stk_plan_model model = kind < 2 ? plan_model_4b() : plan_model_21b();
        stk_plan_machine machine = plan_machine(1, 8, 16 * GIB, 50);
        plan_add_gpu(&machine, 0, is_integrated, is_integrated ? 40 : 200);
        double before = 1e9;
        for (int i = 0; i < MEMORIES; i++) {
            machine.gpus[0].memory_bytes = memories[i];
            double seconds = make(&machine, &model, &wishes).seconds;
            if (!(seconds <= before * 1.01))
                fail_msg("kind %d: %g s with %u MiB, %g with less", kind, seconds,
                         (uint32_t)(memories[i] / MIB), before);
            before = seconds;
            stk_plan_machine more = machine;
            more.gpus[0].read_bytes_per_s *= 2;
            assert_true(make(&more, &model, &wishes).seconds <= seconds);
            more = machine;
            more.gpus[0].operations_per_s *= 2;
            assert_true(make(&more, &model, &wishes).seconds <= seconds);
            more = machine;
            more.gpus[0].link_bytes_per_s *= 2;
            assert_true(make(&more, &model, &wishes).seconds <= seconds);
            more = machine;
            more.gpus[0].submit_s /= 2;
            assert_true(make(&more, &model, &wishes).seconds <= seconds);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_card_takes_what_fits),
        cmocka_unit_test(an_integrated_one_shares_bandwidth),
        cmocka_unit_test(software_gets_nothing),
        cmocka_unit_test(what_is_given_is_kept),
        cmocka_unit_test(more_never_hurts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
