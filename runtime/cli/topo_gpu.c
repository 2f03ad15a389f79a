#include "cli/topo_gpu.h"

#include "base/size.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

void stk_topo_gpus_find(stk_topo_gpus *gpus, const stk_log *log)
{
    memset(gpus, 0, sizeof *gpus);
    if (stk_vk_devices(log, gpus->infos, &gpus->count) != STK_OK)
        gpus->count = 0; // it said why
}

// What was measured of a device; NULL: nothing.
static const stk_probe_gpu *speeds_of(const stk_topo_gpus *gpus, uint32_t index)
{
    const stk_vk_device_info *d = &gpus->infos[index];
    return gpus->results ? stk_probe_results_gpu(gpus->results, d->name, d->driver, d->pci) : NULL;
}

// Where a device hangs off: an index into the machine's nodes by its PCI address, or
// STK_INDEX_NONE.
static uint32_t node_of(const stk_machine *machine, const stk_vk_device_info *info)
{
    uint32_t count;
    const stk_pci_device *d = stk_machine_pci_devices(machine, &count);
    for (uint32_t i = 0; i < count && *info->pci; i++)
        if (strcmp(d[i].address, info->pci) == 0)
            return d[i].node_index;
    return STK_INDEX_NONE;
}

// Device memory that the CPU writes directly: on a card, resizable BAR.
static bool is_all_mappable(const stk_vk_device_info *d)
{
    return d->local_bytes != 0 && d->mappable_bytes == d->local_bytes;
}

typedef struct feature {
    const char *name, *key;
    bool there;
} feature;

enum { FEATURES = 10 };

static void list_features(const stk_vk_device_info *d, feature out[FEATURES])
{
    const feature list[FEATURES] = {
        {"int8", "int8", d->has_int8},
        {"float16", "float16", d->has_float16},
        {"8-bit storage", "storage_8bit", d->has_storage8},
        {"16-bit storage", "storage_16bit", d->has_storage16},
        {"packed int8 dot products", "int8_dot", d->has_dot},
        {"accelerated", "int8_dot_accelerated", d->dot_accelerated},
        {"subgroup arithmetic", "subgroup_arithmetic", d->has_subgroup_arithmetic},
        {"host memory in place", "host_memory_import", d->import_align_bytes != 0},
        {"transfer queue", "transfer_queue", d->has_transfer_queue},
        {"memory budget", "memory_budget", d->has_budget},
    };
    memcpy(out, list, sizeof list);
}

static void print_memory(const stk_vk_device_info *d)
{
    char size[STK_SIZE_TEXT_BYTES], left[STK_SIZE_TEXT_BYTES];
    for (uint32_t i = 0; i < d->heap_count; i++) {
        const stk_vk_heap *h = &d->heaps[i];
        printf("  heap %-4" PRIu32 "%s, %s free for this process%s%s\n", i,
               stk_size_format(h->bytes, size), stk_size_format(h->free_bytes, left),
               h->is_local ? ", of the device" : "",
               h->is_local && h->is_mappable ? ", the CPU can write it" : "");
    }
}

static void print_gpu(const stk_topo_gpus *gpus, uint32_t index, const stk_machine *machine)
{
    const stk_vk_device_info *d = &gpus->infos[index];
    const stk_probe_gpu *speeds = speeds_of(gpus, index);
    uint32_t node = node_of(machine, d), node_count;
    const stk_memory_node *nodes = stk_machine_nodes(machine, &node_count);
    printf("vulkan %-3" PRIu32 " %s, %s, %s, Vulkan %u.%u", index, d->name,
           stk_vk_kind_name(d->kind), *d->driver ? d->driver : "driver unknown",
           d->api_version >> 22 & 0x7fu, d->api_version >> 12 & 0x3ffu);
    printf("%s%s", *d->pci ? ", pci " : "", d->pci);
    if (node != STK_INDEX_NONE && node_count > 1)
        printf(", at node %" PRIu32, nodes[node].os_index);
    putchar('\n');
    if (!d->usable)
        printf("  not usable: %s\n", d->unusable_because);
    print_memory(d);
    feature features[FEATURES];
    list_features(d, features);
    printf("  has      subgroups of %" PRIu32, d->subgroup_size);
    for (int i = 0; i < FEATURES; i++)
        if (features[i].there)
            printf(", %s", features[i].name);
    puts(d->unified ? ", memory shared with the CPU" : is_all_mappable(d) ? ", resizable BAR" : "");
    if (speeds)
        printf("  copies   %" PRIu64 " MiB/s to the device, %" PRIu64 " back, %" PRIu64
               " read and written within\n",
               speeds->upload_mib_s, speeds->download_mib_s, speeds->copy_mib_s);
}

void stk_topo_print_gpus(const stk_topo_gpus *gpus, const stk_machine *machine)
{
    for (uint32_t i = 0; i < gpus->count; i++)
        print_gpu(gpus, i, machine);
}

static json_t *speeds_to_json(const stk_probe_gpu *s)
{
    if (!s)
        return json_null();
    return json_pack("{s:I, s:I, s:I}", "upload_mib_s", (json_int_t)s->upload_mib_s,
                     "download_mib_s", (json_int_t)s->download_mib_s, "copy_mib_s",
                     (json_int_t)s->copy_mib_s);
}

static json_t *version_to_json(uint32_t version)
{
    char text[24];
    snprintf(text, sizeof text, "%u.%u.%u", version >> 22 & 0x7fu, version >> 12 & 0x3ffu,
             version & 0xfffu);
    return json_string(text);
}

static json_t *gpu_to_json(const stk_topo_gpus *gpus, uint32_t index, const stk_machine *machine)
{
    const stk_vk_device_info *d = &gpus->infos[index];
    uint32_t node = node_of(machine, d);
    json_t *heaps = json_array(), *has = json_object();
    for (uint32_t i = 0; i < d->heap_count; i++)
        json_array_append_new(
            heaps, json_pack("{s:I, s:I, s:b, s:b}", "bytes", (json_int_t)d->heaps[i].bytes,
                             "free_bytes", (json_int_t)d->heaps[i].free_bytes, "device_local",
                             d->heaps[i].is_local, "host_visible", d->heaps[i].is_mappable));
    feature features[FEATURES];
    list_features(d, features);
    for (int i = 0; i < FEATURES; i++)
        json_object_set_new(has, features[i].key, json_boolean(features[i].there));
    json_object_set_new(has, "resizable_bar", json_boolean(is_all_mappable(d) && !d->unified));
    json_object_set_new(has, "unified_memory", json_boolean(d->unified));
    return json_pack(
        "{s:I, s:s, s:s, s:s, s:s, s:o, s:o, s:b, s:s, s:o, s:o, s:I, s:I, s:I, s:o}", "index",
        (json_int_t)index, "name", d->name, "kind", stk_vk_kind_name(d->kind), "driver", d->driver,
        "pci_address", d->pci, "api_version", version_to_json(d->api_version), "node",
        node == STK_INDEX_NONE ? json_null() : json_integer(node), "usable", d->usable,
        "unusable_because", d->unusable_because, "heaps", heaps, "has", has, "subgroup_size",
        (json_int_t)d->subgroup_size, "storage_range_bytes_max",
        (json_int_t)d->storage_range_bytes_max, "allocation_bytes_max",
        (json_int_t)d->allocation_bytes_max, "measured", speeds_to_json(speeds_of(gpus, index)));
}

json_t *stk_topo_gpus_to_json(const stk_topo_gpus *gpus, const stk_machine *machine)
{
    json_t *array = json_array();
    for (uint32_t i = 0; i < gpus->count; i++)
        json_array_append_new(array, gpu_to_json(gpus, i, machine));
    return array;
}
