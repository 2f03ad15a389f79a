// topology/probe_memory.c: read bandwidth between nodes.
#include "topology/probe.h"

#include "base/random.h"
#include "base/team.h"
#include "topology/bind.h"
#include "topology/clock.h"
#include "topology/probe_sum.h"
#include <stdatomic.h>
#include <stdlib.h>

enum { RUNS = 5, SLICE_BYTES = 1 << 12 };
static const uint64_t BUFFER_BYTES_MAX = UINT64_C(4) << 30, BUFFER_BYTES_MIN = 64 << 20;

// What the reads in runs are made of: a stretch, then groups of slots of which some are read. About
// the part of an expert that a worker takes when decoding (docs/scheduler.md).
enum {
    STRETCH_BYTES = 160 << 10,
    GROUPS = 6,
    GROUP_HEAD_BYTES = 3 << 10,
    SLOT_BYTES = 1536,
    SLOTS = 32,
    SLOTS_READ = 13, // of 32, on average
    PART_BYTES = STRETCH_BYTES + GROUPS * (GROUP_HEAD_BYTES + SLOTS * SLOT_BYTES),
    PARTS_PER_RUN = 192, // of each worker
};

// One pair of nodes. Workers read their slices of the buffer between two barriers.
typedef struct pair {
    const stk_machine *machine;
    const uint32_t *cores; // one per worker
    uint64_t *buffer;
    uint64_t bytes;
    uint32_t active; // workers that read; the others only wait
    uint32_t runs;
    stk_sum_fn sum;
    bool in_runs;
    uint64_t best_ns;
    atomic_ullong sink; // keeps the sums alive
    atomic_ullong read; // bytes, in runs
} pair;

static uint64_t slice(const pair *p, uint32_t worker, uint64_t **begin)
{
    uint64_t slices = p->bytes / SLICE_BYTES;
    uint64_t first = slices * worker / p->active, last = slices * (worker + 1) / p->active;
    *begin = p->buffer + first * (SLICE_BYTES / sizeof(uint64_t));
    return (last - first) * (SLICE_BYTES / sizeof(uint64_t));
}

static void bind_job(stk_worker *worker, void *argument)
{
    const pair *p = argument;
    stk_bind_to_core(p->machine, p->cores[worker->index]);
}

// Real, different values: zero pages are shared, and some memory systems compress.
static void fill_job(stk_worker *worker, void *argument)
{
    pair *p = argument;
    uint64_t *data, count = slice(p, worker->index, &data);
    stk_bind_to_core(p->machine, p->cores[worker->index]);
    stk_random random = stk_random_seeded(worker->index + 1);
    for (uint64_t i = 0; i < count; i++)
        data[i] = stk_random_u64(&random);
}

static uint64_t sum_bytes(const pair *p, const uint8_t *at, uint64_t bytes, uint64_t *read)
{
    *read += bytes;
    return p->sum((const uint64_t *)(const void *)at, bytes / sizeof(uint64_t));
}

// One part of the buffer; *read grows by the bytes that were looked at.
static uint64_t read_part(const pair *p, const uint8_t *at, stk_random *random, uint64_t *read)
{
    uint64_t sum = sum_bytes(p, at, STRETCH_BYTES, read);
    at += STRETCH_BYTES;
    for (int group = 0; group < GROUPS; group++) {
        sum += sum_bytes(p, at, GROUP_HEAD_BYTES, read);
        at += GROUP_HEAD_BYTES;
        for (int slot = 0; slot < SLOTS; slot++, at += SLOT_BYTES)
            if (stk_random_u64(random) >> 32 < ((uint64_t)SLOTS_READ << 32) / SLOTS)
                sum += sum_bytes(p, at, SLOT_BYTES, read);
    }
    return sum;
}

static void read_runs(pair *p, uint32_t worker, uint32_t run)
{
    stk_random random = stk_random_seeded((uint64_t)run << 32 | worker);
    uint64_t parts = p->bytes / PART_BYTES, sum = 0, read = 0;
    for (uint32_t i = 0; i < PARTS_PER_RUN; i++) {
        uint64_t part = stk_random_u64(&random) % parts;
        sum += read_part(p, (const uint8_t *)p->buffer + part * PART_BYTES, &random, &read);
    }
    atomic_fetch_add_explicit(&p->sink, sum, memory_order_relaxed);
    atomic_fetch_add_explicit(&p->read, read, memory_order_relaxed);
}

static void read_job(stk_worker *worker, void *argument)
{
    pair *p = argument;
    uint64_t *data, count = 0, begin_ns = 0;
    if (worker->index < p->active)
        count = slice(p, worker->index, &data);
    for (uint32_t run = 0; run < p->runs; run++) {
        stk_worker_barrier(worker);
        if (worker->index == 0)
            begin_ns = stk_clock_ns();
        if (count && p->in_runs)
            read_runs(p, worker->index, run);
        else if (count)
            atomic_fetch_add_explicit(&p->sink, p->sum(data, count), memory_order_relaxed);
        stk_worker_barrier(worker);
        if (worker->index == 0) {
            uint64_t ns = stk_clock_ns() - begin_ns;
            p->best_ns = ns < p->best_ns ? ns : p->best_ns;
        }
    }
}

static uint64_t measure(stk_team *team, pair *p, uint32_t active, bool in_runs)
{
    p->active = active;
    p->in_runs = in_runs;
    p->best_ns = UINT64_MAX;
    atomic_store(&p->read, 0);
    stk_team_run(team, read_job, p);
    // Runs differ by a few of their slots.
    double bytes = in_runs ? (double)atomic_load(&p->read) / p->runs : (double)p->bytes;
    return (uint64_t)(bytes / (1 << 20) / ((double)p->best_ns * 1e-9));
}

// Twice all last-level caches: those of other sockets may serve, too.
static uint64_t buffer_bytes(const stk_machine *m, const stk_memory_probe_options *o, uint32_t node)
{
    uint32_t count, level = 0;
    uint64_t cached = 0;
    const stk_cache *caches = stk_machine_caches(m, &count);
    for (uint32_t i = 0; i < count; i++)
        level = caches[i].level > level ? caches[i].level : level;
    for (uint32_t i = 0; i < count; i++)
        cached += caches[i].level == level ? caches[i].size_bytes : 0;
    uint64_t bytes = cached * 2 > BUFFER_BYTES_MIN ? cached * 2 : BUFFER_BYTES_MIN;
    const stk_memory_node *nodes = stk_machine_nodes(m, &count);
    uint64_t limits[] = {
        o->buffer_bytes_max ? o->buffer_bytes_max : BUFFER_BYTES_MAX,
        stk_machine_limits(m)->memory_available_bytes / 4 / count,
        nodes[node].memory_bytes / 4,
    };
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++)
        bytes = bytes < limits[i] ? bytes : limits[i];
    return bytes / (SLICE_BYTES * (uint64_t)STK_TEAM_WORKERS_MAX) *
           (SLICE_BYTES * (uint64_t)STK_TEAM_WORKERS_MAX);
}

// Cores whose nearest memory is `node`, at most as many as the CPU quota feeds.
static uint32_t cores_of(const stk_machine *m, uint32_t node, uint32_t *out)
{
    uint32_t count, found = 0, most = stk_machine_worker_count(m);
    const stk_core *cores = stk_machine_cores(m, &count);
    most = most < STK_TEAM_WORKERS_MAX ? most : STK_TEAM_WORKERS_MAX;
    for (uint32_t i = 0; i < count && found < most; i++)
        if (cores[i].node_index == node)
            out[found++] = i;
    return found;
}

struct stk_memory_probe {
    const stk_machine *machine;
    uint32_t runs, node_count;
    struct {
        uint64_t *buffer; // NULL: without memory, or nothing could be taken
        uint64_t bytes;
    } nodes[];
};

// A team on the cores of a node; NULL where there are none.
static stk_status open_team(const stk_machine *machine, uint32_t node, const stk_log *log,
                            uint32_t *cores, stk_team **out)
{
    const stk_team_options options = {.worker_count = cores_of(machine, node, cores), .log = log};
    *out = NULL;
    return options.worker_count ? stk_team_open(&options, out) : STK_OK;
}

// By the node's own cores, or the first that there are.
static stk_status fill(const stk_memory_probe *probe, uint32_t node, const stk_log *log)
{
    uint32_t cores[STK_TEAM_WORKERS_MAX];
    stk_team *team;
    stk_status status = open_team(probe->machine, node, log, cores, &team);
    for (uint32_t other = 0; status == STK_OK && !team && other < probe->node_count; other++)
        status = open_team(probe->machine, other, log, cores, &team);
    if (!team)
        return status;
    pair p = {.machine = probe->machine,
              .cores = cores,
              .buffer = probe->nodes[node].buffer,
              .bytes = probe->nodes[node].bytes,
              .active = stk_team_worker_count(team)};
    stk_team_run(team, fill_job, &p);
    stk_team_close(&team);
    return STK_OK;
}

stk_status stk_memory_probe_open(const stk_machine *machine,
                                 const stk_memory_probe_options *options, const stk_log *log,
                                 stk_memory_probe **out)
{
    uint32_t node_count;
    const stk_memory_node *nodes = stk_machine_nodes(machine, &node_count);
    if (!stk_machine_is_this(machine))
        return stk_fail(log, STK_INVALID, "only this machine's memory can be measured");
    stk_memory_probe *probe = calloc(1, sizeof *probe + node_count * sizeof *probe->nodes);
    if (!probe)
        return stk_fail(log, STK_NO_MEMORY, "no memory for a measurement");
    probe->machine = machine;
    probe->runs = options->runs ? options->runs : RUNS;
    probe->node_count = node_count;
    stk_binding binding = stk_binding_save();
    stk_status status = STK_OK;
    for (uint32_t i = 0; i < node_count && status == STK_OK; i++) {
        uint64_t bytes = buffer_bytes(machine, options, i);
        probe->nodes[i].bytes = bytes;
        probe->nodes[i].buffer = bytes ? stk_node_pages_alloc(machine, i, bytes) : NULL;
        if (probe->nodes[i].buffer)
            status = fill(probe, i, log);
        else
            stk_warn(log, "node %u: no memory for a measurement", nodes[i].os_index);
    }
    stk_binding_restore(&binding);
    if (status == STK_OK)
        *out = probe;
    else
        stk_memory_probe_close(&probe);
    return status;
}

void stk_memory_probe_close(stk_memory_probe **pointer)
{
    stk_memory_probe *probe = *pointer;
    for (uint32_t i = 0; probe && i < probe->node_count; i++)
        if (probe->nodes[i].buffer)
            stk_node_pages_free(probe->machine, probe->nodes[i].buffer, probe->nodes[i].bytes);
    free(probe);
    *pointer = NULL;
}

static void keep_better(uint64_t *kept, uint64_t other)
{
    *kept = *kept > other ? *kept : other;
}

static void probe_pair(const stk_memory_probe *probe, stk_team *team, const uint32_t *cores,
                       stk_probe_read *out)
{
    pair p = {.machine = probe->machine,
              .cores = cores,
              .buffer = probe->nodes[out->to_node].buffer,
              .bytes = probe->nodes[out->to_node].bytes,
              .active = stk_team_worker_count(team),
              .runs = probe->runs,
              .sum = stk_sum_best(NULL)};
    out->thread_count = p.active;
    out->buffer_bytes = p.bytes;
    uint64_t all = out->thread_count;
    keep_better(&out->read_mib_s, measure(team, &p, (uint32_t)all, false));
    keep_better(&out->runs_mib_s, measure(team, &p, (uint32_t)all, true));
    keep_better(&out->one_thread_mib_s, all == 1 ? out->read_mib_s : measure(team, &p, 1, false));
    keep_better(&out->one_thread_runs_mib_s,
                all == 1 ? out->runs_mib_s : measure(team, &p, 1, true));
}

stk_status stk_memory_probe_run(const stk_memory_probe *probe, const stk_log *log,
                                stk_probe_read *results, uint32_t capacity, uint32_t *count)
{
    uint32_t nodes = probe->node_count, at = 0, cores[STK_TEAM_WORKERS_MAX];
    stk_binding binding = stk_binding_save();
    stk_status status = STK_OK;
    for (uint32_t from = 0; from < nodes && status == STK_OK; from++) {
        stk_team *team;
        status = open_team(probe->machine, from, log, cores, &team);
        pair where = {.machine = probe->machine, .cores = cores};
        if (team)
            stk_team_run(team, bind_job, &where);
        for (uint32_t to = 0; to < nodes && team && at < capacity; to++) {
            stk_progress(log, "measuring memory", from * nodes + to, nodes * nodes);
            if (!probe->nodes[to].buffer)
                continue;
            if (at >= *count)
                results[at] = (stk_probe_read){.from_node = from, .to_node = to};
            probe_pair(probe, team, cores, &results[at++]);
        }
        stk_team_close(&team);
    }
    stk_progress(log, "measuring memory", 1, 1);
    stk_binding_restore(&binding);
    *count = at;
    if (status == STK_OK && at == 0)
        return stk_fail(log, STK_NO_MEMORY, "no memory could be measured");
    return status;
}
