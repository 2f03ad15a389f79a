#include "cli/topo.h"

#include "cli/probe_json.h"
#include "cpu/cpu.h"
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

static const char *cache_kind_name(stk_cache_kind kind)
{
    static const char *const names[] = {"unified", "data", "instruction"};
    return names[kind];
}

const char *stk_core_kind_name(stk_core_kind kind)
{
    static const char *const names[] = {"uniform", "performance", "efficiency"};
    return names[kind];
}

const char *stk_pci_class_name(stk_pci_class kind)
{
    static const char *const names[] = {"display", "storage", "network"};
    return names[kind];
}

// An index, or null.
static json_t *json_index(uint32_t index)
{
    return index == STK_INDEX_NONE ? json_null() : json_integer(index);
}

// A limit, or null.
static json_t *json_limit(uint64_t bytes)
{
    return bytes > INT64_MAX ? json_null() : json_integer((json_int_t)bytes);
}

static json_t *json_pus(stk_pu_set pus)
{
    json_t *array = json_array();
    for (uint32_t i = 0; i < pus.count; i++)
        json_array_append_new(array, json_integer(pus.os_index[i]));
    return array;
}

static json_t *json_packages(const stk_machine *m)
{
    uint32_t count;
    const stk_package *p = stk_machine_packages(m, &count);
    json_t *array = json_array();
    for (uint32_t i = 0; i < count; i++)
        json_array_append_new(array, json_pack("{s:I, s:s, s:I, s:o}", "os_index",
                                               (json_int_t)p[i].os_index, "cpu_model",
                                               p[i].cpu_model, "cores", (json_int_t)p[i].core_count,
                                               "pus", json_pus(p[i].pus)));
    return array;
}

static json_t *json_nodes(const stk_machine *m)
{
    uint32_t count;
    const stk_memory_node *n = stk_machine_nodes(m, &count);
    json_t *array = json_array();
    for (uint32_t i = 0; i < count; i++) {
        json_t *distance = json_array(), *bandwidth = json_array(), *latency = json_array();
        for (uint32_t to = 0; to < count; to++) {
            json_array_append_new(distance, json_integer(stk_machine_distance(m, i, to)));
            json_array_append_new(bandwidth,
                                  json_integer((json_int_t)stk_machine_bandwidth_mib_s(m, i, to)));
            json_array_append_new(latency,
                                  json_integer((json_int_t)stk_machine_latency_ns(m, i, to)));
        }
        json_array_append_new(
            array, json_pack("{s:I, s:I, s:s, s:I, s:o, s:o, s:o, s:o}", "os_index",
                             (json_int_t)n[i].os_index, "memory_bytes",
                             (json_int_t)n[i].memory_bytes, "kind", n[i].kind, "cores",
                             (json_int_t)n[i].core_count, "pus", json_pus(n[i].pus), "distance_to",
                             distance, "bandwidth_mib_s_to", bandwidth, "latency_ns_to", latency));
    }
    return array;
}

static json_t *json_caches(const stk_machine *m)
{
    uint32_t count;
    const stk_cache *c = stk_machine_caches(m, &count);
    json_t *array = json_array();
    for (uint32_t i = 0; i < count; i++)
        json_array_append_new(
            array, json_pack("{s:I, s:s, s:I, s:I, s:o}", "level", (json_int_t)c[i].level, "kind",
                             cache_kind_name(c[i].kind), "size_bytes", (json_int_t)c[i].size_bytes,
                             "line_bytes", (json_int_t)c[i].line_bytes, "pus", json_pus(c[i].pus)));
    return array;
}

static json_t *json_cores(const stk_machine *m)
{
    uint32_t count;
    const stk_core *c = stk_machine_cores(m, &count);
    json_t *array = json_array();
    for (uint32_t i = 0; i < count; i++)
        json_array_append_new(
            array,
            json_pack("{s:s, s:I, s:o, s:o, s:o}", "kind", stk_core_kind_name(c[i].kind), "rank",
                      (json_int_t)c[i].rank, "package", json_index(c[i].package_index), "node",
                      json_index(c[i].node_index), "pus", json_pus(c[i].pus)));
    return array;
}

static json_t *json_devices(const stk_machine *m)
{
    uint32_t count;
    const stk_pci_device *d = stk_machine_pci_devices(m, &count);
    json_t *array = json_array();
    for (uint32_t i = 0; i < count; i++)
        json_array_append_new(
            array,
            json_pack("{s:s, s:s, s:s, s:s, s:i, s:i, s:f, s:o}", "address", d[i].address, "class",
                      stk_pci_class_name(d[i].kind), "name", d[i].name, "os_names", d[i].os_names,
                      "vendor_id", (int)d[i].vendor_id, "device_id", (int)d[i].device_id,
                      "link_gb_s", d[i].link_gb_s, "node", json_index(d[i].node_index)));
    return array;
}

static json_t *json_limits(const stk_machine *m)
{
    const stk_limits *l = stk_machine_limits(m);
    return json_pack("{s:I, s:o, s:o, s:o, s:I, s:o, s:I}", "memory_total_bytes",
                     (json_int_t)l->memory_total_bytes, "memory_limit_bytes",
                     json_limit(l->memory_limit_bytes), "address_space_limit_bytes",
                     json_limit(l->address_space_limit_bytes), "locked_memory_limit_bytes",
                     json_limit(l->locked_memory_limit_bytes), "memory_available_bytes",
                     (json_int_t)l->memory_available_bytes, "cpu_quota",
                     l->cpu_quota > 0 ? json_real(l->cpu_quota) : json_null(), "workers",
                     (json_int_t)stk_machine_worker_count(m));
}

// Widest first, as in the text.
static json_t *json_kernels(void)
{
    json_t *array = json_array();
    const char *name;
    for (size_t i = 0; (name = stk_cpu_mask_at(i)); i++)
        json_array_append_new(array, json_string(name));
    return array;
}

int stk_topo_print_json(const stk_topo *topo)
{
    const stk_machine *m = topo->machine;
    char print[17];
    snprintf(print, sizeof print, "%016" PRIx64, stk_machine_equal_hash(m));
    json_t *json = json_pack(
        "{s:s, s:b, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "fingerprint", print,
        "this_machine", stk_machine_is_this(m), "packages", json_packages(m), "nodes",
        json_nodes(m), "caches", json_caches(m), "cores", json_cores(m), "pci_devices",
        json_devices(m), "vulkan_devices",
        topo->gpus ? stk_topo_gpus_to_json(topo->gpus, m) : json_array(), "kernels",
        stk_machine_is_this(m) ? json_kernels() : json_null(), "limits", json_limits(m), "disk",
        topo->disk ? stk_block_to_json(topo->disk) : json_null(), "measured",
        topo->results ? stk_probe_to_json(topo->results) : json_null());
    char *text = json ? json_dumps(json, JSON_REAL_PRECISION(9)) : NULL;
    json_decref(json);
    if (!text)
        return ENOMEM;
    puts(text);
    free(text);
    return 0;
}
