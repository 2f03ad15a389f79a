// A team binds its opener to a core only as long as it is open: a second team sees every core.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/cores.h"
#include "base/team.h"
#include <sched.h>

static uint32_t open_and_close(uint32_t workers)
{
    const stk_team_options options = {.worker_count = workers, .pin = true};
    stk_team *team;
    assert_int_equal(stk_team_open(&options, &team), STK_OK);
    uint32_t count = stk_team_worker_count(team);
    stk_team_close(&team);
    return count;
}

static void test_second_team(void **state)
{
    (void)state;
    cpu_set_t before, after;
    stk_cores *cores;
    assert_int_equal(stk_cores_open(NULL, &cores), STK_OK);
    uint32_t count = stk_cores_count(cores);
    if (count < 2)
        skip();
    assert_int_equal(sched_getaffinity(0, sizeof before, &before), 0);
    assert_int_equal(open_and_close(0), count);
    assert_int_equal(sched_getaffinity(0, sizeof after, &after), 0);
    assert_true(CPU_EQUAL(&before, &after));
    assert_int_equal(open_and_close(1), 1);
    assert_int_equal(open_and_close(0), count);

    // Inside another team's life: its opener stays where that team put it.
    const stk_team_options options = {.worker_count = 2, .pin = true};
    stk_team *team;
    assert_int_equal(stk_team_open(&options, &team), STK_OK);
    assert_int_equal(open_and_close(0), count > 2 ? 2 : count);
    assert_int_equal(sched_getaffinity(0, sizeof after, &after), 0);
    assert_int_equal(CPU_COUNT(&after), 1);
    // On another worker's core for a while.
    cpu_set_t away, back;
    stk_team_move_opener(team, 1);
    assert_int_equal(sched_getaffinity(0, sizeof away, &away), 0);
    assert_int_equal(CPU_COUNT(&away), 1);
    assert_false(CPU_EQUAL(&away, &after));
    stk_team_move_opener(team, 0);
    assert_int_equal(sched_getaffinity(0, sizeof back, &back), 0);
    assert_true(CPU_EQUAL(&back, &after));
    stk_team_close(&team);

    assert_true(stk_cores_bind(cores, 1));
    assert_int_equal(sched_getaffinity(0, sizeof after, &after), 0);
    assert_int_equal(CPU_COUNT(&after), 1);
    assert_true(stk_cores_unbind(cores));
    assert_int_equal(sched_getaffinity(0, sizeof after, &after), 0);
    assert_true(CPU_EQUAL(&before, &after));
    stk_cores_close(&cores);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_second_team)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
