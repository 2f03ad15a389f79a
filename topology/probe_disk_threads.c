// topology/probe_disk_threads.c: reads by as many threads as there may be in flight.
#include "topology/probe_disk_impl.h"

#include "base/team.h"
#include "topology/clock.h"
#include <errno.h>
#include <stdatomic.h>
#include <unistd.h>

typedef struct job {
    const stk_disk_pattern *pattern;
    const stk_log *log;
    uint64_t begin_ns;
    atomic_ullong next, completed;
    atomic_bool has_failed; // one worker says it, all stop
} job;

static void read_job(stk_worker *worker, void *argument)
{
    job *j = argument;
    const stk_disk_pattern *p = j->pattern;
    (void)worker;
    do { // at least once: the first thread may use up the time before the last begins
        uint64_t index = atomic_fetch_add_explicit(&j->next, 1, memory_order_relaxed);
        uint64_t offset = stk_disk_offset(p, index);
        ssize_t got;
        do
            got = pread(p->fd, stk_disk_target(p, index), p->block_bytes, (off_t)offset);
        while (got < 0 && errno == EINTR);
        if (got == (ssize_t)p->block_bytes)
            atomic_fetch_add_explicit(&j->completed, 1, memory_order_relaxed);
        else if (!atomic_exchange(&j->has_failed, true))
            (void)stk_disk_read_failed(p, offset, got < 0 ? -errno : got, j->log);
    } while (!atomic_load_explicit(&j->has_failed, memory_order_relaxed) &&
             stk_clock_ns() - j->begin_ns < p->nanoseconds_max);
}

static stk_status run(const stk_disk_pattern *pattern, const stk_log *log, stk_disk_result *out)
{
    stk_team *team;
    const stk_team_options options = {.worker_count = pattern->depth, .log = log};
    stk_status status = stk_team_open(&options, &team);
    if (status != STK_OK)
        return status;
    job j = {.pattern = pattern, .log = log, .begin_ns = stk_clock_ns()};
    stk_team_run(team, read_job, &j);
    *out = (stk_disk_result){atomic_load(&j.completed), stk_clock_ns() - j.begin_ns};
    stk_team_close(&team);
    return atomic_load(&j.has_failed) ? STK_IO : STK_OK;
}

const stk_disk_engine stk_disk_threads = {"threads", run};
