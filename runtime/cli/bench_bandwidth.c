// cli/bench_bandwidth.c: how fast this machine reads memory, by plain streaming.
//
// Each thread reads pieces of 1 MiB of its memory node's part of a large buffer from front to back
// and does nothing else; all nodes at once.
// Of six loops tried on one busy core, one stream with a prefetch 2 KiB ahead read 19.9 GB/s of CPU
// time (medians of four), without the prefetch 18.3, four streams at once 16.9.
#include "base/pages.h"
#include "base/team.h"
#include "cli/bench.h"
#include <stdatomic.h>
#include <string.h>
#include <time.h>

enum { PIECE_BYTES = 1 << 20, AHEAD_BYTES = 2048 };

typedef uint64_t vector __attribute__((vector_size(16)));

// One memory node's part of the buffer.
typedef struct part {
    uint8_t *data;
    uint32_t pieces;
    atomic_ullong end_ns; // when the last of its workers had finished
} part;

typedef struct job {
    part parts[STK_NODES_MAX];
    atomic_ullong sum; // so that the reading cannot be left out
} job;

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static vector load(const uint8_t *at)
{
    vector v;
    memcpy(&v, at, sizeof v);
    return v;
}

static uint64_t read_piece(const uint8_t *piece)
{
    vector sums[4] = {{0}};
    for (uint32_t at = 0; at < PIECE_BYTES; at += 64) {
        const uint8_t *line = piece + at;
        __builtin_prefetch(line + AHEAD_BYTES, 0, 3);
        for (uint32_t i = 0; i < 4; i++)
            sums[i] ^= load(line + 16 * i);
    }
    vector all = sums[0] ^ sums[1] ^ sums[2] ^ sums[3];
    return all[0] ^ all[1];
}

static void touch(stk_worker *worker, void *argument)
{
    part *p = &((job *)argument)->parts[worker->node];
    uint32_t piece, end;
    while (stk_worker_take_from(worker, worker->node, p->pieces, 1, &piece, &end))
        memset(p->data + (size_t)piece * PIECE_BYTES, (int)(piece | 1), PIECE_BYTES);
}

static void stream(stk_worker *worker, void *argument)
{
    job *j = argument;
    part *p = &j->parts[worker->node];
    uint32_t piece, end;
    uint64_t sum = 0;
    while (stk_worker_take_from(worker, worker->node, p->pieces, 1, &piece, &end))
        sum ^= read_piece(p->data + (size_t)piece * PIECE_BYTES);
    atomic_fetch_xor_explicit(&j->sum, sum, memory_order_relaxed);
    // relaxed: read after the team has come together
    unsigned long long now = now_ns(), seen = 0;
    seen = atomic_load_explicit(&p->end_ns, memory_order_relaxed);
    while (seen < now && !atomic_compare_exchange_weak_explicit(
                             &p->end_ns, &seen, now, memory_order_relaxed, memory_order_relaxed))
        ;
}

// Divides the pieces among the nodes in proportion to their workers.
static void place(job *j, stk_nodes *nodes, uint8_t *data, uint32_t pieces)
{
    uint32_t count;
    stk_nodes_list(nodes, &count);
    for (uint32_t n = 0; n < count; n++) {
        uint32_t begin = stk_nodes_share_begin(nodes, n, pieces);
        part *p = &j->parts[n];
        p->data = data + (size_t)begin * PIECE_BYTES;
        p->pieces = stk_nodes_share_begin(nodes, n + 1, pieces) - begin;
        // Where the system refuses, the node's workers are the first to touch the pages.
        (void)stk_nodes_place(nodes, n, p->data, (size_t)p->pieces * PIECE_BYTES);
    }
}

// The parts' bytes/s since begin_ns.
static void add_samples(const job *j, uint32_t node_count, uint64_t begin_ns,
                        stk_bench_bandwidths *out)
{
    uint64_t last_ns = begin_ns, pieces = 0;
    for (uint32_t n = 0; n < node_count; n++) {
        uint64_t end_ns = atomic_load_explicit(&j->parts[n].end_ns, memory_order_relaxed);
        uint64_t ns = end_ns - begin_ns;
        stk_bench_samples_add(&out->nodes[n],
                              (double)j->parts[n].pieces * PIECE_BYTES / ((double)ns * 1e-9));
        last_ns = end_ns > last_ns ? end_ns : last_ns;
        pieces += j->parts[n].pieces;
    }
    stk_bench_samples_add(&out->all,
                          (double)pieces * PIECE_BYTES / ((double)(last_ns - begin_ns) * 1e-9));
}

stk_status stk_bench_bandwidth(uint32_t threads, uint32_t node_count, uint64_t bytes,
                               uint32_t passes, const stk_log *log, stk_bench_bandwidths *out)
{
    job j = {0};
    const stk_team_options options = {
        .worker_count = threads, .node_count = node_count, .pin = true, .log = log};
    stk_team *team = NULL;
    uint32_t pieces = (uint32_t)(bytes / PIECE_BYTES);
    pieces = pieces > STK_NODES_MAX ? pieces : STK_NODES_MAX;
    size_t size = (size_t)pieces * PIECE_BYTES + AHEAD_BYTES;
    uint8_t *data = stk_pages_alloc(size);
    if (!data)
        return stk_fail(log, STK_NO_MEMORY, "no memory to measure the bandwidth");
    stk_status status = stk_team_open(&options, &team);
    if (status == STK_OK) {
        stk_nodes_list(stk_team_nodes(team), &out->node_count);
        place(&j, stk_team_nodes(team), data, pieces);
        stk_team_run(team, touch, &j);
        for (uint32_t i = 0; i < passes; i++) {
            uint64_t begin_ns = now_ns();
            stk_team_run(team, stream, &j);
            add_samples(&j, out->node_count, begin_ns, out);
        }
        stk_team_close(&team);
    }
    stk_pages_free(data, size);
    return status;
}

uint64_t stk_bench_bandwidth_bytes(const stk_bench_machine *machine)
{
    uint64_t wanted = UINT64_C(1) << 30, room = stk_bench_available_bytes() / 2;
    if (2 * machine->llc_bytes > wanted)
        wanted = 2 * machine->llc_bytes;
    return wanted < room ? wanted : room;
}
