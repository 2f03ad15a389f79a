#include "cli/probe_run.h"

#include "engine/kernel_rate.h"
#include <stdlib.h>
#include <time.h>

enum { PREFILL_ROWS = 32, QUICK_DISK_MS = 300 };
static const uint64_t QUICK_BUFFER_BYTES = 1 << 30, QUICK_FILE_BYTES = 64 << 20;

static stk_status probe_rate(const stk_machine *machine, uint32_t rows, const stk_log *log,
                             stk_probe_rate *out)
{
    const stk_kernel_rate_options options = {.row_count = rows,
                                             .worker_count = stk_machine_worker_count(machine)};
    stk_kernel_rate *rate;
    stk_status status = stk_kernel_rate_open(&options, log, &rate);
    if (status != STK_OK)
        return status;
    status = stk_probe_work_rate(machine, stk_kernel_rate_run, rate, log, out);
    stk_kernel_rate_close(&rate);
    return status;
}

static stk_status probe_memory_and_cores(const stk_machine *machine, bool is_quick,
                                         const stk_log *log, stk_probe_results *results)
{
    uint32_t nodes;
    stk_machine_nodes(machine, &nodes);
    free(results->reads);
    results->read_count = 0;
    results->reads = calloc((size_t)nodes * nodes, sizeof *results->reads);
    if (!results->reads)
        return stk_fail(log, STK_NO_MEMORY, "no memory for a measurement");
    const stk_probe_memory_options options = {.buffer_bytes_max = is_quick ? QUICK_BUFFER_BYTES : 0,
                                              .runs = is_quick ? 2 : 0};
    stk_status status = stk_probe_memory(machine, &options, log, results->reads, nodes * nodes,
                                         &results->read_count);
    if (status == STK_OK)
        status = probe_rate(machine, 1, log, &results->decode_rate);
    if (status == STK_OK)
        status = probe_rate(machine, PREFILL_ROWS, log, &results->prefill_rate);
    results->measured_at = time(NULL);
    return status;
}

stk_status stk_probe_run(const stk_probe_run_options *o, const stk_machine *machine,
                         const stk_block_device *device, const stk_log *log,
                         stk_probe_results *results, bool *is_new)
{
    stk_status status = STK_OK;
    *is_new = false;
    if (o->is_refreshed || results->read_count == 0) {
        *is_new = true;
        status = probe_memory_and_cores(machine, o->is_quick, log, results);
    }
    if (status != STK_OK || device->kind == STK_BLOCK_NONE ||
        (!o->is_refreshed && stk_probe_results_disk(results, device)))
        return status;
    const stk_probe_disk_options options = {
        .path = o->path,
        .file_bytes_max = o->is_quick ? QUICK_FILE_BYTES : 0,
        .milliseconds_max = o->is_quick ? QUICK_DISK_MS : 0,
    };
    stk_probe_disk disk;
    *is_new = true;
    status = stk_probe_disk_run(&options, log, &disk);
    if (status == STK_OK)
        stk_probe_results_add_disk(results, &disk);
    return status == STK_UNSUPPORTED ? STK_OK : status; // said, and the rest is good
}
