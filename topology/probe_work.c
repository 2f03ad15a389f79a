// topology/probe_work.c: the rate of some work on all cores and on one.
#include "topology/probe.h"

#include "base/team.h"
#include "topology/bind.h"
#include "topology/clock.h"
#include <stdatomic.h>

enum { RUNS = 5, RUN_MS = 60 };

typedef struct rate {
    const stk_machine *machine;
    stk_probe_work work;
    void *user;
    uint32_t active, runs;
    uint64_t run_ns;
    atomic_ullong done; // operations of the current run
} rate;

static void bind_job(stk_worker *worker, void *argument)
{
    const rate *r = argument;
    stk_bind_to_core(r->machine, worker->index);
}

static void run_job(stk_worker *worker, void *argument)
{
    rate *r = argument;
    uint64_t begin_ns = stk_clock_ns(), done = 0, now_ns = begin_ns;
    while (worker->index < r->active && now_ns - begin_ns < r->run_ns) {
        done += r->work(r->user, worker->index);
        now_ns = stk_clock_ns();
    }
    // Each worker's own rate: they begin and end at slightly different times.
    if (done)
        atomic_fetch_add_explicit(&r->done,
                                  (uint64_t)((double)done * 1e9 / (double)(now_ns - begin_ns)),
                                  memory_order_relaxed);
}

static double measure(stk_team *team, rate *r, uint32_t active)
{
    r->active = active;
    double best = 0;
    for (uint32_t run = 0; run < r->runs; run++) {
        atomic_store(&r->done, 0);
        stk_team_run(team, run_job, r);
        double per_s = (double)atomic_load(&r->done);
        best = per_s > best ? per_s : best;
    }
    return best;
}

stk_status stk_probe_work_rate(const stk_machine *machine, const stk_probe_work_options *o,
                               const stk_log *log, stk_probe_rate *out)
{
    if (!stk_machine_is_this(machine))
        return stk_fail(log, STK_INVALID, "only this machine's processors can be measured");
    uint32_t count = stk_machine_worker_count(machine);
    count = count < STK_TEAM_WORKERS_MAX ? count : STK_TEAM_WORKERS_MAX;
    stk_team *team;
    stk_team_options options = {.worker_count = count, .log = log};
    stk_binding binding = stk_binding_save();
    stk_status status = stk_team_open(&options, &team);
    if (status == STK_OK) {
        rate r = {.machine = machine,
                  .work = o->work,
                  .user = o->user,
                  .runs = o->runs ? o->runs : RUNS,
                  .run_ns = UINT64_C(1000000) * (o->milliseconds ? o->milliseconds : RUN_MS)};
        stk_team_run(team, bind_job, &r);
        out->thread_count = count;
        out->all_per_s = measure(team, &r, count);
        out->one_thread_per_s = count == 1 || o->skips_one ? out->all_per_s / count
                                                           : measure(team, &r, 1);
        stk_team_close(&team);
    }
    stk_binding_restore(&binding);
    return status;
}
