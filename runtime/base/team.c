#include "base/team.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/pause.h"

// A waiting worker spins this long before it sleeps: decode phases are microseconds apart, so
// sleeping between them would cost more than the work. About 50 us on current machines.
enum { SPINS_MAX = 2000 };

// Whoever has finished its own stretch looks at so many others: with hundreds of workers, looking
// at all would cost more than it gives.
enum { NEIGHBOURS_HELPED = 8 };

typedef struct member {
    _Alignas(64) stk_worker worker;
    pthread_t thread;
    // What is handed out of its own stretch, in even and odd phases. Reset by the member when it
    // arrives at the end of the phase between: everybody is done with the one before.
    _Alignas(64) atomic_uint taken[2];
} member;

// Where the workers of one node take their work.
typedef struct hand_out {
    _Alignas(64) atomic_uint taken[2]; // next index, in even and odd phases
} hand_out;

struct stk_team {
    uint32_t worker_count;
    bool pin;
    stk_nodes *nodes;
    const stk_log *log;
    member *members; // [worker_count]; members[0] is the caller

    // A phase ends when `arrived` reaches worker_count: the last to arrive prepares the next
    // phase and publishes it by incrementing `phase` (release; waiters load it with acquire).
    _Alignas(64) atomic_uint arrived;
    _Alignas(64) atomic_uint phase;
    _Alignas(64) atomic_uint taken[2]; // next index to hand out, in even and odd phases
    atomic_uint sleepers;              // workers that may be waiting on `wake`
    uint32_t node_count;
    hand_out *node_work; // [node_count]; NULL with one node, which uses `taken`

    stk_team_job job; // written before the phase that starts it is published
    void *argument;
    bool stop;
    pthread_mutex_t lock;
    pthread_cond_t wake;
};

static void hand_out_afresh(stk_team *team, unsigned phase)
{
    atomic_store_explicit(&team->taken[phase & 1], 0, memory_order_relaxed);
    for (uint32_t n = 0; team->node_work && n < team->node_count; n++)
        atomic_store_explicit(&team->node_work[n].taken[phase & 1], 0, memory_order_relaxed);
}

static void wait_for_phase_after(stk_team *team, unsigned seen)
{
    for (int spin = 0; spin < SPINS_MAX; spin++) {
        if (atomic_load_explicit(&team->phase, memory_order_acquire) != seen)
            return;
        stk_cpu_pause();
    }
    pthread_mutex_lock(&team->lock);
    // seq_cst here and in arrive(): either we see the new phase or the publisher sees us.
    atomic_fetch_add(&team->sleepers, 1);
    while (atomic_load(&team->phase) == seen)
        pthread_cond_wait(&team->wake, &team->lock);
    atomic_fetch_sub(&team->sleepers, 1);
    pthread_mutex_unlock(&team->lock);
}

static void arrive(member *self)
{
    stk_team *team = self->worker.team;
    unsigned seen = atomic_load_explicit(&team->phase, memory_order_relaxed);
    atomic_store_explicit(&self->taken[(seen + 1) & 1], 0, memory_order_relaxed);
    // acq_rel: the last to arrive has seen what every other wrote, and passes it on.
    if (atomic_fetch_add_explicit(&team->arrived, 1, memory_order_acq_rel) + 1 <
        team->worker_count) {
        wait_for_phase_after(team, seen);
        return;
    }
    atomic_store_explicit(&team->arrived, 0, memory_order_relaxed);
    hand_out_afresh(team, seen + 1);
    atomic_store(&team->phase, seen + 1);
    if (atomic_load(&team->sleepers) > 0) {
        pthread_mutex_lock(&team->lock);
        pthread_cond_broadcast(&team->wake);
        pthread_mutex_unlock(&team->lock);
    }
}

void stk_worker_barrier(stk_worker *worker)
{
    member *self = &worker->team->members[worker->index];
    if (worker->worker_count > 1) {
        arrive(self);
        return;
    }
    // Nobody to wait for, but the next phase's hand-out starts afresh.
    hand_out_afresh(worker->team, 0);
    atomic_store_explicit(&self->taken[0], 0, memory_order_relaxed);
}

static bool take(atomic_uint *taken, uint32_t total, uint32_t chunk, uint32_t *begin, uint32_t *end)
{
    if (atomic_load_explicit(taken, memory_order_relaxed) >= total)
        return false;
    unsigned from = atomic_fetch_add_explicit(taken, chunk, memory_order_relaxed);
    if (from >= total)
        return false;
    *begin = from;
    *end = total - from < chunk ? total : from + chunk;
    return true;
}

bool stk_worker_take(stk_worker *worker, uint32_t total, uint32_t chunk, uint32_t *begin,
                     uint32_t *end)
{
    stk_team *team = worker->team;
    unsigned phase = atomic_load_explicit(&team->phase, memory_order_relaxed);
    return take(&team->taken[phase & 1], total, chunk, begin, end);
}

bool stk_worker_take_from(stk_worker *worker, uint32_t node, uint32_t total, uint32_t chunk,
                          uint32_t *begin, uint32_t *end)
{
    stk_team *team = worker->team;
    unsigned phase = atomic_load_explicit(&team->phase, memory_order_relaxed);
    atomic_uint *taken = team->node_work ? team->node_work[node].taken : team->taken;
    return take(&taken[phase & 1], total, chunk, begin, end);
}

// A worker's own stretch of the pieces [0, total) of its node.
static void own_stretch(const stk_worker *worker, uint32_t total, uint32_t *begin, uint32_t *end)
{
    uint32_t at = worker->index - worker->node_first, count = worker->node_workers;
    *begin = (uint32_t)((uint64_t)total * at / count);
    *end = (uint32_t)((uint64_t)total * (at + 1) / count);
}

bool stk_worker_take_near(stk_worker *worker, uint32_t total, uint32_t chunk, uint32_t *begin,
                          uint32_t *end)
{
    stk_team *team = worker->team;
    unsigned phase = atomic_load_explicit(&team->phase, memory_order_relaxed);
    uint32_t at = worker->index - worker->node_first, count = worker->node_workers;
    for (uint32_t i = 0; i < count && i <= NEIGHBOURS_HELPED; i++) {
        member *other = &team->members[worker->node_first + (at + i) % count];
        uint32_t first, last;
        own_stretch(&other->worker, total, &first, &last);
        if (!take(&other->taken[phase & 1], last - first, chunk, begin, end))
            continue;
        *begin += first;
        *end += first;
        return true;
    }
    return false;
}

static void *worker_main(void *argument)
{
    member *self = argument;
    stk_team *team = self->worker.team;
    pthread_mutex_lock(&team->lock); // held by start_workers until worker_count is final
    pthread_mutex_unlock(&team->lock);
    if (team->pin && !stk_nodes_bind(team->nodes, self->worker.index))
        stk_debug(team->log, "worker %u: cannot be bound to a core", self->worker.index);
    for (;;) {
        arrive(self); // a job begins
        if (team->stop)
            return NULL;
        team->job(&self->worker, team->argument);
        arrive(self); // and ends
    }
}

void stk_team_run(stk_team *team, stk_team_job job, void *argument)
{
    team->job = job;
    team->argument = argument;
    stk_worker_barrier(&team->members[0].worker);
    job(&team->members[0].worker, argument);
    if (team->worker_count > 1)
        arrive(&team->members[0]);
}

// Ends the workers 1..started of a team whose barrier expects exactly them and the caller.
static void stop_workers(stk_team *team, uint32_t started)
{
    team->stop = true;
    if (started > 0)
        arrive(&team->members[0]);
    for (uint32_t i = 1; i <= started; i++)
        pthread_join(team->members[i].thread, NULL);
}

static stk_status start_workers(stk_team *team)
{
    uint32_t wanted = team->worker_count;
    int rc = 0;
    pthread_mutex_lock(&team->lock);
    for (uint32_t i = 1; i < wanted && rc == 0; i++) {
        rc = pthread_create(&team->members[i].thread, NULL, worker_main, &team->members[i]);
        if (rc != 0)
            team->worker_count = i; // the barrier expects those that exist
    }
    pthread_mutex_unlock(&team->lock);
    if (rc == 0)
        return STK_OK;
    uint32_t started = team->worker_count - 1;
    stop_workers(team, started);
    return stk_fail(team->log, STK_NO_MEMORY, "cannot start worker %u of %u: %s", started + 1,
                    wanted, strerror(rc));
}

static stk_status open_nodes(stk_team *team, const stk_team_options *options)
{
    if (options->worker_count > STK_TEAM_WORKERS_MAX)
        return stk_fail(options->log, STK_INVALID, "%u threads asked for, at most %u are possible",
                        options->worker_count, (unsigned)STK_TEAM_WORKERS_MAX);
    uint32_t most = options->worker_count == 0 ? options->auto_max : 0;
    const stk_nodes_options nodes = {
        .worker_count = options->worker_count,
        .worker_max = most && most < STK_TEAM_WORKERS_MAX ? most : STK_TEAM_WORKERS_MAX,
        .node_count = options->node_count,
        .log = options->log,
    };
    stk_status status = stk_nodes_open(&nodes, &team->nodes);
    if (status != STK_OK)
        return status;
    team->worker_count = stk_nodes_worker_count(team->nodes);
    return STK_OK;
}

static stk_status take_members(stk_team *team)
{
    uint32_t count = team->worker_count;
    team->members = aligned_alloc(64, sizeof *team->members * count);
    if (!team->members)
        return STK_NO_MEMORY;
    memset(team->members, 0, sizeof *team->members * count);
    const stk_node *nodes = stk_nodes_list(team->nodes, &team->node_count);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t node = stk_nodes_of_worker(team->nodes, i);
        team->members[i].worker = (stk_worker){
            team, i, count, node, nodes[node].worker_first, nodes[node].worker_count};
    }
    if (team->node_count == 1)
        return STK_OK;
    team->node_work = aligned_alloc(64, sizeof *team->node_work * team->node_count);
    if (!team->node_work)
        return STK_NO_MEMORY;
    memset(team->node_work, 0, sizeof *team->node_work * team->node_count);
    return STK_OK;
}

static void free_team(stk_team *team)
{
    pthread_cond_destroy(&team->wake);
    pthread_mutex_destroy(&team->lock);
    stk_nodes_close(&team->nodes);
    free(team->node_work);
    free(team->members);
    free(team);
}

stk_status stk_team_open(const stk_team_options *options, stk_team **out)
{
    stk_team *team = aligned_alloc(64, (sizeof *team + 63) / 64 * 64);
    if (!team)
        return STK_NO_MEMORY;
    memset(team, 0, sizeof *team);
    team->log = options->log;
    team->pin = options->pin;
    pthread_mutex_init(&team->lock, NULL);
    pthread_cond_init(&team->wake, NULL);
    stk_status status = open_nodes(team, options);
    if (status == STK_OK)
        status = take_members(team);
    if (status == STK_OK)
        status = start_workers(team);
    if (status != STK_OK) {
        free_team(team);
        return status;
    }
    if (team->pin)
        stk_nodes_bind(team->nodes, 0);
    *out = team;
    return STK_OK;
}

void stk_team_move_opener(stk_team *team, uint32_t worker)
{
    if (team->pin)
        stk_nodes_bind(team->nodes, worker);
}

void stk_team_close(stk_team **team_pointer)
{
    stk_team *team = *team_pointer;
    if (!team)
        return;
    stop_workers(team, team->worker_count - 1);
    // Else the next team would find its opener, and so itself, confined to one core.
    if (team->pin)
        stk_nodes_unbind(team->nodes);
    free_team(team);
    *team_pointer = NULL;
}

uint32_t stk_team_worker_count(const stk_team *team)
{
    return team->worker_count;
}

stk_nodes *stk_team_nodes(const stk_team *team)
{
    return team->nodes;
}

typedef struct helper {
    stk_worker worker;
    stk_team_job job;
    void *argument;
    pthread_t thread;
} helper;

static void *helper_main(void *user)
{
    helper *h = user;
    h->job(&h->worker, h->argument);
    return NULL;
}

void stk_worker_with_helpers(stk_worker *worker, uint32_t helpers, stk_team_job job, void *argument)
{
    helper all[STK_HELPERS_MAX];
    uint32_t count = 0;
    for (; count < helpers && count < STK_HELPERS_MAX; count++) {
        all[count] = (helper){.worker = *worker, .job = job, .argument = argument};
        all[count].worker.index = STK_TEAM_WORKERS_MAX;
        if (pthread_create(&all[count].thread, NULL, helper_main, &all[count]) != 0) // on its core
            break;
    }
    job(worker, argument);
    for (uint32_t i = 0; i < count; i++)
        pthread_join(all[i].thread, NULL);
}
