// base/team.h: a fixed team of worker threads that run one function together.
//
// Owns the threads, their binding to cores and the barrier between the phases of a job. Knows
// nothing of what is computed. Invariant: work is handed out by index only, so results can be made
// independent of how many workers there are and of who took what.
#ifndef STK_BASE_TEAM_H
#define STK_BASE_TEAM_H

#include "base/log.h"
#include "base/nodes.h"
#include <stdbool.h>
#include <stdint.h>

enum { STK_TEAM_WORKERS_MAX = 512 };

// Thread-safety: run one job at a time, from the thread that opened it.
typedef struct stk_team stk_team;

// One member, seen from inside a job. The caller of stk_team_run is worker 0.
typedef struct stk_worker {
    stk_team *team;
    uint32_t index; // 0..worker_count-1
    uint32_t worker_count;
    uint32_t node;                     // its memory node, of base/nodes.h
    uint32_t node_first, node_workers; // that node's workers
} stk_worker;

typedef struct stk_team_options {
    uint32_t worker_count; // 1..STK_TEAM_WORKERS_MAX; 0: one per core this process may use,
    uint32_t auto_max;     // but then no more than these; 0: no matter
    uint32_t node_count;   // memory nodes to keep apart, as in stk_nodes_options; 0: the machine's
    bool pin;              // bind each worker to a core of its own, the caller's thread too
    const stk_log *log;    // borrowed; NULL: silent
} stk_team_options;

typedef void (*stk_team_job)(stk_worker *worker, void *argument);

// STK_INVALID: too many workers; STK_NO_MEMORY: threads or memory refused.
STK_CHECKED stk_status stk_team_open(const stk_team_options *options, stk_team **out);
// Joins the workers, gives the caller its binding back and sets *team to NULL; NULL is allowed.
void stk_team_close(stk_team **team);

uint32_t stk_team_worker_count(const stk_team *team);
// The memory nodes of its workers; borrowed.
stk_nodes *stk_team_nodes(const stk_team *team);
// The opener's thread, worker 0, goes to another worker's core until it is sent back to its own
// (worker 0). Where the team does not pin, nothing happens. Not while the team runs.
void stk_team_move_opener(stk_team *team, uint32_t worker);

// Runs job(worker, argument) on every worker at once; returns when all have returned.
void stk_team_run(stk_team *team, stk_team_job job, void *argument);

// Inside a job: waits until every worker is here. What was written before is seen after.
void stk_worker_barrier(stk_worker *worker);

// Inside a job: takes the next piece [*begin, *end) of [0, total), at most `chunk` long, until
// none is left (false). One such loop per phase, that is between two barriers.
bool stk_worker_take(stk_worker *worker, uint32_t total, uint32_t chunk, uint32_t *begin,
                     uint32_t *end);

// The same, but each node's pieces are taken one by one and count for themselves. In a phase that
// uses it, nothing is taken by stk_worker_take.
bool stk_worker_take_from(stk_worker *worker, uint32_t node, uint32_t total, uint32_t chunk,
                          uint32_t *begin, uint32_t *end);

// The same for the pieces [0, total) of the worker's own memory node, which may be more than those
// of another; each worker goes through a stretch of its own first and then helps its neighbours:
// two cores that take turns in one stream of memory get less of it than each in its own.
bool stk_worker_take_near(stk_worker *worker, uint32_t total, uint32_t chunk, uint32_t *begin,
                          uint32_t *end);

enum { STK_HELPERS_MAX = 15 };

// Inside a job: runs `job` on this worker and on so many threads of its core besides, fewer if the
// system has no more; returns when all have. For work that waits for reads: who waits leaves the
// core to the others. Helpers' workers have no index of the team (STK_TEAM_WORKERS_MAX), may take
// pieces in this phase, and know no barriers.
void stk_worker_with_helpers(stk_worker *worker, uint32_t helpers, stk_team_job job,
                             void *argument);

#endif
