// Buffers cut from slabs. A slab is one allocation and one VkBuffer over all of it, whose ranges
// are handed out first-fit; what is given back joins its neighbours.
//
//   slab  [ taken | free | taken | free ............ ]
#include "vulkan/impl.h"

#include <stdlib.h>
#include <string.h>

#include "base/size.h"

enum { ALIGN_BYTES = 256, RANGES_MAX = 1024 };
// Where the host's memory is used, what a slab has too much somebody else lacks.
#define SLAB_BYTES         (UINT64_C(64) << 20)
#define SLAB_UNIFIED_BYTES (UINT64_C(8) << 20)

typedef struct range {
    uint64_t at, bytes;
} range;

struct stk_vk_slab {
    stk_vk_slab *next;
    stk_vk_use use;
    VkDeviceMemory memory;
    VkBuffer buffer;
    VkDeviceAddress address;
    uint8_t *mapped;
    uint64_t bytes;
    bool counted; // against the budget of device memory
    uint32_t free_count;
    range free[RANGES_MAX]; // by place, never touching each other
};

static uint64_t round_up(uint64_t value, uint64_t unit)
{
    return (value + unit - 1) / unit * unit;
}

void stk_vk_memory_init(stk_vk *vk, uint64_t bytes_cap, uint32_t percent)
{
    VkPhysicalDeviceMemoryProperties2 p = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MEMORY_PROPERTIES_2};
    vk->fn.GetPhysicalDeviceMemoryProperties2(vk->physical, &p);
    vk->memory.properties = p.memoryProperties;
    vk->memory.percent = percent == 0 ? 90 : percent < 100 ? percent : 100;
    uint64_t offered = vk->info.local_free_bytes / 100 * vk->memory.percent;
    vk->memory.bytes_max = bytes_cap != 0 && bytes_cap < offered ? bytes_cap : offered;
}

// What each use needs, best first; zero ends the list.
static const VkMemoryPropertyFlags wishes[STK_VK_USE_COUNT][3] = {
    [STK_VK_LOCAL] = {VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT},
    [STK_VK_UPLOAD] = {VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT | VK_MEMORY_PROPERTY_HOST_COHERENT_BIT},
    [STK_VK_READBACK] = {VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT |
                             VK_MEMORY_PROPERTY_HOST_COHERENT_BIT |
                             VK_MEMORY_PROPERTY_HOST_CACHED_BIT,
                         VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT |
                             VK_MEMORY_PROPERTY_HOST_COHERENT_BIT},
};

// The first memory type with all the bits. Device memory is taken mappable only where all of it is:
// the small window of a card without resizable BAR is not worth its limits.
static bool find_type(const stk_vk *vk, uint32_t allowed, VkMemoryPropertyFlags want,
                      VkMemoryPropertyFlags prefer, VkMemoryPropertyFlags avoid, uint32_t *out)
{
    const VkPhysicalDeviceMemoryProperties *p = &vk->memory.properties;
    for (int pass = 0; pass < 2; pass++)
        for (uint32_t i = 0; i < p->memoryTypeCount; i++) {
            VkMemoryPropertyFlags flags = p->memoryTypes[i].propertyFlags;
            VkMemoryPropertyFlags need = pass == 0 ? want | prefer : want;
            bool avoided = pass == 0 && (flags & avoid);
            if ((allowed >> i & 1) && (flags & need) == need && !avoided) {
                *out = i;
                return true;
            }
        }
    return false;
}

static bool choose_type(const stk_vk *vk, stk_vk_use use, uint32_t allowed, uint32_t *out)
{
    const VkMemoryPropertyFlags mappable = VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT |
                                           VK_MEMORY_PROPERTY_HOST_COHERENT_BIT;
    bool all = vk->info.mappable_bytes == vk->info.local_bytes;
    VkMemoryPropertyFlags prefer = use == STK_VK_LOCAL && all ? mappable : 0;
    VkMemoryPropertyFlags avoid = use == STK_VK_LOCAL && !all ? mappable : 0;
    for (int i = 0; i < 3 && wishes[use][i] != 0; i++)
        if (find_type(vk, allowed, wishes[use][i], prefer, avoid, out))
            return true;
    return false;
}

static VkResult create_buffer(stk_vk *vk, uint64_t bytes, const void *next, VkBuffer *out)
{
    const uint32_t families[2] = {vk->compute.family, vk->transfer.family};
    bool shared = vk->transfer.handle != VK_NULL_HANDLE;
    VkBufferCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_BUFFER_CREATE_INFO,
        .pNext = next,
        .size = bytes,
        .usage = VK_BUFFER_USAGE_STORAGE_BUFFER_BIT | VK_BUFFER_USAGE_SHADER_DEVICE_ADDRESS_BIT |
                 VK_BUFFER_USAGE_TRANSFER_SRC_BIT | VK_BUFFER_USAGE_TRANSFER_DST_BIT |
                 VK_BUFFER_USAGE_INDIRECT_BUFFER_BIT,
        .sharingMode = shared ? VK_SHARING_MODE_CONCURRENT : VK_SHARING_MODE_EXCLUSIVE,
        .queueFamilyIndexCount = shared ? 2 : 0,
        .pQueueFamilyIndices = families};
    return vk->fn.CreateBuffer(vk->device, &info, NULL, out);
}

static VkDeviceAddress address_of(stk_vk *vk, VkBuffer buffer)
{
    VkBufferDeviceAddressInfo info = {.sType = VK_STRUCTURE_TYPE_BUFFER_DEVICE_ADDRESS_INFO,
                                      .buffer = buffer};
    return vk->fn.GetBufferDeviceAddress(vk->device, &info);
}

static void slab_free(stk_vk *vk, stk_vk_slab *slab)
{
    if (slab->buffer)
        vk->fn.DestroyBuffer(vk->device, slab->buffer, NULL);
    if (slab->memory)
        vk->fn.FreeMemory(vk->device, slab->memory, NULL);
    if (slab->counted && slab->memory)
        vk->memory.taken_bytes -= slab->bytes;
    free(slab);
}

static VkResult slab_fill(stk_vk *vk, stk_vk_slab *slab)
{
    uint32_t type = 0;
    VkMemoryRequirements needs;
    VkMemoryAllocateFlagsInfo flags = {.sType = VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_FLAGS_INFO,
                                       .flags = VK_MEMORY_ALLOCATE_DEVICE_ADDRESS_BIT};
    VkResult result = create_buffer(vk, slab->bytes, NULL, &slab->buffer);
    if (result != VK_SUCCESS)
        return result;
    vk->fn.GetBufferMemoryRequirements(vk->device, slab->buffer, &needs);
    if (!choose_type(vk, slab->use, needs.memoryTypeBits, &type))
        return VK_ERROR_FEATURE_NOT_PRESENT;
    VkMemoryAllocateInfo info = {.sType = VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_INFO,
                                 .pNext = &flags,
                                 .allocationSize = needs.size,
                                 .memoryTypeIndex = type};
    result = ++vk->memory.allocations == vk->faults.allocation
                 ? VK_ERROR_OUT_OF_DEVICE_MEMORY
                 : vk->fn.AllocateMemory(vk->device, &info, NULL, &slab->memory);
    if (result != VK_SUCCESS)
        return result;
    if (slab->counted)
        vk->memory.taken_bytes += slab->bytes;
    result = vk->fn.BindBufferMemory(vk->device, slab->buffer, slab->memory, 0);
    VkMemoryPropertyFlags mappable = VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT |
                                     VK_MEMORY_PROPERTY_HOST_COHERENT_BIT;
    void *mapped = NULL;
    bool hidden = vk->faults.unmapped && slab->use == STK_VK_LOCAL;
    if (result == VK_SUCCESS && !hidden &&
        (vk->memory.properties.memoryTypes[type].propertyFlags & mappable) == mappable)
        result = vk->fn.MapMemory(vk->device, slab->memory, 0, VK_WHOLE_SIZE, 0, &mapped);
    slab->mapped = mapped;
    slab->address = address_of(vk, slab->buffer);
    slab->free_count = 1;
    slab->free[0] = (range){0, slab->bytes};
    return result;
}

static stk_status fail_full(const stk_vk *vk, uint64_t bytes)
{
    char more[STK_SIZE_TEXT_BYTES], taken[STK_SIZE_TEXT_BYTES], most[STK_SIZE_TEXT_BYTES];
    return stk_fail(vk->log, STK_NO_MEMORY, "vulkan: %s more do not fit: %s of %s are taken",
                    stk_size_format(bytes, more), stk_size_format(vk->memory.taken_bytes, taken),
                    stk_size_format(vk->memory.bytes_max, most));
}

static stk_status slab_new(stk_vk *vk, stk_vk_use use, uint64_t bytes, stk_vk_slab **out)
{
    bool counted = use == STK_VK_LOCAL || vk->info.unified;
    uint64_t left = vk->memory.bytes_max - vk->memory.taken_bytes;
    uint64_t usual = vk->info.unified ? SLAB_UNIFIED_BYTES : SLAB_BYTES;
    uint64_t take = counted && left / 4 < usual ? left / 4 : usual; // leaves room for others
    take = bytes < take ? take / ALIGN_BYTES * ALIGN_BYTES : bytes;
    if (take > vk->info.allocation_bytes_max || (counted && take > left))
        return fail_full(vk, bytes);
    stk_vk_slab *slab = calloc(1, sizeof *slab);
    if (!slab)
        return STK_NO_MEMORY;
    slab->use = use;
    slab->bytes = take;
    slab->counted = counted;
    VkResult result = slab_fill(vk, slab);
    if (result != VK_SUCCESS) {
        slab_free(vk, slab);
        return stk_vk_fail(vk->log, result, "cannot take device memory");
    }
    slab->next = vk->memory.slabs;
    vk->memory.slabs = slab;
    *out = slab;
    return STK_OK;
}

static bool slab_take(stk_vk_slab *slab, uint64_t bytes, uint64_t *at)
{
    for (uint32_t i = 0; i < slab->free_count; i++) {
        if (slab->free[i].bytes < bytes)
            continue;
        *at = slab->free[i].at;
        slab->free[i].at += bytes;
        slab->free[i].bytes -= bytes;
        if (slab->free[i].bytes == 0) {
            memmove(&slab->free[i], &slab->free[i + 1],
                    (slab->free_count - i - 1) * sizeof *slab->free);
            slab->free_count--;
        }
        return true;
    }
    return false;
}

stk_status stk_vk_buffer_take(stk_vk *vk, stk_vk_use use, uint64_t bytes, stk_vk_buffer *out)
{
    stk_vk_slab *slab = vk->memory.slabs;
    uint64_t at = 0;
    bytes = round_up(bytes + !bytes, ALIGN_BYTES);
    while (slab && (slab->use != use || !slab_take(slab, bytes, &at)))
        slab = slab->next;
    if (!slab) {
        stk_status status = slab_new(vk, use, bytes, &slab);
        if (status != STK_OK)
            return status;
        (void)slab_take(slab, bytes, &at); // a new slab has room
    }
    *out = (stk_vk_buffer){.handle = slab->buffer,
                           .at = at,
                           .bytes = bytes,
                           .address = slab->address + at,
                           .mapped = slab->mapped ? slab->mapped + at : NULL,
                           .slab = slab};
    return STK_OK;
}

// Puts a range back in its place; without room in the table it is lost until close.
static void slab_give(stk_vk_slab *slab, uint64_t at, uint64_t bytes)
{
    uint32_t i = 0;
    while (i < slab->free_count && slab->free[i].at < at)
        i++;
    bool joins_before = i > 0 && slab->free[i - 1].at + slab->free[i - 1].bytes == at;
    bool joins_after = i < slab->free_count && at + bytes == slab->free[i].at;
    if (joins_before && joins_after) {
        slab->free[i - 1].bytes += bytes + slab->free[i].bytes;
        memmove(&slab->free[i], &slab->free[i + 1],
                (slab->free_count - i - 1) * sizeof *slab->free);
        slab->free_count--;
    } else if (joins_before) {
        slab->free[i - 1].bytes += bytes;
    } else if (joins_after) {
        slab->free[i].at = at;
        slab->free[i].bytes += bytes;
    } else if (slab->free_count < RANGES_MAX) {
        memmove(&slab->free[i + 1], &slab->free[i], (slab->free_count - i) * sizeof *slab->free);
        slab->free[i] = (range){at, bytes};
        slab->free_count++;
    }
}

void stk_vk_buffer_give(stk_vk *vk, stk_vk_buffer *buffer)
{
    if (buffer->memory) {
        vk->fn.DestroyBuffer(vk->device, buffer->handle, NULL);
        vk->fn.FreeMemory(vk->device, buffer->memory, NULL);
    } else if (buffer->slab) {
        slab_give(buffer->slab, buffer->at, buffer->bytes);
    }
    *buffer = (stk_vk_buffer){0};
}

stk_status stk_vk_buffer_import(stk_vk *vk, void *host, uint64_t bytes, stk_vk_buffer *out)
{
    const VkExternalMemoryHandleTypeFlagBits handle_type =
        VK_EXTERNAL_MEMORY_HANDLE_TYPE_HOST_ALLOCATION_BIT_EXT;
    if (vk->info.import_align_bytes == 0 || !vk->fn.GetMemoryHostPointerPropertiesEXT)
        return STK_UNSUPPORTED;
    VkMemoryHostPointerPropertiesEXT pointer = {
        .sType = VK_STRUCTURE_TYPE_MEMORY_HOST_POINTER_PROPERTIES_EXT};
    VkResult result = vk->fn.GetMemoryHostPointerPropertiesEXT(vk->device, handle_type, host,
                                                               &pointer);
    if (result != VK_SUCCESS)
        return stk_vk_fail(vk->log, result, "cannot use host memory in place");
    VkExternalMemoryBufferCreateInfo external = {
        .sType = VK_STRUCTURE_TYPE_EXTERNAL_MEMORY_BUFFER_CREATE_INFO, .handleTypes = handle_type};
    stk_vk_buffer b = {.bytes = bytes, .mapped = host};
    VkMemoryRequirements needs;
    result = create_buffer(vk, bytes, &external, &b.handle);
    if (result != VK_SUCCESS)
        return stk_vk_fail(vk->log, result, "cannot use host memory in place");
    vk->fn.GetBufferMemoryRequirements(vk->device, b.handle, &needs);
    uint32_t type = 0;
    VkImportMemoryHostPointerInfoEXT import = {
        .sType = VK_STRUCTURE_TYPE_IMPORT_MEMORY_HOST_POINTER_INFO_EXT,
        .handleType = handle_type,
        .pHostPointer = host};
    VkMemoryAllocateFlagsInfo flags = {.sType = VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_FLAGS_INFO,
                                       .pNext = &import,
                                       .flags = VK_MEMORY_ALLOCATE_DEVICE_ADDRESS_BIT};
    VkMemoryAllocateInfo info = {
        .sType = VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_INFO, .pNext = &flags, .allocationSize = bytes};
    result = VK_ERROR_FEATURE_NOT_PRESENT;
    // what the host writes there later is not flushed
    if (find_type(vk, needs.memoryTypeBits & pointer.memoryTypeBits,
                  VK_MEMORY_PROPERTY_HOST_COHERENT_BIT, 0, 0, &type)) {
        info.memoryTypeIndex = type;
        result = vk->fn.AllocateMemory(vk->device, &info, NULL, &b.memory);
    }
    if (result == VK_SUCCESS)
        result = vk->fn.BindBufferMemory(vk->device, b.handle, b.memory, 0);
    if (result != VK_SUCCESS) {
        vk->fn.DestroyBuffer(vk->device, b.handle, NULL);
        if (b.memory)
            vk->fn.FreeMemory(vk->device, b.memory, NULL);
        return stk_vk_fail(vk->log, result, "cannot use host memory in place");
    }
    b.address = address_of(vk, b.handle);
    *out = b;
    return STK_OK;
}

void stk_vk_memory_trim(stk_vk *vk)
{
    for (stk_vk_slab **at = &vk->memory.slabs; *at;) {
        stk_vk_slab *slab = *at;
        if (slab->free_count != 1 || slab->free[0].bytes != slab->bytes) {
            at = &slab->next;
            continue;
        }
        *at = slab->next;
        slab_free(vk, slab);
    }
}

void stk_vk_memory_free(stk_vk *vk)
{
    while (vk->memory.slabs) {
        stk_vk_slab *slab = vk->memory.slabs;
        vk->memory.slabs = slab->next;
        slab_free(vk, slab);
    }
}
