#include "engine/gpu_device.h"

#include <stdlib.h>
#include <string.h>

#include "topology/pci_node.h"

struct stk_gpu_device {
    const stk_log *log;
    stk_vk *vk;
    bool lost, loses_next;
};

// *open is false where the CPU does everything.
static stk_status parse_device(const char *device, const stk_log *log, const char **choice,
                               bool *open)
{
    *open = device && strcmp(device, "cpu") != 0;
    *choice = NULL;
    if (!*open || strcmp(device, "auto") == 0 || strcmp(device, "vulkan") == 0)
        return STK_OK;
    if (strncmp(device, "vulkan:", 7) == 0 && device[7] != '\0') {
        *choice = device + 7;
        return STK_OK;
    }
    return stk_fail(log, STK_INVALID, "'%s' is no device (cpu, vulkan, vulkan:NAME, auto)", device);
}

// For "auto": whether there is a device that is not the CPU in disguise.
static bool has_real_gpu(const stk_log *log)
{
    stk_vk_device_info *infos = calloc(STK_VK_DEVICES_MAX, sizeof *infos);
    uint32_t count = 0, index = 0;
    bool real = infos && stk_vk_devices(log, infos, &count) == STK_OK &&
                stk_vk_choose(infos, count, NULL, NULL, &index) == STK_OK &&
                infos[index].kind != STK_VK_CPU;
    free(infos);
    return real;
}

stk_status stk_gpu_device_open(const stk_engine_options *options, stk_gpu_device **out)
{
    const char *choice;
    bool open;
    stk_status status = parse_device(options->device, options->log, &choice, &open);
    if (status != STK_OK || !open)
        return status;
    bool is_auto = strcmp(options->device, "auto") == 0;
    if (is_auto && !has_real_gpu(options->log))
        return STK_OK;
    stk_gpu_device *device = calloc(1, sizeof *device);
    if (!device)
        return STK_NO_MEMORY;
    device->log = options->log;
    stk_vk_options vk = {.log = options->log,
                         .device = choice,
                         .pipeline_cache = options->shader_cache_path,
                         .memory_bytes_max = options->gpu_memory_bytes,
                         .memory_percent = options->gpu_memory_percent,
                         .validate = options->gpu_validates};
    if (options->gpu_faults)
        vk.faults = *options->gpu_faults;
    status = stk_vk_open(&vk, &device->vk);
    if (status == STK_OK) {
        *out = device;
        return STK_OK;
    }
    free(device);
    if (status != STK_UNSUPPORTED)
        return status;
    return is_auto ? STK_OK
                   : stk_fail(options->log, status, "--device %s: there is none", options->device);
}

void stk_gpu_device_close(stk_gpu_device **pointer)
{
    stk_gpu_device *device = *pointer;
    if (!device)
        return;
    stk_vk_close(&device->vk);
    free(device);
    *pointer = NULL;
}

stk_vk *stk_gpu_device_vk(const stk_gpu_device *device)
{
    return device->vk;
}

const char *stk_gpu_device_name(const stk_gpu_device *device)
{
    return device ? stk_vk_info(device->vk)->name : "none";
}

void stk_gpu_device_go_near(const stk_gpu_device *device, stk_team *team)
{
    uint32_t count;
    const stk_node *nodes = stk_nodes_list(stk_team_nodes(team), &count);
    int near = device && count > 1 ? stk_pci_node("", stk_vk_info(device->vk)->pci) : -1;
    for (uint32_t i = 0; i < count && near >= 0; i++)
        if (nodes[i].os_index == (uint32_t)near) {
            stk_debug(device->log, "%s hangs off node %u", stk_gpu_device_name(device), i);
            stk_team_move_opener(team, nodes[i].worker_first);
            return;
        }
}

void stk_gpu_device_come_back(const stk_gpu_device *device, stk_team *team)
{
    uint32_t count;
    (void)stk_nodes_list(stk_team_nodes(team), &count);
    if (device && count > 1)
        stk_team_move_opener(team, 0);
}

bool stk_gpu_device_is_lost(const stk_gpu_device *device)
{
    return device && device->lost;
}

void stk_gpu_device_lose(stk_gpu_device *device, stk_status why)
{
    if (!device->lost)
        stk_warn(device->log, "%s is lost (%s): the CPU goes on alone", stk_gpu_device_name(device),
                 stk_status_name(why));
    device->lost = true;
}

void stk_gpu_device_inject_loss(stk_gpu_device *device)
{
    device->loses_next = true;
}

bool stk_gpu_device_loses_now(stk_gpu_device *device)
{
    bool now = device->loses_next;
    device->loses_next = false;
    return now;
}
