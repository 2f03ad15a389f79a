// cli/probe_cache.h: what was measured on this machine, kept between runs.
//
// Owns the file XDG_CACHE_HOME/stoker/probe.json (or ~/.cache/...): several machines by
// fingerprint, because home folders are shared. Another kernel, CPU list, quota or memory limit is
// another machine. Knows JSON; measures nothing. The cache is never trusted: what is damaged, old
// or of another machine is as if it were not there.
#ifndef STK_CLI_PROBE_CACHE_H
#define STK_CLI_PROBE_CACHE_H

#include "engine/product.h"
#include "scheduler/history.h"
#include "topology/probe.h"

enum { STK_PROBE_DISKS_MAX = 8, STK_PROBE_GPUS_MAX = 8, STK_PROBE_NAME_BYTES = 256 };

// A Vulkan device, known by its name, driver and place, and the speeds of its memory.
typedef struct stk_probe_gpu {
    char name[STK_PROBE_NAME_BYTES], driver[STK_PROBE_NAME_BYTES], pci[16];
    uint64_t upload_mib_s;   // from host memory
    uint64_t download_mib_s; // to host memory
    uint64_t copy_mib_s;     // within its memory: bytes read plus bytes written
} stk_probe_gpu;

// A disk: what the probe measured, and what runs reached that waited for it.
typedef struct stk_known_disk {
    stk_probe_disk probe;
    int64_t probed_at;      // seconds since 1970
    double run_bytes_per_s; // 0: no such run
    double run_seconds;     // that this was seen for
    int64_t run_at;         // the last
} stk_known_disk;

// How fast kernels compute one of a model's products, all cores at once (engine/product.h).
typedef struct stk_known_product {
    uint32_t code;
    char name[STK_PRODUCT_NAME_BYTES]; // for people
    double one_per_s, many_per_s;      // int8 multiply-adds of a core; one row, many rows at a time
} stk_known_product;

typedef struct stk_probe_results {
    int64_t measured_at;                          // seconds since 1970; 0: nothing but disks
    stk_probe_read *reads;                        // [read_count], allocated
    uint32_t read_count;                          // 0: memory and processors were not measured
    stk_probe_rate decode_rate;                   // int8 multiply-adds, one row at a time
    stk_probe_rate prefill_rate;                  // many rows at a time
    stk_known_product products[STK_PRODUCTS_MAX]; // other than dense ones of Q4_0
    uint32_t product_count;
    stk_known_disk disks[STK_PROBE_DISKS_MAX];
    uint32_t disk_count;
    stk_probe_gpu gpus[STK_PROBE_GPUS_MAX];
    uint32_t gpu_count;
} stk_probe_results;

void stk_probe_results_free(stk_probe_results *results); // and clears

// The disk that was measured, or NULL.
const stk_known_disk *stk_probe_results_disk(const stk_probe_results *results,
                                             const stk_block_device *device);
// Adds a disk, or replaces its probe; the oldest makes room. Disks without a name are not kept.
void stk_probe_results_add_disk(stk_probe_results *results, const stk_probe_disk *disk, int64_t at);
// Counts what a run got of a disk; runs before it count the less the older they are
// (scheduler/history.h). False: that disk was never probed, nothing is kept.
bool stk_probe_results_use_disk(stk_probe_results *results, const stk_block_device *device,
                                const stk_measured *run, int64_t at);
// Bytes per second to plan with, of probe and runs.
double stk_known_disk_bytes_per_s(const stk_known_disk *disk, int64_t now);

// Likewise a product.
const stk_known_product *stk_probe_results_product(const stk_probe_results *results, uint32_t code);
// Adds a product, or keeps the better rates of both.
void stk_probe_results_add_product(stk_probe_results *results, const stk_known_product *product);

// Likewise a GPU.
const stk_probe_gpu *stk_probe_results_gpu(const stk_probe_results *results, const char *name,
                                           const char *driver, const char *pci);
void stk_probe_results_add_gpu(stk_probe_results *results, const stk_probe_gpu *gpu);

// The file's path, allocated; NULL when neither variable is set. In cache_path.c.
char *stk_probe_cache_path(void);

// Reads what is known of `machine`. True: *out is filled and to be freed; false: nothing is known
// (said at info; a damaged file at warn), *out is empty.
bool stk_probe_cache_load(const char *path, const stk_machine *machine, const stk_log *log,
                          stk_probe_results *out);

// Replaces the file at once, other machines' entries kept. A failure is logged as a warning: the
// results are still good.
void stk_probe_cache_store(const char *path, const stk_machine *machine,
                           const stk_probe_results *results, const stk_log *log);

#endif
