#include "vulkan/impl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void hide_features(const stk_vk_faults *faults, stk_vk_device_info *info)
{
    info->unified &= !faults->apart;
    if (faults->no_import)
        info->import_align_bytes = 0;
    if (faults->no_addresses) {
        info->usable = false;
        snprintf(info->unusable_because, sizeof info->unusable_because,
                 "lacks buffer device addresses");
    }
    if (faults->free_bytes)
        info->local_free_bytes = *faults->free_bytes;
}

static stk_status pick(stk_vk *vk, const char *choice, stk_vk_queue_families *families)
{
    VkPhysicalDevice devices[STK_VK_DEVICES_MAX];
    uint32_t count = 0, index = 0;
    stk_status status = stk_vk_enumerate(&vk->instance, devices, &count);
    if (status != STK_OK)
        return status;
    stk_vk_device_info *infos = calloc(count, sizeof *infos);
    if (!infos)
        return STK_NO_MEMORY;
    for (uint32_t i = 0; i < count; i++) {
        stk_vk_describe(&vk->instance.fn, devices[i], &infos[i], families);
        hide_features(&vk->faults, &infos[i]);
    }
    status = stk_vk_choose(infos, count, choice, vk->log, &index);
    free(infos);
    if (status != STK_OK)
        return status;
    vk->physical = devices[index];
    stk_vk_describe(&vk->instance.fn, vk->physical, &vk->info, families);
    hide_features(&vk->faults, &vk->info);
    return STK_OK;
}

static stk_status create_device(stk_vk *vk, const stk_vk_queue_families *families)
{
    const float priority = 1;
    VkDeviceQueueCreateInfo queues[2] = {
        {.sType = VK_STRUCTURE_TYPE_DEVICE_QUEUE_CREATE_INFO,
         .queueFamilyIndex = families->compute,
         .queueCount = 1,
         .pQueuePriorities = &priority},
        {.sType = VK_STRUCTURE_TYPE_DEVICE_QUEUE_CREATE_INFO,
         .queueFamilyIndex = families->transfer,
         .queueCount = 1,
         .pQueuePriorities = &priority},
    };
    VkPhysicalDeviceShaderIntegerDotProductFeatures dot = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SHADER_INTEGER_DOT_PRODUCT_FEATURES,
        .shaderIntegerDotProduct = VK_TRUE};
    VkPhysicalDeviceVulkan12Features v12 = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_2_FEATURES,
        .pNext = vk->use_dot ? &dot : NULL,
        .timelineSemaphore = VK_TRUE,
        .bufferDeviceAddress = VK_TRUE};
    const char *extensions[5];
    uint32_t extension_count = 0;
    if (vk->info.import_align_bytes != 0)
        extensions[extension_count++] = VK_EXT_EXTERNAL_MEMORY_HOST_EXTENSION_NAME;
    if (vk->info.has_budget)
        extensions[extension_count++] = VK_EXT_MEMORY_BUDGET_EXTENSION_NAME;
    if (stk_vk_has_extension(&vk->instance.fn, vk->physical, "VK_KHR_portability_subset"))
        extensions[extension_count++] = "VK_KHR_portability_subset"; // must be enabled where it is
    if (vk->use_dot && vk->info.api_version < VK_API_VERSION_1_3)
        extensions[extension_count++] = VK_KHR_SHADER_INTEGER_DOT_PRODUCT_EXTENSION_NAME;
    VkDeviceCreateInfo info = {.sType = VK_STRUCTURE_TYPE_DEVICE_CREATE_INFO,
                               .pNext = &v12,
                               .queueCreateInfoCount = families->compute == families->transfer ? 1
                                                                                               : 2,
                               .pQueueCreateInfos = queues,
                               .enabledExtensionCount = extension_count,
                               .ppEnabledExtensionNames = extensions};
    VkResult result = vk->instance.fn.CreateDevice(vk->physical, &info, NULL, &vk->device);
    if (result != VK_SUCCESS) {
        vk->device = VK_NULL_HANDLE;
        return stk_vk_fail(vk->log, result, vk->info.name);
    }
    vk->fn = vk->instance.fn;
    stk_vk_load_device_functions(&vk->fn, vk->device);
    return STK_OK;
}

static stk_status open_device(stk_vk *vk, const stk_vk_options *options)
{
    stk_vk_queue_families families = {0, 0};
    stk_status status = stk_vk_instance_open(&vk->instance, options->validate, vk->log);
    if (status == STK_OK)
        status = pick(vk, options->device, &families);
    if (status != STK_OK)
        return status;
    if (options->dot == STK_VK_DOT_ALWAYS && !vk->info.has_dot)
        return stk_fail(vk->log, STK_UNSUPPORTED, "vulkan: %s has no integer dot product",
                        vk->info.name);
    vk->use_dot = options->dot == STK_VK_DOT_ALWAYS ||
                  (options->dot == STK_VK_DOT_AUTO && vk->info.dot_accelerated);
    status = create_device(vk, &families);
    if (status == STK_OK)
        status = stk_vk_queue_open(vk, families.compute, &vk->compute);
    if (status == STK_OK && families.transfer != families.compute)
        status = stk_vk_queue_open(vk, families.transfer, &vk->transfer);
    if (status != STK_OK)
        return status;
    stk_vk_memory_init(vk, options->memory_bytes_max, options->memory_percent);
    return stk_vk_pipelines_open(vk, options->pipeline_cache);
}

stk_status stk_vk_open(const stk_vk_options *options, stk_vk **out)
{
    stk_vk *vk = calloc(1, sizeof *vk);
    if (!vk)
        return STK_NO_MEMORY;
    vk->log = options->log;
    vk->faults = options->faults;
    stk_status status = open_device(vk, options);
    if (status != STK_OK) {
        stk_vk_close(&vk);
        return status;
    }
    stk_info(vk->log, "vulkan: %s (%s, %s), %.2f GiB%s, %s dot products", vk->info.name,
             stk_vk_kind_name(vk->info.kind), vk->info.driver,
             (double)vk->memory.bytes_max / 0x1p30, vk->info.unified ? " unified" : "",
             vk->use_dot ? "packed" : "plain");
    *out = vk;
    return STK_OK;
}

void stk_vk_close(stk_vk **vk_pointer)
{
    stk_vk *vk = *vk_pointer;
    if (!vk)
        return;
    if (vk->device) {
        (void)vk->fn.DeviceWaitIdle(vk->device);
        stk_vk_pipelines_close(vk);
        stk_vk_memory_free(vk);
        stk_vk_queue_close(vk, &vk->transfer);
        stk_vk_queue_close(vk, &vk->compute);
        vk->fn.DestroyDevice(vk->device, NULL);
    }
    stk_vk_instance_close(&vk->instance);
    free(vk);
    *vk_pointer = NULL;
}

const stk_vk_device_info *stk_vk_info(const stk_vk *vk)
{
    return &vk->info;
}

uint64_t stk_vk_memory_bytes(const stk_vk *vk)
{
    return vk->memory.taken_bytes;
}

uint64_t stk_vk_memory_bytes_max(const stk_vk *vk)
{
    return vk->memory.bytes_max;
}

uint64_t stk_vk_memory_bytes_max_now(const stk_vk *vk)
{
    const uint64_t *fault = vk->faults.free_bytes;
    if (!fault && !vk->info.has_budget)
        return vk->memory.bytes_max;
    // what is taken is the process's too, beside what is still free
    uint64_t offered = fault ? *fault : stk_vk_free_bytes(&vk->fn, vk->physical, &vk->info);
    offered = (offered + vk->memory.taken_bytes) / 100 * vk->memory.percent;
    return offered < vk->memory.bytes_max ? offered : vk->memory.bytes_max;
}

uint32_t stk_vk_submission_count(const stk_vk *vk)
{
    return vk->submissions;
}

uint32_t stk_vk_validation_messages(const stk_vk *vk)
{
    return atomic_load(&vk->instance.messages);
}

bool stk_vk_cache_was_read(const stk_vk *vk)
{
    return vk->cache_was_read;
}
