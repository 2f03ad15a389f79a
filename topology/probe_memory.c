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
static uint64_t buffer_bytes(const stk_machine *m, const stk_probe_memory_options *o, uint32_t node)
{
    uint32_t count, level = 0;
    uint64_t cached = 0;
    const stk_cache *caches = stk_machine_caches(m, &count);
    for (uint32_t i = 0; i < count; i++)
        level = caches[i].level > level ? caches[i].level : level;
    for (uint32_t i = 0; i < count; i++)
        cached += caches[i].level == level ? caches[i].size_bytes : 0;
    uint64_t bytes = cached * 2 > BUFFER_BYTES_MIN ? cached * 2 : BUFFER_BYTES_MIN;
    uint64_t limits[] = {
        o->buffer_bytes_max ? o->buffer_bytes_max : BUFFER_BYTES_MAX,
        stk_machine_limits(m)->memory_available_bytes / 4,
        stk_machine_nodes(m, &count)[node].memory_bytes / 4,
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

static bool probe_pair(stk_team *team, pair *p, const stk_probe_memory_options *o, uint32_t to,
                       const stk_log *log, stk_probe_read *out)
{
    uint32_t count, os_index = stk_machine_nodes(p->machine, &count)[to].os_index;
    p->bytes = buffer_bytes(p->machine, o, to);
    p->buffer = p->bytes ? stk_node_pages_alloc(p->machine, to, p->bytes) : NULL;
    if (!p->buffer) {
        stk_warn(log, "node %u: no memory for a measurement", os_index);
        return false;
    }
    p->active = stk_team_worker_count(team);
    stk_team_run(team, fill_job, p);
    out->to_node = to;
    out->thread_count = p->active;
    out->buffer_bytes = p->bytes;
    bool is_one = out->thread_count == 1;
    out->read_mib_s = measure(team, p, out->thread_count, false);
    out->runs_mib_s = measure(team, p, out->thread_count, true);
    out->one_thread_mib_s = is_one ? out->read_mib_s : measure(team, p, 1, false);
    out->one_thread_runs_mib_s = is_one ? out->runs_mib_s : measure(team, p, 1, true);
    stk_node_pages_free(p->machine, p->buffer, p->bytes);
    return true;
}

stk_status stk_probe_memory(const stk_machine *machine, const stk_probe_memory_options *options,
                            const stk_log *log, stk_probe_read *results, uint32_t capacity,
                            uint32_t *count)
{
    uint32_t node_count, cores[STK_TEAM_WORKERS_MAX];
    stk_machine_nodes(machine, &node_count);
    if (!stk_machine_is_this(machine))
        return stk_fail(log, STK_INVALID, "only this machine's memory can be measured");
    pair p = {.machine = machine,
              .cores = cores,
              .runs = options->runs ? options->runs : RUNS,
              .sum = stk_sum_best(NULL)};
    stk_binding binding = stk_binding_save();
    stk_status status = STK_OK;
    *count = 0;
    for (uint32_t from = 0; from < node_count && status == STK_OK; from++) {
        stk_team *team = NULL;
        stk_team_options team_options = {.worker_count = cores_of(machine, from, cores),
                                         .log = log};
        if (team_options.worker_count == 0)
            continue;
        status = stk_team_open(&team_options, &team);
        for (uint32_t to = 0; to < node_count && status == STK_OK && *count < capacity; to++) {
            stk_progress(log, "measuring memory", from * node_count + to, node_count * node_count);
            results[*count] = (stk_probe_read){.from_node = from};
            *count += probe_pair(team, &p, options, to, log, &results[*count]);
        }
        stk_team_close(&team);
    }
    stk_progress(log, "measuring memory", 1, 1);
    stk_binding_restore(&binding);
    if (status == STK_OK && *count == 0)
        return stk_fail(log, STK_NO_MEMORY, "no memory could be measured");
    return status;
}
