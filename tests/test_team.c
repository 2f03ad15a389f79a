// The worker team: every index is handed out once, barriers order what is written, and waiting
// workers sleep and wake. What a barrier must order are plain variables, so that ThreadSanitizer
// sees a barrier that does not.
#include "base/team.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

enum { WORKERS_MAX = 8, PHASES = 300, ITEMS = 97 };

typedef struct hand_out {
    uint32_t chunk;
    bool (*take)(stk_worker *, uint32_t, uint32_t, uint32_t *, uint32_t *);
    uint32_t counts[ITEMS]; // plain: an item is its taker's alone until the next barrier
    uint32_t failures[WORKERS_MAX];
    uint32_t phase_seen[WORKERS_MAX];
} hand_out;

static stk_team *open_team(uint32_t workers)
{
    stk_team *team = NULL;
    assert_int_equal(stk_team_open(&(stk_team_options){.worker_count = workers}, &team), STK_OK);
    assert_int_equal(stk_team_worker_count(team), workers);
    return team;
}

// Phases of different lengths, some shorter than the team, some empty.
static uint32_t items_of(uint32_t phase)
{
    return phase % 5 == 4 ? 0 : phase % 3 == 1 ? 2 : ITEMS - phase % 7;
}

static void take_job(stk_worker *worker, void *argument)
{
    hand_out *h = argument;
    uint32_t begin, end, *failures = &h->failures[worker->index];
    for (uint32_t phase = 0; phase < PHASES; phase++) {
        uint32_t total = items_of(phase);
        while (h->take(worker, total, h->chunk, &begin, &end)) {
            *failures += begin >= end || end > total || end - begin > h->chunk;
            for (uint32_t i = begin; i < end; i++)
                h->counts[i]++;
        }
        h->phase_seen[worker->index] = phase;
        stk_worker_barrier(worker);
        for (uint32_t w = 0; w < worker->worker_count; w++)
            *failures += h->phase_seen[w] != phase;
        for (uint32_t i = 0; i < total; i++)
            *failures += h->counts[i] != 1;
        stk_worker_barrier(worker);
        while (h->take(worker, total, 1, &begin, &end))
            h->counts[begin]--;
        stk_worker_barrier(worker);
    }
}

// Every item once, whether workers take turns or have stretches of their own.
static void test_take(void **state)
{
    static const uint32_t chunks[] = {1, 4, ITEMS + 1};
    for (uint32_t workers = 1; workers <= WORKERS_MAX; workers++) {
        stk_team *team = open_team(workers);
        for (size_t c = 0; c < sizeof chunks / sizeof *chunks; c++) {
            hand_out h;
            memset(&h, 0, sizeof h);
            h.chunk = chunks[c];
            h.take = *state ? stk_worker_take_near : stk_worker_take;
            stk_team_run(team, take_job, &h);
            for (uint32_t w = 0; w < workers; w++) {
                assert_int_equal(h.failures[w], 0);
                assert_int_equal(h.phase_seen[w], PHASES - 1);
            }
        }
        stk_team_close(&team);
        assert_null(team);
    }
}

typedef struct roll_call {
    const stk_team *team;
    uint32_t count;
    uint32_t present[WORKERS_MAX];
} roll_call;

static void present_job(stk_worker *worker, void *argument)
{
    roll_call *r = argument;
    if (worker->worker_count == r->count && worker->team == r->team)
        r->present[worker->index]++;
}

// Many short jobs, each on every worker once, seen by the caller when run returns.
static void test_jobs(void **state)
{
    (void)state;
    for (uint32_t workers = 1; workers <= WORKERS_MAX; workers++) {
        stk_team *team = open_team(workers);
        roll_call r = {team, workers, {0}};
        for (uint32_t job = 1; job <= 500; job++) {
            stk_team_run(team, present_job, &r);
            for (uint32_t w = 0; w < workers; w++)
                assert_int_equal(r.present[w], job);
        }
        stk_team_close(&team);
    }
}

enum { HELPED_ITEMS = 300 };

typedef struct helped {
    uint32_t helpers;
    atomic_uint done[HELPED_ITEMS];
    atomic_uint members, outsiders; // threads that came
} helped;

static void helped_work(stk_worker *worker, void *argument)
{
    helped *h = argument;
    uint32_t begin, end;
    bool is_member = worker->index < worker->worker_count;
    assert_true(is_member || worker->index == STK_TEAM_WORKERS_MAX);
    atomic_fetch_add(is_member ? &h->members : &h->outsiders, 1);
    while (stk_worker_take_from(worker, worker->node, HELPED_ITEMS, 1, &begin, &end))
        atomic_fetch_add(&h->done[begin], 1);
}

static void helped_job(stk_worker *worker, void *argument)
{
    helped *h = argument;
    stk_worker_with_helpers(worker, h->helpers, helped_work, h);
}

// Every item once, and all have returned when run does.
static void test_helpers(void **state)
{
    (void)state;
    static const uint32_t helpers[] = {0, 3, STK_HELPERS_MAX + 1};
    stk_team *team = open_team(2);
    for (size_t c = 0; c < sizeof helpers / sizeof *helpers; c++) {
        helped h = {.helpers = helpers[c]};
        uint32_t most = helpers[c] < STK_HELPERS_MAX ? helpers[c] : STK_HELPERS_MAX;
        stk_team_run(team, helped_job, &h);
        assert_int_equal(h.members, 2);
        assert_int_equal(h.outsiders, 2 * most);
        for (uint32_t i = 0; i < HELPED_ITEMS; i++)
            assert_int_equal(h.done[i], 1);
    }
    stk_team_close(&team);
}

static void nap(void)
{
    nanosleep(&(struct timespec){0, 2000000}, NULL); // far longer than a worker spins
}

typedef struct laggard {
    uint32_t values[WORKERS_MAX];
    uint32_t failures[WORKERS_MAX];
} laggard;

static void lag_job(stk_worker *worker, void *argument)
{
    laggard *l = argument;
    for (uint32_t phase = 0; phase < 3 * worker->worker_count; phase++) {
        if (phase % worker->worker_count == worker->index)
            nap(); // the others fall asleep at the barrier
        l->values[worker->index] = phase;
        stk_worker_barrier(worker);
        for (uint32_t w = 0; w < worker->worker_count; w++)
            l->failures[worker->index] += l->values[w] != phase;
        stk_worker_barrier(worker);
    }
}

// One worker is late, so the others go to sleep: each in turn, the caller too, and between jobs.
static void test_sleep(void **state)
{
    (void)state;
    for (uint32_t workers = 2; workers <= WORKERS_MAX; workers += 2) {
        stk_team *team = open_team(workers);
        for (uint32_t run = 0; run < 3; run++) {
            laggard l;
            memset(&l, 0, sizeof l);
            nap();
            stk_team_run(team, lag_job, &l);
            for (uint32_t w = 0; w < workers; w++)
                assert_int_equal(l.failures[w], 0);
        }
        nap();
        stk_team_close(&team); // wakes them
    }
}

enum { CROWD = 64 };

static void crowd_job(stk_worker *worker, void *argument)
{
    uint32_t *turns = argument; // plain: one worker a phase, the barrier passes it on
    for (uint32_t phase = 0; phase < CROWD; phase++) {
        if (phase == worker->index)
            *turns += phase;
        stk_worker_barrier(worker);
    }
}

// Far more workers than cores: nearly all of them sleep at every barrier.
static void test_crowd(void **state)
{
    (void)state;
    stk_team *team = open_team(CROWD);
    uint32_t turns = 0;
    stk_team_run(team, crowd_job, &turns);
    assert_int_equal(turns, CROWD * (CROWD - 1) / 2);
    stk_team_close(&team);
}

static void test_limits(void **state)
{
    (void)state;
    stk_team *team = NULL;
    const stk_team_options many = {.worker_count = STK_TEAM_WORKERS_MAX + 1};
    assert_int_equal(stk_team_open(&many, &team), STK_INVALID);
    assert_null(team);
    assert_int_equal(stk_team_open(&(stk_team_options){.pin = true}, &team), STK_OK);
    assert_true(stk_team_worker_count(team) >= 1);
    stk_team_close(&team);
    stk_team_close(&team);
}

int main(void)
{
    static char stretches[] = "stretches";
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_take),    cmocka_unit_test_prestate(test_take, (void *)stretches),
        cmocka_unit_test(test_jobs),    cmocka_unit_test(test_sleep),
        cmocka_unit_test(test_crowd),   cmocka_unit_test(test_limits),
        cmocka_unit_test(test_helpers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
