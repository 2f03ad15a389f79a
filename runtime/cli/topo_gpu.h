// cli/topo_gpu.h: the Vulkan devices that `stoker topo` shows.
#ifndef STK_CLI_TOPO_GPU_H
#define STK_CLI_TOPO_GPU_H

#include "topology/machine.h"
#include "vulkan/device.h"
#include "vulkan/probe.h"
#include <jansson.h>

typedef struct stk_topo_gpus {
    stk_vk_device_info infos[STK_VK_DEVICES_MAX];
    stk_vk_speeds speeds[STK_VK_DEVICES_MAX]; // bytes 0: not measured
    uint32_t count;
} stk_topo_gpus;

// Looks for devices; with `measures` also how fast the memory of each usable one is. A machine
// without Vulkan has none, which is no failure; a device that fails is said and left unmeasured.
void stk_topo_gpus_find(stk_topo_gpus *gpus, bool measures, const stk_log *log);

// Where a device hangs off: an index into the machine's nodes by its PCI address, or
// STK_INDEX_NONE.
uint32_t stk_topo_gpu_node(const stk_machine *machine, const stk_vk_device_info *info);

void stk_topo_print_gpus(const stk_topo_gpus *gpus, const stk_machine *machine); // as text
json_t *stk_topo_gpus_to_json(const stk_topo_gpus *gpus, const stk_machine *machine);

#endif
