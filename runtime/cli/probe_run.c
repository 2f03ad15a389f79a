#include "cli/probe_run.h"

#include "engine/kernel_rate.h"
#include "vulkan/probe.h"
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

// Reading 512 MiB in turns is as slow as reading 2 GiB, even below a last-level cache of 480 MiB
// (bench/2026-11-22-plan.md).
enum { PREFILL_ROWS = STK_KERNEL_RATE_ROWS_MAX, QUICK_RUNS = 2, QUICK_DISK_MS = 250 };
// Of each run: cores get used to wide vectors before their products are measured.
enum { QUICK_CORE_MS = 40, QUICK_PRODUCT_MS = 12 };
static const uint64_t QUICK_BUFFER_BYTES = 512 << 20, QUICK_FILE_BYTES = 64 << 20;
static const uint64_t DISK_MEMORY_BYTES = 128 << 20;

// product NULL: the one all machines are told by, of one thread, too.
static stk_status probe_rate(const stk_machine *machine, const stk_product *product, uint32_t rows,
                             bool is_quick, const stk_log *log, stk_probe_rate *out)
{
    const stk_kernel_rate_options options = {
        .product = product, .row_count = rows, .worker_count = stk_machine_worker_count(machine)};
    stk_kernel_rate *rate;
    stk_status status = stk_kernel_rate_open(&options, log, &rate);
    if (status != STK_OK)
        return status;
    const stk_probe_work_options work = {
        .work = stk_kernel_rate_run,
        .user = rate,
        .runs = is_quick ? QUICK_RUNS : 0,
        .milliseconds = !is_quick ? 0
                        : product ? QUICK_PRODUCT_MS
                                  : QUICK_CORE_MS,
        .skips_one = product != NULL,
    };
    status = stk_probe_work_rate(machine, &work, log, out);
    stk_kernel_rate_close(&rate);
    return status;
}

static void take_better(stk_probe_rate *kept, const stk_probe_rate *other)
{
    kept->thread_count = other->thread_count;
    kept->all_per_s = fmax(kept->all_per_s, other->all_per_s);
    kept->one_thread_per_s = fmax(kept->one_thread_per_s, other->one_thread_per_s);
}

// The better of what is in *results and what is measured now.
static stk_status probe_cores(const stk_machine *machine, bool is_quick, const stk_log *log,
                              stk_probe_results *results)
{
    stk_probe_rate one, many;
    stk_status status = probe_rate(machine, NULL, 1, is_quick, log, &one);
    if (status == STK_OK)
        status = probe_rate(machine, NULL, PREFILL_ROWS, is_quick, log, &many);
    if (status != STK_OK)
        return status;
    take_better(&results->decode_rate, &one);
    take_better(&results->prefill_rate, &many);
    return STK_OK;
}

static bool is_cores_own(const stk_product *p)
{
    return p->kind == STK_PRODUCT_DENSE && p->type == &stk_type_q4_0;
}

bool stk_probe_knows(const stk_probe_results *results, const stk_product *p)
{
    return is_cores_own(p) || stk_probe_results_product(results, stk_product_code(p)) != NULL;
}

static stk_status probe_product(const stk_product *product, const stk_machine *machine,
                                bool is_quick, const stk_log *log, stk_probe_results *results)
{
    stk_probe_rate one, many;
    stk_status status = probe_rate(machine, product, 1, is_quick, log, &one);
    if (status == STK_OK)
        status = probe_rate(machine, product, PREFILL_ROWS, is_quick, log, &many);
    if (status != STK_OK)
        return status;
    stk_known_product known = {.code = stk_product_code(product),
                               .one_per_s = one.one_thread_per_s,
                               .many_per_s = many.one_thread_per_s};
    stk_product_name(product, known.name);
    stk_probe_results_add_product(results, &known);
    return STK_OK;
}

static stk_status probe_memory(const stk_machine *machine, bool is_quick, const stk_log *log,
                               stk_probe_results *results)
{
    uint32_t nodes;
    stk_machine_nodes(machine, &nodes);
    free(results->reads);
    results->read_count = 0;
    results->reads = calloc((size_t)nodes * nodes, sizeof *results->reads);
    if (!results->reads)
        return stk_fail(log, STK_NO_MEMORY, "no memory for a measurement");
    const stk_probe_memory_options options = {.buffer_bytes_max = is_quick ? QUICK_BUFFER_BYTES : 0,
                                              .runs = is_quick ? QUICK_RUNS : 0};
    stk_status status = stk_probe_memory(machine, &options, log, results->reads, nodes * nodes,
                                         &results->read_count);
    results->measured_at = time(NULL);
    return status;
}

// Where the disk's reads end: little of what is free.
static uint64_t disk_memory_bytes(const stk_machine *machine)
{
    uint64_t share = stk_machine_limits(machine)->memory_available_bytes / 16;
    return share < DISK_MEMORY_BYTES ? share : DISK_MEMORY_BYTES;
}

static stk_status probe_disk(const stk_probe_run_options *o, const stk_machine *machine,
                             const stk_log *log, stk_probe_results *results)
{
    const stk_probe_disk_options options = {
        .path = o->path,
        .file_bytes_max = o->is_quick ? QUICK_FILE_BYTES : 0,
        .milliseconds_max = o->is_quick ? QUICK_DISK_MS : 0,
        .is_quick = o->is_quick,
        .memory_bytes_max = disk_memory_bytes(machine),
    };
    stk_probe_disk disk;
    stk_status status = stk_probe_disk_run(&options, log, &disk);
    if (status == STK_OK)
        stk_probe_results_add_disk(results, &disk, time(NULL));
    return status == STK_UNSUPPORTED ? STK_OK : status; // said, and the rest is good
}

// What disturbs cores only makes them slower, and often for as long as one measurement takes: so
// they are measured before the disk and after it, and the better counts.
static stk_status probe_rates(const stk_probe_run_options *o, const stk_machine *machine,
                              bool has_cores, const bool *is_wanted, const stk_log *log,
                              stk_probe_results *results)
{
    stk_status status = has_cores ? probe_cores(machine, o->is_quick, log, results) : STK_OK;
    for (uint32_t i = 0; i < o->product_count && status == STK_OK; i++)
        if (is_wanted[i])
            status = probe_product(&o->products[i], machine, o->is_quick, log, results);
    return status;
}

stk_status stk_probe_run(const stk_probe_run_options *o, const stk_machine *machine,
                         const stk_block_device *device, const stk_log *log,
                         stk_probe_results *results, bool *is_new)
{
    stk_status status = STK_OK;
    bool has_cores = o->is_refreshed || results->read_count == 0;
    bool has_disk = device->kind != STK_BLOCK_NONE &&
                    (o->is_refreshed || !stk_probe_results_disk(results, device));
    bool is_wanted[STK_PRODUCTS_MAX] = {false}, has_products = false;
    if (has_cores) {
        results->decode_rate = results->prefill_rate = (stk_probe_rate){0};
        results->product_count = 0;
    }
    for (uint32_t i = 0; i < o->product_count; i++) {
        is_wanted[i] = !stk_probe_knows(results, &o->products[i]);
        has_products |= is_wanted[i];
    }
    *is_new = has_cores || has_disk || has_products;
    if (has_cores)
        status = probe_memory(machine, o->is_quick, log, results);
    if (status == STK_OK)
        status = probe_rates(o, machine, has_cores, is_wanted, log, results);
    if (status == STK_OK && has_disk)
        status = probe_disk(o, machine, log, results);
    if (status == STK_OK)
        status = probe_rates(o, machine, has_cores, is_wanted, log, results);
    return status;
}

static stk_status probe_gpu(uint32_t index, const stk_log *log, stk_vk_speeds *out)
{
    char number[12];
    stk_vk *vk = NULL;
    snprintf(number, sizeof number, "%" PRIu32, index);
    const stk_vk_options options = {.log = log, .device = number};
    stk_status status = stk_vk_open(&options, &vk);
    if (status == STK_OK)
        status = stk_vk_probe(vk, 0, out);
    stk_vk_close(&vk);
    return status;
}

void stk_probe_run_gpu(const stk_vk_device_info *info, uint32_t index, bool is_refreshed,
                       const stk_log *log, stk_probe_results *results, bool *is_new)
{
    stk_vk_speeds speeds;
    bool is_known = stk_probe_results_gpu(results, info->name, info->driver, info->pci) != NULL;
    if (!info->usable || (is_known && !is_refreshed))
        return;
    stk_status status = probe_gpu(index, log, &speeds);
    if (status != STK_OK) {
        stk_warn(log, "%s: not measured (%s)", info->name, stk_status_name(status));
        return;
    }
    stk_probe_gpu gpu = {.upload_mib_s = speeds.upload_mib_s,
                         .download_mib_s = speeds.download_mib_s,
                         .copy_mib_s = speeds.copy_mib_s};
    snprintf(gpu.name, sizeof gpu.name, "%s", info->name);
    snprintf(gpu.driver, sizeof gpu.driver, "%s", info->driver);
    snprintf(gpu.pci, sizeof gpu.pci, "%s", info->pci);
    stk_probe_results_add_gpu(results, &gpu);
    *is_new = true;
}
