// cli/topo_gpu.h: the Vulkan devices that `stoker topo` shows.
#ifndef STK_CLI_TOPO_GPU_H
#define STK_CLI_TOPO_GPU_H

#include "cli/probe_cache.h"
#include "vulkan/device.h"
#include <jansson.h>

typedef struct stk_topo_gpus {
    stk_vk_device_info infos[STK_VK_DEVICES_MAX];
    uint32_t count;
    const stk_probe_results *results; // what was measured of them; NULL: nothing
} stk_topo_gpus;

// Looks for devices. A machine without Vulkan has none, which is no failure.
void stk_topo_gpus_find(stk_topo_gpus *gpus, const stk_log *log);

void stk_topo_print_gpus(const stk_topo_gpus *gpus, const stk_machine *machine); // as text
json_t *stk_topo_gpus_to_json(const stk_topo_gpus *gpus, const stk_machine *machine);

#endif
