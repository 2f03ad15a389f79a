// topology/probe_disk.c: the four patterns of a disk measurement.
#include "topology/probe.h"

#include "base/pages.h"
#include "base/random.h"
#include "topology/probe_disk_impl.h"
#include "topology/probe_file.h"
#include <inttypes.h>
#include <string.h>

enum { LARGE_BYTES = 1 << 20, SMALL_BYTES = 4096, LARGE_DEPTH = 8, MILLISECONDS = 1000, RUNS = 3 };
// As the store reads experts, each about four such blocks (store/store_impl.h).
enum { EXPERT_READ_BYTES = 512 << 10, EXPERT_READS = 4, EXPERT_DEPTH = 16 };
static const uint64_t TEMPORARY_BYTES = 256 << 20;
// Where reads end in turns: 8 MiB stay in the caches, and the disk of the bench notes then gives a
// quarter more than into memory.
static const uint64_t MEMORY_BYTES = 128 << 20, MEMORY_BYTES_MIN = 8 << 20;

uint64_t stk_disk_offset(const stk_disk_pattern *pattern, uint64_t index)
{
    uint64_t blocks = pattern->file_bytes / pattern->block_bytes;
    if (!pattern->is_random)
        return index % blocks * pattern->block_bytes;
    uint64_t run = pattern->run_blocks ? pattern->run_blocks : 1;
    run = run < blocks ? run : blocks;
    stk_random random = stk_random_seeded(index / run);
    uint64_t first = stk_random_u64(&random) % (blocks - run + 1);
    return (first + index % run) * pattern->block_bytes;
}

uint8_t *stk_disk_target(const stk_disk_pattern *pattern, uint64_t index)
{
    uint64_t blocks = pattern->memory_bytes / pattern->block_bytes;
    return pattern->memory + index % blocks * pattern->block_bytes;
}

stk_status stk_disk_read_failed(const stk_disk_pattern *pattern, uint64_t offset, int64_t got,
                                const stk_log *log)
{
    if (got < 0)
        return stk_fail(log, STK_IO, "%s: a read at %" PRIu64 " failed: %s", pattern->name, offset,
                        strerror((int)-got));
    return stk_fail(log, STK_IO, "%s: only %" PRId64 " of %" PRIu32 " bytes at %" PRIu64,
                    pattern->name, got, pattern->block_bytes, offset);
}

typedef struct disk_probe {
    stk_disk_pattern pattern;
    const stk_disk_engine *engine;
    const stk_log *log;
    uint32_t done;
} disk_probe;

static uint64_t per_second(const stk_disk_result *r)
{
    return (uint64_t)((double)r->reads * 1e9 / (double)r->elapsed_ns);
}

static stk_status run(disk_probe *probe, stk_disk_result *out)
{
    stk_status status = probe->engine->run(&probe->pattern, probe->log, out);
    if (status == STK_UNSUPPORTED && probe->engine != &stk_disk_threads) {
        probe->engine = &stk_disk_threads;
        status = probe->engine->run(&probe->pattern, probe->log, out);
    }
    if (status == STK_OK && out->elapsed_ns == 0)
        out->elapsed_ns = 1;
    return status;
}

// The best of a few runs.
static stk_status measure(disk_probe *probe, uint32_t block_bytes, uint32_t depth, bool is_random,
                          stk_disk_result *out)
{
    stk_disk_result r;
    stk_status status = STK_OK;
    probe->pattern.block_bytes = block_bytes;
    probe->pattern.depth = depth;
    probe->pattern.is_random = is_random;
    stk_progress(probe->log, "measuring the disk", probe->done++, 4);
    *out = (stk_disk_result){.elapsed_ns = 1};
    for (int i = 0; i < RUNS && status == STK_OK; i++) {
        status = run(probe, &r);
        if (status == STK_OK && per_second(&r) > per_second(out))
            *out = r;
    }
    return status;
}

static stk_status measure_all(disk_probe *probe, bool is_quick, stk_probe_disk *out)
{
    stk_disk_result r;
    probe->pattern.run_blocks = EXPERT_READS;
    stk_status status = measure(probe, EXPERT_READ_BYTES, EXPERT_DEPTH, true, &r);
    probe->pattern.run_blocks = 1;
    if (status != STK_OK)
        return status;
    out->random_expert_mib_s = per_second(&r) * EXPERT_READ_BYTES >> 20;
    status = measure(probe, SMALL_BYTES, 1, true, &r);
    if (status != STK_OK)
        return status;
    out->random_4kib_per_s = per_second(&r);
    out->random_4kib_latency_ns = r.reads ? r.elapsed_ns / r.reads : 0;
    if (is_quick)
        return STK_OK;
    status = measure(probe, LARGE_BYTES, LARGE_DEPTH, false, &r);
    if (status != STK_OK)
        return status;
    out->sequential_mib_s = per_second(&r); // of 1 MiB each
    status = measure(probe, SMALL_BYTES, STK_DISK_DEPTH_MAX, true, &r);
    if (status == STK_OK)
        out->random_4kib_deep_per_s = per_second(&r);
    return status;
}

stk_status stk_probe_disk_run(const stk_probe_disk_options *options, const stk_log *log,
                              stk_probe_disk *out)
{
    stk_probe_file file;
    stk_probe_disk result = {0};
    stk_status status = stk_block_device_of_path(options->path, log, &result.device);
    if (status != STK_OK)
        return status;
    status = stk_probe_file_open(
        options->path, options->file_bytes_max ? options->file_bytes_max : TEMPORARY_BYTES, log,
        &file);
    if (status != STK_OK)
        return status;
    uint64_t milliseconds = options->milliseconds_max ? options->milliseconds_max : MILLISECONDS;
    uint64_t memory = options->memory_bytes_max ? options->memory_bytes_max : MEMORY_BYTES;
    memory = memory > MEMORY_BYTES_MIN ? memory : MEMORY_BYTES_MIN;
    disk_probe probe = {
        .engine = options->no_uring ? &stk_disk_threads : &stk_disk_uring,
        .log = log,
        .pattern = {.fd = file.fd,
                    .name = options->path,
                    .file_bytes = file.size_bytes,
                    .nanoseconds_max = milliseconds * 1000000 / RUNS,
                    .memory = stk_pages_alloc(memory),
                    .memory_bytes = memory},
    };
    if (probe.pattern.memory) // taken before anything is timed
        memset(probe.pattern.memory, 1, memory);
    if (probe.pattern.memory)
        status = measure_all(&probe, options->is_quick, &result);
    else
        status = stk_fail(log, STK_NO_MEMORY, "no memory for a measurement");
    stk_progress(log, "measuring the disk", 1, 1);
    result.file_bytes = file.size_bytes;
    result.is_direct = file.is_direct;
    result.engine = probe.engine->name;
    stk_pages_free(probe.pattern.memory, memory);
    stk_probe_file_close(&file);
    if (status == STK_OK)
        *out = result;
    return status;
}
