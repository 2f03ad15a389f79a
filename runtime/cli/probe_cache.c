#include "cli/probe_cache.h"

#include "cli/probe_json.h"
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

// Raise the version when a figure is measured in another way, or kernels become much faster.
enum { VERSION = 7, MACHINES_MAX = 16, FILE_BYTES_MAX = 16 << 20, FINGERPRINT_BYTES = 17 };

static const double PROBE_S = 0.25; // that the quick probe looks at a disk

void stk_probe_results_free(stk_probe_results *results)
{
    free(results->reads);
    *results = (stk_probe_results){0};
}

static bool is_same_disk(const stk_block_device *a, const stk_block_device *b)
{
    return *a->name && strcmp(a->name, b->name) == 0 && a->size_bytes == b->size_bytes;
}

static uint32_t find_disk(const stk_probe_results *results, const stk_block_device *device)
{
    uint32_t at = 0;
    while (at < results->disk_count && !is_same_disk(&results->disks[at].probe.device, device))
        at++;
    return at;
}

const stk_known_disk *stk_probe_results_disk(const stk_probe_results *results,
                                             const stk_block_device *device)
{
    uint32_t at = find_disk(results, device);
    return at < results->disk_count ? &results->disks[at] : NULL;
}

void stk_probe_results_add_disk(stk_probe_results *results, const stk_probe_disk *disk, int64_t at)
{
    uint32_t i = find_disk(results, &disk->device);
    if (!*disk->device.name)
        return;
    if (i == STK_PROBE_DISKS_MAX) { // full: the first is the oldest
        memmove(results->disks, results->disks + 1, (--i) * sizeof *results->disks);
        results->disk_count--;
    }
    if (i == results->disk_count)
        results->disks[results->disk_count++] = (stk_known_disk){.run_at = 0};
    results->disks[i].probe = *disk;
    results->disks[i].probed_at = at;
}

bool stk_probe_results_use_disk(stk_probe_results *results, const stk_block_device *device,
                                const stk_measured *run, int64_t at)
{
    uint32_t i = find_disk(results, device);
    if (i == results->disk_count)
        return false;
    stk_known_disk *d = &results->disks[i];
    const stk_measured before = {d->run_bytes_per_s, d->run_seconds, (double)(at - d->run_at)};
    const stk_measured both = stk_history_add(run, &before);
    d->run_bytes_per_s = both.bytes_per_s;
    d->run_seconds = both.seconds;
    d->run_at = at;
    return true;
}

double stk_known_disk_bytes_per_s(const stk_known_disk *d, int64_t now)
{
    const stk_measured known[] = {
        {(double)d->probe.random_expert_mib_s * 0x1p20, PROBE_S, (double)(now - d->probed_at)},
        {d->run_bytes_per_s, d->run_seconds, (double)(now - d->run_at)},
    };
    return stk_history_bytes_per_s(known, 2);
}

static uint32_t find_product(const stk_probe_results *results, uint32_t code)
{
    uint32_t at = 0;
    while (at < results->product_count && results->products[at].code != code)
        at++;
    return at;
}

const stk_known_product *stk_probe_results_product(const stk_probe_results *results, uint32_t code)
{
    uint32_t at = find_product(results, code);
    return at < results->product_count ? &results->products[at] : NULL;
}

void stk_probe_results_add_product(stk_probe_results *results, const stk_known_product *product)
{
    uint32_t at = find_product(results, product->code);
    if (at == STK_PRODUCTS_MAX)
        return;
    stk_known_product *p = &results->products[at];
    if (at == results->product_count) {
        results->products[results->product_count++] = *product;
        return;
    }
    p->one_per_s = fmax(p->one_per_s, product->one_per_s);
    p->many_per_s = fmax(p->many_per_s, product->many_per_s);
}

static bool is_same_gpu(const stk_probe_gpu *a, const char *name, const char *driver,
                        const char *pci)
{
    return strcmp(a->name, name) == 0 && strcmp(a->driver, driver) == 0 && strcmp(a->pci, pci) == 0;
}

const stk_probe_gpu *stk_probe_results_gpu(const stk_probe_results *results, const char *name,
                                           const char *driver, const char *pci)
{
    for (uint32_t i = 0; i < results->gpu_count; i++)
        if (is_same_gpu(&results->gpus[i], name, driver, pci))
            return &results->gpus[i];
    return NULL;
}

void stk_probe_results_add_gpu(stk_probe_results *results, const stk_probe_gpu *gpu)
{
    uint32_t at = 0;
    while (at < results->gpu_count &&
           !is_same_gpu(&results->gpus[at], gpu->name, gpu->driver, gpu->pci))
        at++;
    if (at == STK_PROBE_GPUS_MAX) { // full: the first is the oldest
        memmove(results->gpus, results->gpus + 1, (--at) * sizeof *results->gpus);
        results->gpu_count--;
    }
    results->gpu_count += at == results->gpu_count;
    results->gpus[at] = *gpu;
}

static const char *fingerprint(const stk_machine *machine, char text[FINGERPRINT_BYTES])
{
    snprintf(text, FINGERPRINT_BYTES, "%016" PRIx64, stk_machine_speed_hash(machine));
    return text;
}

// The list of machines in the file, a new reference; NULL when there is none to be used.
static json_t *read_machines(const char *path, const stk_log *log)
{
    struct stat info;
    json_error_t error;
    if (stat(path, &info) != 0) {
        stk_info(log, "%s: %s: nothing was measured yet", path, strerror(errno));
        return NULL;
    }
    if (!S_ISREG(info.st_mode) || info.st_size > FILE_BYTES_MAX) {
        stk_warn(log, "%s: not a cache of measurements, ignored", path);
        return NULL;
    }
    json_t *root = json_load_file(path, JSON_REJECT_DUPLICATES, &error);
    if (!root) {
        stk_warn(log, "%s:%d:%d: %s: the cache is ignored", path, error.line, error.column,
                 error.text);
        return NULL;
    }
    json_t *machines = json_object_get(root, "machines");
    json_t *version = json_object_get(root, "version");
    if (!json_is_integer(version) || json_integer_value(version) != VERSION ||
        !json_is_array(machines)) {
        stk_warn(log, "%s: another version's cache, ignored", path);
        machines = NULL;
    }
    json_incref(machines);
    json_decref(root);
    return machines;
}

static size_t find_machine(json_t *machines, const char *print)
{
    size_t i = 0;
    for (; i < json_array_size(machines); i++) {
        const char *other = json_string_value(
            json_object_get(json_array_get(machines, i), "fingerprint"));
        if (other && strcmp(other, print) == 0)
            break;
    }
    return i;
}

bool stk_probe_cache_load(const char *path, const stk_machine *machine, const stk_log *log,
                          stk_probe_results *out)
{
    uint32_t node_count;
    char print[FINGERPRINT_BYTES];
    *out = (stk_probe_results){0};
    json_t *machines = read_machines(path, log);
    if (!machines)
        return false;
    stk_machine_nodes(machine, &node_count);
    json_t *entry = json_array_get(machines, find_machine(machines, fingerprint(machine, print)));
    bool is_found = entry && stk_probe_from_json(entry, node_count, out);
    if (entry && !is_found)
        stk_warn(log, "%s: the entry of this machine is damaged, ignored", path);
    else if (!entry)
        stk_info(log, "%s: nothing about this machine, fingerprint %s", path, print);
    json_decref(machines);
    return is_found;
}

// mkdir -p for what comes before the last slash.
static int make_folders(char *path)
{
    for (char *slash = path + 1; (slash = strchr(slash, '/')); slash++) {
        *slash = '\0';
        int rc = mkdir(path, 0700);
        *slash = '/';
        if (rc != 0 && errno != EEXIST && errno != EISDIR)
            return -1;
    }
    return 0;
}

// Writes beside the file and renames, so that a reader sees the old file or the new one.
static void replace_file(const char *path, const char *text, const stk_log *log)
{
    char *temporary = NULL;
    if (asprintf(&temporary, "%s.XXXXXX", path) < 0)
        return;
    int fd = make_folders(temporary) == 0 ? mkostemp(temporary, O_CLOEXEC) : -1;
    size_t length = strlen(text);
    bool is_ok = fd >= 0 && write(fd, text, length) == (ssize_t)length && fsync(fd) == 0;
    int error = errno;
    if (fd >= 0)
        close(fd);
    if (is_ok && rename(temporary, path) != 0) {
        error = errno;
        is_ok = false;
    }
    if (!is_ok) {
        if (fd >= 0)
            unlink(temporary);
        stk_warn(log, "%s: the measurements are not kept: %s", path,
                 error ? strerror(error) : "short write");
    }
    free(temporary);
}

void stk_probe_cache_store(const char *path, const stk_machine *machine,
                           const stk_probe_results *results, const stk_log *log)
{
    char print[FINGERPRINT_BYTES];
    json_t *machines = read_machines(path, NULL); // whatever is wrong with it was said on loading
    if (!machines)
        machines = json_array();
    json_array_remove(machines, find_machine(machines, fingerprint(machine, print)));
    while (json_array_size(machines) >= MACHINES_MAX)
        json_array_remove(machines, 0); // in the order of their last measurement
    json_t *entry = stk_probe_to_json(results);
    if (entry && json_object_set_new(entry, "fingerprint", json_string(print)) == 0)
        json_array_append(machines, entry);
    json_t *root = json_pack("{s:i, s:o}", "version", VERSION, "machines", machines);
    char *text = entry && root ? json_dumps(root, JSON_INDENT(1) | JSON_REAL_PRECISION(9)) : NULL;
    json_decref(entry);
    json_decref(root);
    if (!text) {
        stk_warn(log, "%s: the measurements are not kept: no memory", path);
        return;
    }
    replace_file(path, text, log);
    free(text);
}
