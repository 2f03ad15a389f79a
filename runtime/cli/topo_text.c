#include "cli/topo.h"

#include "base/size.h"
#include "cpu/cpu.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

static const char *plural(uint64_t count)
{
    return count == 1 ? "" : "s";
}

static void print_size(uint64_t bytes)
{
    char text[STK_SIZE_TEXT_BYTES];
    fputs(stk_size_format(bytes, text), stdout);
}

// "0-3,8-11"
static void print_pus(stk_pu_set pus)
{
    for (uint32_t i = 0, last; i < pus.count; i = last + 1) {
        for (last = i; last + 1 < pus.count && pus.os_index[last + 1] == pus.os_index[last] + 1;)
            last++;
        printf(last > i ? "%s%" PRIu32 "-%" PRIu32 : "%s%" PRIu32, i ? "," : "", pus.os_index[i],
               pus.os_index[last]);
    }
}

static bool is_inside(stk_pu_set inner, stk_pu_set outer)
{
    for (uint32_t i = 0; inner.count && i < outer.count; i++)
        if (outer.os_index[i] == inner.os_index[0])
            return true;
    return false;
}

static void print_nodes(const stk_machine *m, const stk_pu_set *scope)
{
    uint32_t count;
    const stk_memory_node *nodes = stk_machine_nodes(m, &count);
    for (uint32_t i = 0; i < count; i++) {
        bool has_cores = nodes[i].core_count > 0;
        if (scope ? !has_cores || !is_inside(nodes[i].pus, *scope) : has_cores)
            continue;
        printf("  node %-3" PRIu32 " ", nodes[i].os_index);
        print_size(nodes[i].memory_bytes);
        printf("%s%s", *nodes[i].kind ? " " : "", nodes[i].kind);
        fputs(has_cores ? ", threads " : ", no cores of its own, near threads ", stdout);
        print_pus(nodes[i].pus);
        putchar('\n');
    }
}

static bool is_same_cache(const stk_cache *a, const stk_cache *b)
{
    return a->level == b->level && a->kind == b->kind && a->size_bytes == b->size_bytes &&
           a->pus.count == b->pus.count;
}

// Caches come level by level: a run of equal ones is one line.
static void print_caches(const stk_machine *m, stk_pu_set scope)
{
    uint32_t count;
    const stk_cache *caches = stk_machine_caches(m, &count);
    for (uint32_t i = 0, same; i < count; i++) {
        if (!is_inside(caches[i].pus, scope))
            continue;
        for (same = 1; i + same < count && is_same_cache(&caches[i], &caches[i + same]) &&
                       is_inside(caches[i + same].pus, scope);)
            same++;
        printf("  cache    L%" PRIu32 "%s ", caches[i].level,
               caches[i].kind == STK_CACHE_INSTRUCTION ? " instruction"
               : caches[i].kind == STK_CACHE_DATA      ? " data"
                                                       : "");
        print_size(caches[i].size_bytes);
        if (same > 1)
            printf(" x %" PRIu32, same);
        printf(", %" PRIu32 " thread%s%s\n", caches[i].pus.count, plural(caches[i].pus.count),
               same > 1 ? " each" : "");
        i += same - 1;
    }
}

static void print_cores(const stk_machine *m, stk_pu_set scope)
{
    uint32_t count;
    const stk_core *cores = stk_machine_cores(m, &count);
    for (uint32_t i = 0, same; i < count; i++) {
        if (!is_inside(cores[i].pus, scope))
            continue;
        for (same = 1; i + same < count && cores[i + same].kind == cores[i].kind &&
                       cores[i + same].rank == cores[i].rank &&
                       cores[i + same].pus.count == cores[i].pus.count &&
                       is_inside(cores[i + same].pus, scope);)
            same++;
        printf("  cores    %" PRIu32 "%s%s", same, cores[i].kind == STK_CORE_UNIFORM ? "" : " ",
               cores[i].kind == STK_CORE_UNIFORM ? "" : stk_core_kind_name(cores[i].kind));
        printf(", %" PRIu32 " thread%s each\n", cores[i].pus.count, plural(cores[i].pus.count));
        i += same - 1;
    }
}

static void print_scope(const stk_machine *m, stk_pu_set scope)
{
    print_nodes(m, &scope);
    print_caches(m, scope);
    print_cores(m, scope);
}

// Only what is known: from each node to each.
static void print_matrix(const stk_machine *m, const char *title, const char *unit,
                         uint64_t (*get)(const stk_machine *m, uint32_t from, uint32_t to))
{
    uint32_t count;
    uint64_t known = 0;
    const stk_memory_node *nodes = stk_machine_nodes(m, &count);
    for (uint32_t i = 0; i < count; i++)
        for (uint32_t j = 0; j < count; j++)
            known |= get(m, i, j);
    if (count < 2 || count > 16 || !known)
        return;
    printf("%s between nodes%s\n", title, unit);
    for (uint32_t i = 0; i < count; i++) {
        printf("  node %-3" PRIu32, nodes[i].os_index);
        for (uint32_t j = 0; j < count; j++)
            printf(" %8" PRIu64, get(m, i, j));
        putchar('\n');
    }
}

static uint64_t distance(const stk_machine *m, uint32_t from, uint32_t to)
{
    return stk_machine_distance(m, from, to);
}

static void print_devices(const stk_machine *m)
{
    uint32_t count, node_count;
    const stk_pci_device *d = stk_machine_pci_devices(m, &count);
    const stk_memory_node *nodes = stk_machine_nodes(m, &node_count);
    for (uint32_t i = 0; i < count; i++) {
        printf("pci %s %s", d[i].address, stk_pci_class_name(d[i].kind));
        printf("%s%s%s%s", *d[i].name ? " " : "", d[i].name, *d[i].os_names ? " " : "",
               d[i].os_names);
        if (d[i].link_gb_s > 0)
            printf(", link %.1f GB/s", d[i].link_gb_s);
        if (d[i].node_index != STK_INDEX_NONE && node_count > 1)
            printf(", at node %" PRIu32, nodes[d[i].node_index].os_index);
        putchar('\n');
    }
}

// Widest first: the first ones are used unless --cpu-mask asks for others.
static void print_kernels(void)
{
    const char *name;
    fputs("kernels    ", stdout);
    for (size_t i = 0; (name = stk_cpu_mask_at(i)); i++)
        printf("%s%s", i ? ", " : "", name);
    putchar('\n');
}

static void print_limits(const stk_machine *m)
{
    const stk_limits *l = stk_machine_limits(m);
    fputs("memory     ", stdout);
    print_size(l->memory_available_bytes);
    fputs(" available of ", stdout);
    print_size(l->memory_total_bytes);
    if (l->memory_limit_bytes != STK_LIMIT_NONE) {
        fputs(", limited to ", stdout);
        print_size(l->memory_limit_bytes);
    }
    if (l->address_space_limit_bytes != STK_LIMIT_NONE) {
        fputs(", addresses limited to ", stdout);
        print_size(l->address_space_limit_bytes);
    }
    putchar('\n');
    if (l->cpu_quota > 0)
        printf("cpu quota  %.2f processors, %" PRIu32 " worker%s\n", l->cpu_quota,
               stk_machine_worker_count(m), plural(stk_machine_worker_count(m)));
}

static void print_disk(const stk_topo *topo)
{
    const stk_block_device *d = topo->disk;
    if (!d)
        return;
    if (d->kind == STK_BLOCK_NONE) {
        printf("disk       %s: on none, %s\n", topo->path, d->filesystem);
        return;
    }
    printf("disk       %s: %s, %s%s%s", topo->path, d->name, stk_block_kind_name(d->kind),
           *d->model ? " " : "", d->model);
    printf("%s, %s%s", d->is_stacked ? " (first of several)" : "", d->filesystem,
           *d->filesystem ? ", " : "");
    print_size(d->size_bytes);
    printf(", reads of up to ");
    print_size(d->request_bytes_max);
    printf(", queue %" PRIu32, d->queue_depth_max);
    if (d->numa_node >= 0)
        printf(", at node %" PRId32, d->numa_node);
    putchar('\n');
}

static void print_measured_disk(const stk_known_disk *known)
{
    const stk_probe_disk *d = &known->probe;
    printf("  disk %s: ", d->device.name);
    if (d->sequential_mib_s) // not by the quick measurement
        printf("sequential %" PRIu64 " MiB/s, ", d->sequential_mib_s);
    printf("random 2 MiB %" PRIu64 " MiB/s, random 4 KiB %" PRIu64 "/s one at a time (%.0f us)",
           d->random_expert_mib_s, d->random_4kib_per_s, (double)d->random_4kib_latency_ns * 1e-3);
    if (d->random_4kib_deep_per_s)
        printf(", %" PRIu64 "/s with 32", d->random_4kib_deep_per_s);
    printf(" (%s%s)\n", d->engine, d->is_direct ? "" : ", through the page cache");
    if (known->run_bytes_per_s > 0)
        printf("       runs that waited for it got %.0f MiB/s\n", known->run_bytes_per_s / 0x1p20);
}

static void print_rate(const char *what, const stk_probe_rate *r)
{
    printf("  int8 %s: %.1f G multiply-adds/s with %" PRIu32 " thread%s, %.1f with one\n", what,
           r->all_per_s * 1e-9, r->thread_count, plural(r->thread_count),
           r->one_thread_per_s * 1e-9);
}

static void print_results(const stk_topo *topo)
{
    const stk_probe_results *r = topo->results;
    uint32_t count;
    const stk_memory_node *nodes = stk_machine_nodes(topo->machine, &count);
    char when[32] = "";
    if (!r) {
        if (stk_machine_is_this(topo->machine))
            puts("measured   nothing yet: stoker topo --probe");
        return;
    }
    time_t seconds = (time_t)r->measured_at;
    struct tm parts;
    if (localtime_r(&seconds, &parts))
        strftime(when, sizeof when, "%Y-%m-%d %H:%M", &parts);
    printf("measured   %s\n", when);
    for (uint32_t i = 0; i < r->read_count; i++) {
        const stk_probe_read *p = &r->reads[i];
        printf("  node %" PRIu32 " reads node %" PRIu32 ": %" PRIu64 " MiB/s with %" PRIu32
               " thread%s, %" PRIu64 " with one (",
               nodes[p->from_node].os_index, nodes[p->to_node].os_index, p->read_mib_s,
               p->thread_count, plural(p->thread_count), p->one_thread_mib_s);
        print_size(p->buffer_bytes);
        printf("), in runs of 1.5 KiB %" PRIu64 " and %" PRIu64 "\n", p->runs_mib_s,
               p->one_thread_runs_mib_s);
    }
    print_rate("one row", &r->decode_rate);
    print_rate("many rows", &r->prefill_rate);
    for (uint32_t i = 0; i < r->product_count; i++)
        printf("  int8 %s: %.1f G multiply-adds/s of a core one row, %.1f many rows\n",
               r->products[i].name, r->products[i].one_per_s * 1e-9,
               r->products[i].many_per_s * 1e-9);
    for (uint32_t i = 0; i < r->disk_count; i++)
        print_measured_disk(&r->disks[i]);
}

void stk_topo_print_text(const stk_topo *topo)
{
    const stk_machine *m = topo->machine;
    uint32_t packages, nodes, cores;
    const stk_package *p = stk_machine_packages(m, &packages);
    stk_machine_nodes(m, &nodes);
    stk_machine_cores(m, &cores);
    printf("machine    %" PRIu32 " package%s, %" PRIu32 " memory node%s, %" PRIu32
           " core%s, %" PRIu32 " thread%s, fingerprint %016" PRIx64 "\n",
           packages, plural(packages), nodes, plural(nodes), cores, plural(cores),
           stk_machine_pus(m).count, plural(stk_machine_pus(m).count), stk_machine_equal_hash(m));
    for (uint32_t i = 0; i < packages; i++) {
        printf("package %-2" PRIu32 " %s\n", p[i].os_index, p[i].cpu_model);
        print_scope(m, p[i].pus);
    }
    if (packages == 0)
        print_scope(m, stk_machine_pus(m));
    print_nodes(m, NULL); // those without cores
    print_matrix(m, "distance", "", distance);
    print_matrix(m, "bandwidth", ", MiB/s, as the firmware says", stk_machine_bandwidth_mib_s);
    print_matrix(m, "latency", ", ns, as the firmware says", stk_machine_latency_ns);
    print_devices(m);
    if (topo->gpus)
        stk_topo_print_gpus(topo->gpus, m);
    if (stk_machine_is_this(m))
        print_kernels();
    print_limits(m);
    print_disk(topo);
    print_results(topo);
}
