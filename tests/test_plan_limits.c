// A control group of one processor and 2 GiB is seen and planned for.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "fake_root.h"
#include "plan_shapes.h"
#include "topology/limits.h"

static void a_control_group_is_planned_for(void **state)
{
    (void)state;
    char root[FAKE_ROOT_BYTES];
    stk_limits limits;
    fake_root_make(root);
    fake_root_file(root, "proc/meminfo", "MemTotal: 67108864 kB\nMemAvailable: 50331648 kB\n");
    fake_root_file(root, "proc/self/cgroup", "0::/job\n");
    fake_root_file(root, "proc/self/mountinfo",
                   "31 30 0:28 / /sys/fs/cgroup rw shared:9 - cgroup2 cgroup2 rw\n");
    fake_root_file(root, "sys/fs/cgroup/job/memory.max", "2147483648\n");
    fake_root_file(root, "sys/fs/cgroup/job/memory.current", "104857600\n");
    fake_root_file(root, "sys/fs/cgroup/job/cpu.max", "100000 100000\n");
    stk_limits_read(root, NULL, &limits);
    fake_root_remove(root);
    assert_true(limits.cpu_quota == 1);
    assert_int_equal(limits.memory_limit_bytes, 2 * GIB);

    // As cli/plan_facts.c fills it in.
    stk_plan_machine machine = plan_machine(1, 16, 64 * GIB, 60);
    machine.worker_max = (uint32_t)limits.cpu_quota;
    machine.memory_available_bytes = limits.memory_available_bytes;
    machine.memory_hard_bytes = limits.memory_limit_bytes;
    stk_plan_model model = plan_model_4b();
    stk_plan_wishes wishes = plan_open_wishes();
    stk_plan plan;
    assert_int_equal(stk_plan_make(&machine, &model, &wishes, &plan), STK_OK);
    assert_int_equal(plan.choices.worker_count, 1);
    assert_true(plan.memory_limit_bytes > 0 && plan.memory_limit_bytes < 2 * GIB);
    assert_true(plan.total_bytes <= plan.memory_limit_bytes);
    assert_true(plan.decode.hit_rate < 1);
    wishes.memory_bytes = 8 * GIB; // nobody gets that here
    assert_int_equal(stk_plan_make(&machine, &model, &wishes, &plan), STK_OK);
    assert_true(plan.is_limit_lowered && plan.total_bytes < 2 * GIB);
    wishes.memory_bytes = 2 * GIB; // all that the group allows: a plan counts everything
    assert_int_equal(stk_plan_make(&machine, &model, &wishes, &plan), STK_OK);
    assert_false(plan.is_limit_lowered);
    assert_int_equal(plan.memory_limit_bytes, 2 * GIB);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_control_group_is_planned_for)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
