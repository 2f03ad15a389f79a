// cli/probe_run.h: measuring what is not known of this machine yet.
#ifndef STK_CLI_PROBE_RUN_H
#define STK_CLI_PROBE_RUN_H

#include "cli/probe_cache.h"
#include "vulkan/device.h"

typedef struct stk_probe_run_options {
    const char *path;            // read to measure its disk, never written
    bool is_quick;               // fewer and shorter runs: two seconds instead of ten
    bool is_refreshed;           // measure again what is known
    const stk_product *products; // [product_count], whose rates are wanted
    uint32_t product_count;
} stk_probe_run_options;

// Whether the rate of a product is in *results: of a dense one of Q4_0 it is with the cores'.
bool stk_probe_knows(const stk_probe_results *results, const stk_product *product);

// Adds to *results memory and cores, products, and the disk, unless they are in it. *is_new:
// something was measured. Failures are logged; too little room for a temporary file is none.
STK_CHECKED stk_status stk_probe_run(const stk_probe_run_options *options,
                                     const stk_machine *machine, const stk_block_device *device,
                                     const stk_log *log, stk_probe_results *results, bool *is_new);

// Likewise the speeds of a device, the driver's number `index`. One that is not usable is left
// alone, one that fails is said and left unmeasured.
void stk_probe_run_gpu(const stk_vk_device_info *info, uint32_t index, bool is_refreshed,
                       const stk_log *log, stk_probe_results *results, bool *is_new);

#endif
