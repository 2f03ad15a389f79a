#include "cli/disk_use.h"

#include "cli/probe_cache.h"
#include <stdlib.h>
#include <time.h>

enum { FLIGHTS_MIN = 4 };                    // fewer reads at once measure their latency
static const uint64_t BYTES_MIN = 256 << 20; // a shorter run is no more than a probe
static const double WAITED_MIN = 0.2;        // of the time the disk was busy, by each worker
static const double PACKED_MAX = 0.05;       // of it
static const double BYTES_PER_S_MAX = 1e12;  // beyond any disk

stk_measured stk_disk_use_of(const stk_expert_store_stats *r, uint32_t thread_count)
{
    double busy_s = 1e-9 * (double)r->busy_ns;
    double waited_s = 1e-9 * (double)r->wait_ns / (thread_count ? thread_count : 1);
    if (r->read_bytes < BYTES_MIN || r->flight_ns < FLIGHTS_MIN * r->busy_ns ||
        waited_s < WAITED_MIN * busy_s || 1e-9 * (double)r->pack_ns > PACKED_MAX * busy_s)
        return (stk_measured){.bytes_per_s = 0};
    double speed = busy_s > 0 ? (double)r->read_bytes / busy_s : 0;
    return (stk_measured){.bytes_per_s = speed < BYTES_PER_S_MAX ? speed : 0, .seconds = busy_s};
}

void stk_disk_use_remember(const char *model_path, const stk_measured *use, const stk_log *log)
{
    const stk_machine_options options = {0};
    stk_probe_results results = {0};
    stk_block_device device;
    stk_machine *machine = NULL;
    char *cache = stk_probe_cache_path();
    if (cache && stk_block_device_of_path(model_path, NULL, &device) == STK_OK &&
        stk_machine_open(&options, NULL, &machine) == STK_OK &&
        stk_probe_cache_load(cache, machine, NULL, &results) &&
        stk_probe_results_use_disk(&results, &device, use, time(NULL))) {
        stk_info(log, "disk: these reads got %.2f GB/s of %s, which later plans count",
                 use->bytes_per_s * 1e-9, device.name);
        stk_probe_cache_store(cache, machine, &results, NULL);
    }
    stk_probe_results_free(&results);
    stk_machine_close(&machine);
    free(cache);
}
