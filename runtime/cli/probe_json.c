#include "cli/probe_json.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

json_t *stk_block_to_json(const stk_block_device *d)
{
    return json_pack(
        "{s:s, s:s, s:s, s:s, s:b, s:b, s:I, s:I, s:I, s:I, s:i, s:s}", "name", d->name, "kind",
        stk_block_kind_name(d->kind), "model", d->model, "filesystem", d->filesystem, "rotational",
        d->is_rotational, "stacked", d->is_stacked, "size_bytes", (json_int_t)d->size_bytes,
        "sector_bytes", (json_int_t)d->sector_bytes, "request_bytes_max",
        (json_int_t)d->request_bytes_max, "queue_depth_max", (json_int_t)d->queue_depth_max,
        "numa_node", (int)d->numa_node, "pci_address", d->pci_address);
}

static json_t *read_to_json(const stk_probe_read *r)
{
    return json_pack(
        "{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "from_node", (json_int_t)r->from_node,
        "to_node", (json_int_t)r->to_node, "threads", (json_int_t)r->thread_count, "read_mib_s",
        (json_int_t)r->read_mib_s, "one_thread_mib_s", (json_int_t)r->one_thread_mib_s,
        "runs_mib_s", (json_int_t)r->runs_mib_s, "one_thread_runs_mib_s",
        (json_int_t)r->one_thread_runs_mib_s, "buffer_bytes", (json_int_t)r->buffer_bytes);
}

static json_t *rate_to_json(const stk_probe_rate *r)
{
    return json_pack("{s:I, s:f, s:f}", "threads", (json_int_t)r->thread_count, "all_per_s",
                     r->all_per_s, "one_thread_per_s", r->one_thread_per_s);
}

static json_t *product_to_json(const stk_known_product *p)
{
    return json_pack("{s:s, s:I, s:f, s:f}", "name", p->name, "code", (json_int_t)p->code,
                     "one_row_per_s", p->one_per_s, "many_rows_per_s", p->many_per_s);
}

static json_t *disk_to_json(const stk_known_disk *known)
{
    const stk_probe_disk *d = &known->probe;
    return json_pack("{s:s, s:I, s:I, s:b, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:f, s:f, s:I}",
                     "device", d->device.name, "device_bytes", (json_int_t)d->device.size_bytes,
                     "file_bytes", (json_int_t)d->file_bytes, "direct", d->is_direct, "engine",
                     d->engine, "sequential_mib_s", (json_int_t)d->sequential_mib_s,
                     "random_expert_mib_s", (json_int_t)d->random_expert_mib_s, "random_4kib_per_s",
                     (json_int_t)d->random_4kib_per_s, "random_4kib_latency_ns",
                     (json_int_t)d->random_4kib_latency_ns, "random_4kib_deep_per_s",
                     (json_int_t)d->random_4kib_deep_per_s, "probed_at",
                     (json_int_t)known->probed_at, "run_bytes_per_s", known->run_bytes_per_s,
                     "run_seconds", known->run_seconds, "run_at", (json_int_t)known->run_at);
}

static json_t *gpu_to_json(const stk_probe_gpu *g)
{
    return json_pack("{s:s, s:s, s:s, s:I, s:I, s:I}", "name", g->name, "driver", g->driver, "pci",
                     g->pci, "upload_mib_s", (json_int_t)g->upload_mib_s, "download_mib_s",
                     (json_int_t)g->download_mib_s, "copy_mib_s", (json_int_t)g->copy_mib_s);
}

json_t *stk_probe_to_json(const stk_probe_results *results)
{
    json_t *reads = json_array(), *disks = json_array(), *gpus = json_array(),
           *products = json_array();
    for (uint32_t i = 0; i < results->read_count; i++)
        json_array_append_new(reads, read_to_json(&results->reads[i]));
    for (uint32_t i = 0; i < results->product_count; i++)
        json_array_append_new(products, product_to_json(&results->products[i]));
    for (uint32_t i = 0; i < results->disk_count; i++)
        json_array_append_new(disks, disk_to_json(&results->disks[i]));
    for (uint32_t i = 0; i < results->gpu_count; i++)
        json_array_append_new(gpus, gpu_to_json(&results->gpus[i]));
    return json_pack(
        "{s:I, s:o, s:o, s:o, s:o, s:o, s:o}", "measured_at", (json_int_t)results->measured_at,
        "reads", reads, "int8_one_row", rate_to_json(&results->decode_rate), "int8_many_rows",
        rate_to_json(&results->prefill_rate), "products", products, "disks", disks, "gpus", gpus);
}

// --- back, trusting nothing

static bool take_u64(const json_t *object, const char *key, uint64_t max, uint64_t *out)
{
    const json_t *value = json_object_get(object, key);
    json_int_t number = json_is_integer(value) ? json_integer_value(value) : -1;
    *out = number < 0 ? 0 : (uint64_t)number;
    return number >= 0 && *out <= max;
}

static bool take_u32(const json_t *object, const char *key, uint32_t max, uint32_t *out)
{
    uint64_t wide;
    bool is_ok = take_u64(object, key, max, &wide);
    *out = is_ok ? (uint32_t)wide : 0;
    return is_ok;
}

static bool take_real(const json_t *object, const char *key, double *out)
{
    *out = json_number_value(json_object_get(object, key));
    return isfinite(*out) && *out >= 0 && json_is_number(json_object_get(object, key));
}

static bool take_rate(const json_t *json, stk_probe_rate *out)
{
    return take_u32(json, "threads", UINT32_MAX, &out->thread_count) &&
           take_real(json, "all_per_s", &out->all_per_s) &&
           take_real(json, "one_thread_per_s", &out->one_thread_per_s);
}

static bool take_read(const json_t *json, uint32_t node_count, stk_probe_read *out)
{
    return take_u32(json, "from_node", node_count - 1, &out->from_node) &&
           take_u32(json, "to_node", node_count - 1, &out->to_node) &&
           take_u32(json, "threads", UINT32_MAX, &out->thread_count) &&
           take_u64(json, "read_mib_s", INT64_MAX, &out->read_mib_s) &&
           take_u64(json, "one_thread_mib_s", INT64_MAX, &out->one_thread_mib_s) &&
           take_u64(json, "runs_mib_s", INT64_MAX, &out->runs_mib_s) &&
           take_u64(json, "one_thread_runs_mib_s", INT64_MAX, &out->one_thread_runs_mib_s) &&
           take_u64(json, "buffer_bytes", INT64_MAX, &out->buffer_bytes);
}

static bool take_text(const json_t *object, const char *key, size_t size, char *out)
{
    const char *text = json_string_value(json_object_get(object, key));
    if (!text || strlen(text) >= size)
        return false;
    memcpy(out, text, strlen(text) + 1);
    return true;
}

static bool take_product(const json_t *json, stk_known_product *out)
{
    return take_text(json, "name", sizeof out->name, out->name) &&
           take_u32(json, "code", UINT32_MAX, &out->code) && out->code != 0 &&
           take_real(json, "one_row_per_s", &out->one_per_s) && out->one_per_s > 0 &&
           take_real(json, "many_rows_per_s", &out->many_per_s) && out->many_per_s > 0;
}

static bool take_time(const json_t *object, const char *key, int64_t *out)
{
    uint64_t seconds;
    bool is_ok = take_u64(object, key, INT64_MAX, &seconds);
    *out = is_ok ? (int64_t)seconds : 0;
    return is_ok;
}

static bool take_disk(const json_t *json, stk_known_disk *known)
{
    stk_probe_disk *out = &known->probe;
    const char *engine = json_string_value(json_object_get(json, "engine"));
    if (!take_text(json, "device", sizeof out->device.name, out->device.name) || !engine)
        return false;
    out->engine = strcmp(engine, "io_uring") == 0 ? "io_uring" : "threads";
    out->is_direct = json_is_true(json_object_get(json, "direct"));
    return take_u64(json, "device_bytes", INT64_MAX, &out->device.size_bytes) &&
           take_u64(json, "file_bytes", INT64_MAX, &out->file_bytes) &&
           take_u64(json, "sequential_mib_s", INT64_MAX, &out->sequential_mib_s) &&
           take_u64(json, "random_expert_mib_s", INT64_MAX, &out->random_expert_mib_s) &&
           take_u64(json, "random_4kib_per_s", INT64_MAX, &out->random_4kib_per_s) &&
           take_u64(json, "random_4kib_latency_ns", INT64_MAX, &out->random_4kib_latency_ns) &&
           take_u64(json, "random_4kib_deep_per_s", INT64_MAX, &out->random_4kib_deep_per_s) &&
           take_time(json, "probed_at", &known->probed_at) &&
           take_real(json, "run_bytes_per_s", &known->run_bytes_per_s) &&
           take_real(json, "run_seconds", &known->run_seconds) &&
           take_time(json, "run_at", &known->run_at);
}

static bool take_gpu(const json_t *json, stk_probe_gpu *out)
{
    return take_text(json, "name", sizeof out->name, out->name) &&
           take_text(json, "driver", sizeof out->driver, out->driver) &&
           take_text(json, "pci", sizeof out->pci, out->pci) &&
           take_u64(json, "upload_mib_s", INT64_MAX, &out->upload_mib_s) &&
           take_u64(json, "download_mib_s", INT64_MAX, &out->download_mib_s) &&
           take_u64(json, "copy_mib_s", INT64_MAX, &out->copy_mib_s);
}

static bool take_all(json_t *json, uint32_t node_count, stk_probe_results *out)
{
    const json_t *reads = json_object_get(json, "reads"), *disks = json_object_get(json, "disks"),
                 *gpus = json_object_get(json, "gpus"),
                 *products = json_object_get(json, "products");
    uint64_t measured_at;
    if (!json_is_array(reads) || !json_is_array(disks) || !json_is_array(gpus) ||
        !json_is_array(products) || json_array_size(products) > STK_PRODUCTS_MAX ||
        json_array_size(gpus) > STK_PROBE_GPUS_MAX ||
        json_array_size(reads) > (size_t)node_count * node_count ||
        json_array_size(disks) > STK_PROBE_DISKS_MAX ||
        !take_u64(json, "measured_at", INT64_MAX, &measured_at) ||
        !take_rate(json_object_get(json, "int8_one_row"), &out->decode_rate) ||
        !take_rate(json_object_get(json, "int8_many_rows"), &out->prefill_rate))
        return false;
    out->measured_at = (int64_t)measured_at;
    out->reads = calloc(json_array_size(reads) + 1, sizeof *out->reads);
    if (!out->reads)
        return false;
    for (; out->read_count < json_array_size(reads); out->read_count++)
        if (!take_read(json_array_get(reads, out->read_count), node_count,
                       &out->reads[out->read_count]))
            return false;
    for (; out->product_count < json_array_size(products); out->product_count++)
        if (!take_product(json_array_get(products, out->product_count),
                          &out->products[out->product_count]))
            return false;
    for (; out->disk_count < json_array_size(disks); out->disk_count++)
        if (!take_disk(json_array_get(disks, out->disk_count), &out->disks[out->disk_count]))
            return false;
    for (; out->gpu_count < json_array_size(gpus); out->gpu_count++)
        if (!take_gpu(json_array_get(gpus, out->gpu_count), &out->gpus[out->gpu_count]))
            return false;
    return true;
}

bool stk_probe_from_json(json_t *json, uint32_t node_count, stk_probe_results *out)
{
    *out = (stk_probe_results){0};
    if (take_all(json, node_count, out))
        return true;
    stk_probe_results_free(out);
    return false;
}
