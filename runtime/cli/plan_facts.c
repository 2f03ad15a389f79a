#include "cli/plan_facts.h"

#include "cli/probe_run.h"
#include "engine/speed_probe.h"
#include "store/sidecar.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { PATH_BYTES = 4096 };

// Where nothing was measured: an ordinary desktop of some years ago.
static const double ASSUMED_NODE_BYTES_PER_S = 20e9, ASSUMED_THREAD_BYTES_PER_S = 8e9;
static const double ASSUMED_FAR_BYTES_PER_S = 8e9; // memory without cores of its own
static const double ASSUMED_RUNS_SHARE = 0.8;      // of that in short runs
static const double ASSUMED_DECODE_MACS = 15e9, ASSUMED_PREFILL_MACS = 50e9;
static const double ASSUMED_DISK_BYTES_PER_S = 1e9, ASSUMED_DISK_LATENCY_S = 120e-6;
// Two cores meet in a microsecond or so; every further one adds a cache line's way.
static const double BARRIER_S = 1.0e-6, BARRIER_WORKER_S = 0.05e-6;

static double mib(uint64_t mib_s)
{
    return (double)mib_s * 0x1p20;
}

// The best that anybody reads from node `to`; its own cores first.
static const stk_probe_read *find_read(const stk_probe_results *results, uint32_t to)
{
    const stk_probe_read *best = NULL;
    for (uint32_t i = 0; results && i < results->read_count; i++) {
        const stk_probe_read *r = &results->reads[i];
        if (r->to_node == to && (!best || r->from_node == to ||
                                 (best->from_node != to && r->read_mib_s > best->read_mib_s)))
            best = r;
    }
    return best;
}

static void add_node(const stk_machine *machine, const stk_memory_node *node, uint32_t index,
                     const stk_probe_results *results, stk_plan_facts *out)
{
    stk_plan_machine *m = &out->machine;
    stk_plan_node *n = &m->nodes[m->node_count++];
    const stk_probe_read *read = find_read(results, index);
    uint64_t firmware_mib_s = stk_machine_bandwidth_mib_s(machine, index, index);
    double runs_share = ASSUMED_RUNS_SHARE, one_runs_share = ASSUMED_RUNS_SHARE;
    *n = (stk_plan_node){.core_count = node->core_count,
                         .memory_bytes = node->memory_bytes,
                         .read_bytes_per_s = node->core_count ? ASSUMED_NODE_BYTES_PER_S
                                                              : ASSUMED_FAR_BYTES_PER_S,
                         .one_bytes_per_s = ASSUMED_THREAD_BYTES_PER_S};
    if (read && read->read_mib_s && read->one_thread_mib_s) {
        n->read_bytes_per_s = mib(read->read_mib_s);
        n->one_bytes_per_s = mib(read->one_thread_mib_s);
        runs_share = (double)read->runs_mib_s / (double)read->read_mib_s;
        one_runs_share = (double)read->one_thread_runs_mib_s / (double)read->one_thread_mib_s;
        out->has_memory_probe = true;
    } else if (firmware_mib_s) {
        n->read_bytes_per_s = mib(firmware_mib_s);
    }
    // Eight cores read no more than all cores do.
    if (n->one_bytes_per_s > n->read_bytes_per_s)
        n->one_bytes_per_s = n->read_bytes_per_s;
    n->runs_bytes_per_s = n->read_bytes_per_s * fmin(runs_share, 1);
    n->one_runs_bytes_per_s = n->one_bytes_per_s * fmin(one_runs_share, 1);
}

static void add_rates(const stk_probe_results *results, stk_plan_machine *m)
{
    m->rate_count = results->product_count;
    for (uint32_t i = 0; i < m->rate_count; i++) {
        const stk_known_product *p = &results->products[i];
        m->rates[i] = (stk_plan_rate){p->code, p->one_per_s, p->many_per_s};
    }
}

// results NULL or empty, disk NULL: speeds are assumed. now: seconds since 1970.
static void facts_of(const stk_machine *machine, const stk_probe_results *results,
                     const stk_known_disk *disk, int64_t now, stk_plan_facts *out)
{
    uint32_t count;
    const stk_memory_node *nodes = stk_machine_nodes(machine, &count);
    const stk_limits *limits = stk_machine_limits(machine);
    *out = (stk_plan_facts){.is_this = stk_machine_is_this(machine),
                            .cpu_quota = limits->cpu_quota};
    stk_plan_machine *m = &out->machine;
    uint64_t all = 0;
    for (uint32_t i = 0; i < count && m->node_count < STK_PLAN_NODES_MAX; i++)
        if (nodes[i].memory_bytes || nodes[i].core_count) {
            add_node(machine, &nodes[i], i, results, out);
            all += nodes[i].memory_bytes;
        }
    stk_machine_cores(machine, &out->cores);
    m->worker_max = stk_machine_worker_count(machine);
    m->memory_available_bytes = limits->memory_available_bytes < all || all == 0
                                    ? limits->memory_available_bytes
                                    : all;
    m->memory_hard_bytes = limits->memory_limit_bytes < all ? limits->memory_limit_bytes : all;
    m->decode_macs_per_s = ASSUMED_DECODE_MACS;
    m->prefill_macs_per_s = ASSUMED_PREFILL_MACS;
    if (results && results->decode_rate.thread_count && results->decode_rate.all_per_s > 0) {
        m->decode_macs_per_s = results->decode_rate.all_per_s / results->decode_rate.thread_count;
        m->prefill_macs_per_s = results->prefill_rate.all_per_s /
                                results->prefill_rate.thread_count;
        m->decode_alone_macs_per_s = results->decode_rate.one_thread_per_s;
        m->prefill_alone_macs_per_s = results->prefill_rate.one_thread_per_s;
        out->measured_at = results->measured_at;
        add_rates(results, m);
    }
    m->barrier_s = BARRIER_S + BARRIER_WORKER_S * m->worker_max;
    m->disk_bytes_per_s = ASSUMED_DISK_BYTES_PER_S;
    m->disk_latency_s = ASSUMED_DISK_LATENCY_S;
    if (disk && disk->probe.random_expert_mib_s) {
        m->disk_bytes_per_s = stk_known_disk_bytes_per_s(disk, now);
        m->disk_latency_s = (double)disk->probe.random_4kib_latency_ns * 1e-9;
        out->disk = *disk;
        out->has_disk_probe = true;
    }
}

// With the speeds that were measured, or (NULL) those usual for its kind.
static void add_gpu(stk_plan_facts *facts, const stk_vk_device_info *info,
                    const stk_probe_gpu *measured)
{
    stk_plan_machine *m = &facts->machine;
    if (m->gpu_count == STK_PLAN_GPUS_MAX || !info->usable)
        return;
    bool is_discrete = info->kind == STK_VK_DISCRETE;
    uint64_t bytes = info->has_budget ? info->local_free_bytes : info->local_bytes;
    stk_plan_gpu *g = &m->gpus[m->gpu_count++];
    *g = (stk_plan_gpu){.is_integrated = info->unified || info->kind == STK_VK_CPU,
                        .memory_bytes = bytes / 10 * 9,
                        .read_bytes_per_s = is_discrete ? 250e9 : m->nodes[0].read_bytes_per_s,
                        .operations_per_s = is_discrete ? 5e12 : 500e9,
                        .submit_s = stk_speed_gpu_layer_s(is_discrete),
                        .link_bytes_per_s = is_discrete ? 12e9 : m->nodes[0].read_bytes_per_s};
    if (measured && measured->copy_mib_s)
        g->read_bytes_per_s = mib(measured->copy_mib_s);
    if (measured && measured->upload_mib_s)
        g->link_bytes_per_s = mib(measured->upload_mib_s);
    // Nothing that shares memory reads it faster than all cores do.
    if (g->is_integrated)
        g->read_bytes_per_s = fmin(g->read_bytes_per_s, m->nodes[0].read_bytes_per_s);
    g->is_software = info->kind == STK_VK_CPU;
    if (g->is_software) // with more in between
        g->operations_per_s = m->decode_macs_per_s / 4;
    g->is_measured = measured != NULL;
    snprintf(g->name, sizeof g->name, "%.63s", info->name);
}

// The device that would be used, its speeds measured if that is wanted.
static void add_gpus(const stk_plan_facts_options *o, const stk_log *log,
                     stk_probe_results *results, bool *is_new, stk_plan_facts *out)
{
    stk_vk_device_info *infos = calloc(STK_VK_DEVICES_MAX, sizeof *infos);
    uint32_t count = 0, index;
    const char *choice = strncmp(o->device, "vulkan:", 7) == 0 ? o->device + 7 : NULL;
    if (infos && stk_vk_devices(log, infos, &count) == STK_OK &&
        stk_vk_choose(infos, count, choice, log, &index) == STK_OK) {
        const stk_vk_device_info *d = &infos[index];
        if (strcmp(o->device, "auto") == 0 && d->kind == STK_VK_CPU) {
            free(infos); // as the engine has it
            return;
        }
        if (o->measures || o->is_refreshed)
            stk_probe_run_gpu(d, index, o->is_refreshed, log, results, is_new);
        add_gpu(out, d, stk_probe_results_gpu(results, d->name, d->driver, d->pci));
    }
    free(infos);
}

// Packed experts are what will be read, where there are some.
static const char *read_path(const char *model_path, char path[PATH_BYTES])
{
    bool is_packed = stk_sidecar_default_path(model_path, path, PATH_BYTES) &&
                     access(path, R_OK) == 0;
    return is_packed ? path : model_path;
}

static bool misses_product(const stk_probe_results *results, const stk_product *products,
                           uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        if (!stk_probe_knows(results, &products[i]))
            return true;
    return false;
}

// What was measured of this machine, and measures the rest if asked.
static stk_status measure(const stk_plan_facts_options *o, const stk_machine *machine,
                          const stk_log *log, stk_plan_facts *out)
{
    stk_probe_results results = {0};
    stk_block_device device;
    char path[PATH_BYTES];
    stk_product products[STK_PRODUCTS_MAX];
    bool is_new = false;
    stk_status status = stk_block_device_of_path(o->path, log, &device);
    if (status != STK_OK)
        return status;
    char *cache = stk_probe_cache_path();
    bool is_known = cache && stk_probe_cache_load(cache, machine, log, &results);
    uint32_t product_count = o->measures ? stk_products_of_file(o->path, products) : 0;
    bool is_missing = results.read_count == 0 ||
                      misses_product(&results, products, product_count) ||
                      (device.kind != STK_BLOCK_NONE && !stk_probe_results_disk(&results, &device));
    if (o->is_refreshed || (o->measures && (!is_known || is_missing))) {
        stk_warn(log, "measuring this machine, a few seconds%s",
                 o->is_refreshed ? ""
                 : cache         ? "; it is remembered (stoker topo --probe takes longer)"
                                 : ", each time: without HOME there is nowhere to remember it");
        const stk_probe_run_options run = {.path = read_path(o->path, path),
                                           .is_quick = true,
                                           .is_refreshed = o->is_refreshed,
                                           .products = products,
                                           .product_count = product_count};
        status = stk_probe_run(&run, machine, &device, log, &results, &is_new);
    }
    if (status == STK_OK)
        facts_of(machine, &results, stk_probe_results_disk(&results, &device), time(NULL), out);
    if (status == STK_OK && o->device && strcmp(o->device, "cpu") != 0)
        add_gpus(o, log, &results, &is_new, out);
    if (status == STK_OK && is_new && cache)
        stk_probe_cache_store(cache, machine, &results, log);
    stk_probe_results_free(&results);
    free(cache);
    return status;
}

stk_status stk_plan_facts_find(const stk_plan_facts_options *o, const stk_log *log,
                               stk_plan_facts *out)
{
    const stk_machine_options options = {.topology = o->topology};
    stk_machine *machine = NULL;
    stk_status status = stk_machine_open(&options, log, &machine);
    if (status != STK_OK)
        return status;
    if (stk_machine_is_this(machine))
        status = measure(o, machine, log, out);
    else
        facts_of(machine, NULL, NULL, 0, out);
    stk_machine_close(&machine);
    return status;
}
