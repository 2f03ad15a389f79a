// Facts about physical devices.
#include "vulkan/impl.h"

#include <stdio.h>
#include <string.h>

bool stk_vk_has_extension(const stk_vk_functions *fn, VkPhysicalDevice physical, const char *name)
{
    enum { MAX = 512 };
    VkExtensionProperties extensions[MAX];
    uint32_t count = MAX;
    VkResult result = fn->EnumerateDeviceExtensionProperties(physical, NULL, &count, extensions);
    for (uint32_t i = 0; (result == VK_SUCCESS || result == VK_INCOMPLETE) && i < count; i++)
        if (strcmp(extensions[i].extensionName, name) == 0)
            return true;
    return false;
}

static stk_vk_kind kind_of(VkPhysicalDeviceType type)
{
    switch (type) {
    case VK_PHYSICAL_DEVICE_TYPE_DISCRETE_GPU:
        return STK_VK_DISCRETE;
    case VK_PHYSICAL_DEVICE_TYPE_INTEGRATED_GPU:
        return STK_VK_INTEGRATED;
    case VK_PHYSICAL_DEVICE_TYPE_VIRTUAL_GPU:
        return STK_VK_VIRTUAL;
    case VK_PHYSICAL_DEVICE_TYPE_CPU:
        return STK_VK_CPU;
    default:
        return STK_VK_OTHER;
    }
}

static void describe_properties(const stk_vk_functions *fn, VkPhysicalDevice physical,
                                stk_vk_device_info *out)
{
    bool has_pci = stk_vk_has_extension(fn, physical, VK_EXT_PCI_BUS_INFO_EXTENSION_NAME);
    bool has_import = stk_vk_has_extension(fn, physical,
                                           VK_EXT_EXTERNAL_MEMORY_HOST_EXTENSION_NAME);
    bool has_dot = out->api_version >= VK_API_VERSION_1_3 ||
                   stk_vk_has_extension(fn, physical,
                                        VK_KHR_SHADER_INTEGER_DOT_PRODUCT_EXTENSION_NAME);
    VkPhysicalDeviceShaderIntegerDotProductProperties dot = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SHADER_INTEGER_DOT_PRODUCT_PROPERTIES};
    VkPhysicalDevicePCIBusInfoPropertiesEXT pci = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PCI_BUS_INFO_PROPERTIES_EXT};
    VkPhysicalDeviceExternalMemoryHostPropertiesEXT import = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_EXTERNAL_MEMORY_HOST_PROPERTIES_EXT};
    VkPhysicalDeviceVulkan12Properties v12 = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_2_PROPERTIES};
    VkPhysicalDeviceVulkan11Properties v11 = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_1_PROPERTIES, .pNext = &v12};
    VkPhysicalDeviceProperties2 p = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2,
                                     .pNext = &v11};
    void **tail = &v12.pNext;
    if (has_pci) {
        *tail = &pci;
        tail = &pci.pNext;
    }
    if (has_import) {
        *tail = &import;
        tail = &import.pNext;
    }
    if (has_dot)
        *tail = &dot;
    fn->GetPhysicalDeviceProperties2(physical, &p);
    const VkPhysicalDeviceLimits *limits = &p.properties.limits;
    snprintf(out->driver, sizeof out->driver, "%.100s %.100s", v12.driverName, v12.driverInfo);
    if (has_pci)
        snprintf(out->pci, sizeof out->pci, "%04x:%02x:%02x.%x", pci.pciDomain & 0xffffu,
                 pci.pciBus & 0xffu, pci.pciDevice & 0xffu, pci.pciFunction & 0xfu);
    memcpy(out->driver_uuid, v11.driverUUID, sizeof out->driver_uuid);
    memcpy(out->cache_uuid, p.properties.pipelineCacheUUID, sizeof out->cache_uuid);
    out->allocation_bytes_max = v11.maxMemoryAllocationSize;
    out->import_align_bytes = has_import ? import.minImportedHostPointerAlignment : 0;
    out->storage_range_bytes_max = limits->maxStorageBufferRange;
    out->shared_bytes_max = limits->maxComputeSharedMemorySize;
    out->workgroup_invocations_max = limits->maxComputeWorkGroupInvocations;
    memcpy(out->workgroup_count_max, limits->maxComputeWorkGroupCount,
           sizeof out->workgroup_count_max);
    out->subgroup_size = v11.subgroupSize;
    out->has_subgroup_arithmetic = v11.subgroupSupportedOperations &
                                   VK_SUBGROUP_FEATURE_ARITHMETIC_BIT;
    out->has_rte_float32 = v12.shaderRoundingModeRTEFloat32;
    out->has_denorms_float32 = v12.shaderDenormPreserveFloat32;
    out->dot_accelerated = has_dot && dot.integerDotProduct4x8BitPackedSignedAccelerated;
}

static void describe_features(const stk_vk_functions *fn, VkPhysicalDevice physical,
                              stk_vk_device_info *out)
{
    bool has_dot = out->api_version >= VK_API_VERSION_1_3 ||
                   stk_vk_has_extension(fn, physical,
                                        VK_KHR_SHADER_INTEGER_DOT_PRODUCT_EXTENSION_NAME);
    VkPhysicalDeviceShaderIntegerDotProductFeatures dot = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SHADER_INTEGER_DOT_PRODUCT_FEATURES};
    VkPhysicalDeviceVulkan12Features v12 = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_2_FEATURES,
        .pNext = has_dot ? &dot : NULL};
    VkPhysicalDeviceVulkan11Features v11 = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_1_FEATURES, .pNext = &v12};
    VkPhysicalDeviceFeatures2 features = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_FEATURES_2,
                                          .pNext = &v11};
    fn->GetPhysicalDeviceFeatures2(physical, &features);
    out->has_dot = has_dot && dot.shaderIntegerDotProduct;
    out->dot_accelerated = out->dot_accelerated && out->has_dot;
    out->has_int8 = v12.shaderInt8;
    out->has_float16 = v12.shaderFloat16;
    out->has_storage8 = v12.storageBuffer8BitAccess;
    out->has_storage16 = v11.storageBuffer16BitAccess;
    const char *lacks = !v12.bufferDeviceAddress               ? "buffer device addresses"
                        : !v12.timelineSemaphore               ? "timeline semaphores"
                        : out->workgroup_invocations_max < 256 ? "workgroups of 256"
                        : out->shared_bytes_max < 16384        ? "16 KiB of shared memory"
                                                               : NULL;
    if (lacks)
        snprintf(out->unusable_because, sizeof out->unusable_because, "lacks %s", lacks);
}

static void describe_memory(const stk_vk_functions *fn, VkPhysicalDevice physical,
                            stk_vk_device_info *out)
{
    out->has_budget = stk_vk_has_extension(fn, physical, VK_EXT_MEMORY_BUDGET_EXTENSION_NAME);
    VkPhysicalDeviceMemoryBudgetPropertiesEXT budget = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MEMORY_BUDGET_PROPERTIES_EXT};
    VkPhysicalDeviceMemoryProperties2 memory = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MEMORY_PROPERTIES_2,
        .pNext = out->has_budget ? &budget : NULL};
    fn->GetPhysicalDeviceMemoryProperties2(physical, &memory);
    const VkPhysicalDeviceMemoryProperties *p = &memory.memoryProperties;
    bool mappable[VK_MAX_MEMORY_HEAPS] = {false};
    for (uint32_t i = 0; i < p->memoryTypeCount; i++)
        if (p->memoryTypes[i].propertyFlags & VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT)
            mappable[p->memoryTypes[i].heapIndex] = true;
    for (uint32_t i = 0; i < p->memoryHeapCount; i++) {
        uint64_t size = p->memoryHeaps[i].size, used = budget.heapUsage[i];
        uint64_t offered = out->has_budget ? budget.heapBudget[i] : size;
        stk_vk_heap heap = {size, offered > used ? offered - used : 0,
                            p->memoryHeaps[i].flags & VK_MEMORY_HEAP_DEVICE_LOCAL_BIT, mappable[i]};
        out->heaps[out->heap_count++] = heap;
        if (!heap.is_local || size <= out->local_bytes)
            continue; // such as the small mappable window of a card without resizable BAR
        out->local_bytes = size;
        out->local_free_bytes = heap.free_bytes;
        out->mappable_bytes = heap.is_mappable ? size : 0;
    }
    out->unified = out->mappable_bytes == out->local_bytes && out->kind != STK_VK_DISCRETE;
}

uint64_t stk_vk_free_bytes(const stk_vk_functions *fn, VkPhysicalDevice physical,
                           const stk_vk_device_info *info)
{
    VkPhysicalDeviceMemoryBudgetPropertiesEXT budget = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MEMORY_BUDGET_PROPERTIES_EXT};
    VkPhysicalDeviceMemoryProperties2 memory = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MEMORY_PROPERTIES_2, .pNext = &budget};
    fn->GetPhysicalDeviceMemoryProperties2(physical, &memory);
    for (uint32_t i = 0; i < info->heap_count; i++)
        if (info->heaps[i].is_local && info->heaps[i].bytes == info->local_bytes)
            return budget.heapBudget[i] > budget.heapUsage[i]
                       ? budget.heapBudget[i] - budget.heapUsage[i]
                       : 0;
    return 0;
}

// The first compute family, and one that only copies, if there is any.
static bool find_families(const stk_vk_functions *fn, VkPhysicalDevice physical,
                          stk_vk_queue_families *out)
{
    VkQueueFamilyProperties families[32];
    uint32_t count = 32;
    bool found = false;
    fn->GetPhysicalDeviceQueueFamilyProperties(physical, &count, families);
    for (uint32_t i = 0; i < count && !found; i++)
        if (families[i].queueFlags & VK_QUEUE_COMPUTE_BIT) {
            out->compute = out->transfer = i;
            found = true;
        }
    // Nothing but copies: families for video and optical flow can copy too, slowly.
    const VkQueueFlags copies = VK_QUEUE_TRANSFER_BIT | VK_QUEUE_SPARSE_BINDING_BIT |
                                VK_QUEUE_PROTECTED_BIT;
    for (uint32_t i = count; i-- > 0;)
        if ((families[i].queueFlags & VK_QUEUE_TRANSFER_BIT) && !(families[i].queueFlags & ~copies))
            out->transfer = i;
    return found;
}

void stk_vk_describe(const stk_vk_functions *fn, VkPhysicalDevice physical, stk_vk_device_info *out,
                     stk_vk_queue_families *families)
{
    VkPhysicalDeviceProperties p;
    memset(out, 0, sizeof *out);
    fn->GetPhysicalDeviceProperties(physical, &p);
    snprintf(out->name, sizeof out->name, "%s", p.deviceName);
    out->kind = kind_of(p.deviceType);
    out->api_version = p.apiVersion;
    if (p.apiVersion < VK_API_VERSION_1_2) {
        snprintf(out->unusable_because, sizeof out->unusable_because, "lacks Vulkan 1.2");
        return;
    }
    describe_properties(fn, physical, out);
    describe_features(fn, physical, out);
    describe_memory(fn, physical, out);
    if (!find_families(fn, physical, families))
        snprintf(out->unusable_because, sizeof out->unusable_because, "lacks a compute queue");
    out->has_transfer_queue = families->transfer != families->compute && !out->unified;
    if (!out->has_transfer_queue)
        families->transfer = families->compute;
    out->usable = out->unusable_because[0] == '\0';
}

stk_status stk_vk_enumerate(const stk_vk_instance *instance, VkPhysicalDevice *out, uint32_t *count)
{
    uint32_t found = STK_VK_DEVICES_MAX;
    VkResult result = instance->fn.EnumeratePhysicalDevices(instance->handle, &found, out);
    if (result != VK_SUCCESS && result != VK_INCOMPLETE)
        return stk_vk_fail(instance->log, result, "cannot list the devices");
    if (found == 0) {
        stk_info(instance->log, "vulkan: no device on this machine");
        return STK_UNSUPPORTED;
    }
    *count = found;
    return STK_OK;
}

stk_status stk_vk_devices(const stk_log *log, stk_vk_device_info *out, uint32_t *count)
{
    stk_vk_instance instance;
    VkPhysicalDevice devices[STK_VK_DEVICES_MAX];
    stk_vk_queue_families families = {0, 0};
    *count = 0;
    stk_status status = stk_vk_instance_open(&instance, false, log);
    if (status != STK_OK)
        return status;
    uint32_t found = 0;
    status = stk_vk_enumerate(&instance, devices, &found);
    for (uint32_t i = 0; i < found; i++)
        stk_vk_describe(&instance.fn, devices[i], &out[i], &families);
    *count = found;
    stk_vk_instance_close(&instance);
    return status;
}
