// vulkan/impl.h: what the files of this room share. The only header that includes vulkan.h.
#ifndef STK_VULKAN_IMPL_H
#define STK_VULKAN_IMPL_H

#define VK_NO_PROTOTYPES
#include <vulkan/vulkan.h>

#include "vulkan/device.h"
#include "vulkan/run.h"
#include <stdatomic.h>
#include <stddef.h>

// Every function of functions.def, found at run time.
typedef struct stk_vk_functions {
    PFN_vkGetInstanceProcAddr GetInstanceProcAddr;
#define STK_VK_FN(level, name) PFN_vk##name name;
#include "vulkan/functions.def"
#undef STK_VK_FN
    PFN_vkCreateDebugUtilsMessengerEXT CreateDebugUtilsMessengerEXT;
    PFN_vkDestroyDebugUtilsMessengerEXT DestroyDebugUtilsMessengerEXT;
    PFN_vkGetMemoryHostPointerPropertiesEXT GetMemoryHostPointerPropertiesEXT;
} stk_vk_functions;

// loader.c: the library and the instance.
typedef struct stk_vk_instance {
    stk_vk_functions fn;
    VkInstance handle;
    VkDebugUtilsMessengerEXT messenger;
    const stk_log *log;
    atomic_uint messages;
} stk_vk_instance;

// The instance must not move afterwards. STK_UNSUPPORTED is logged at info level.
STK_CHECKED stk_status stk_vk_instance_open(stk_vk_instance *instance, bool validate,
                                            const stk_log *log);
void stk_vk_instance_close(stk_vk_instance *instance);
void stk_vk_load_device_functions(stk_vk_functions *fn, VkDevice device);

// result.c: logs `what` with the name of the VkResult and returns the status it means.
stk_status stk_vk_fail(const stk_log *log, VkResult result, const char *what);

// describe.c
typedef struct stk_vk_queue_families {
    uint32_t compute;
    uint32_t transfer; // equal to compute when there is none of its own
} stk_vk_queue_families;
void stk_vk_describe(const stk_vk_functions *fn, VkPhysicalDevice physical, stk_vk_device_info *out,
                     stk_vk_queue_families *families);
// What the driver says this process may still take of the largest device-local heap; 0 without
// VK_EXT_memory_budget.
uint64_t stk_vk_free_bytes(const stk_vk_functions *fn, VkPhysicalDevice physical,
                           const stk_vk_device_info *info);
bool stk_vk_has_extension(const stk_vk_functions *fn, VkPhysicalDevice physical, const char *name);
STK_CHECKED stk_status stk_vk_enumerate(const stk_vk_instance *instance, VkPhysicalDevice *out,
                                        uint32_t *count);

// memory.c: buffers cut from a few large allocations.
typedef enum stk_vk_use {
    STK_VK_LOCAL,    // device memory; mapped where the device allows that for all of it
    STK_VK_UPLOAD,   // the CPU writes, the device reads
    STK_VK_READBACK, // the device writes, the CPU reads (cached)
    STK_VK_USE_COUNT
} stk_vk_use;

typedef struct stk_vk_slab stk_vk_slab;

typedef struct stk_vk_buffer {
    VkBuffer handle;    // shared by everything in the slab
    VkDeviceSize at;    // offset in it
    VkDeviceSize bytes; // with padding
    VkDeviceAddress address;
    uint8_t *mapped;       // NULL: not visible to the CPU
    stk_vk_slab *slab;     // NULL: an import, see below
    VkDeviceMemory memory; // of an import
} stk_vk_buffer;

typedef struct stk_vk_memory {
    VkPhysicalDeviceMemoryProperties properties;
    stk_vk_slab *slabs;
    uint64_t taken_bytes, bytes_max;
    uint32_t percent; // of what the driver offers
    uint32_t allocations;
} stk_vk_memory;

// To where the next thing in a buffer may begin.
static inline uint64_t stk_vk_padded(uint64_t bytes)
{
    return (bytes + 255) / 256 * 256;
}

void stk_vk_memory_init(stk_vk *vk, uint64_t bytes_cap, uint32_t percent);
void stk_vk_memory_free(stk_vk *vk); // every slab
void stk_vk_memory_trim(stk_vk *vk); // slabs of which nothing is used
// Aligned to 256 bytes. STK_NO_MEMORY names the figures.
STK_CHECKED stk_status stk_vk_buffer_take(stk_vk *vk, stk_vk_use use, uint64_t bytes,
                                          stk_vk_buffer *out);
void stk_vk_buffer_give(stk_vk *vk, stk_vk_buffer *buffer); // clears it; cleared is allowed
// Host memory used in place: host and bytes are multiples of info.import_align_bytes.
// STK_UNSUPPORTED: the device cannot use it.
STK_CHECKED stk_status stk_vk_buffer_import(stk_vk *vk, void *host, uint64_t bytes,
                                            stk_vk_buffer *out);

// queue.c: a queue, its command pool and the timeline that says how far it is.
typedef struct stk_vk_queue {
    VkQueue handle;
    uint32_t family;
    VkCommandPool pool;
    VkSemaphore timeline;
    uint64_t submitted; // value the newest submission will signal
} stk_vk_queue;

STK_CHECKED stk_status stk_vk_queue_open(stk_vk *vk, uint32_t family, stk_vk_queue *out);
void stk_vk_queue_close(stk_vk *vk, stk_vk_queue *queue);
STK_CHECKED stk_status stk_vk_commands_take(stk_vk *vk, stk_vk_queue *queue, VkCommandBuffer *out);
// NULL is allowed.
void stk_vk_commands_give(stk_vk *vk, stk_vk_queue *queue, VkCommandBuffer commands);
STK_CHECKED stk_status stk_vk_commands_begin(stk_vk *vk, VkCommandBuffer commands, bool once);
STK_CHECKED stk_status stk_vk_commands_end(stk_vk *vk, VkCommandBuffer commands);
// Submits after `wait_for` has reached wait_value (NULL: at once). *out_value: what to wait for.
STK_CHECKED stk_status stk_vk_submit(stk_vk *vk, stk_vk_queue *queue, VkCommandBuffer commands,
                                     const stk_vk_queue *wait_for, uint64_t wait_value,
                                     uint64_t *out_value);
// Several in order, as one submission.
STK_CHECKED stk_status stk_vk_submit_all(stk_vk *vk, stk_vk_queue *queue,
                                         const VkCommandBuffer *commands, uint32_t count,
                                         const stk_vk_queue *wait_for, uint64_t wait_value,
                                         uint64_t *out_value);
STK_CHECKED stk_status stk_vk_poll(stk_vk *vk, const stk_vk_queue *queue, uint64_t value);
STK_CHECKED stk_status stk_vk_wait(stk_vk *vk, const stk_vk_queue *queue, uint64_t value);
void stk_vk_barrier(stk_vk *vk, VkCommandBuffer commands, VkPipelineStageFlags from,
                    VkAccessFlags from_access, VkPipelineStageFlags to, VkAccessFlags to_access);

// pipeline.c
STK_CHECKED stk_status stk_vk_pipelines_open(stk_vk *vk, const char *cache_path);
void stk_vk_pipelines_close(stk_vk *vk);
// Binds the shader and its push constants; a dispatch follows.
STK_CHECKED stk_status stk_vk_bind(stk_vk *vk, VkCommandBuffer commands, stk_vk_shader shader,
                                   const VkDeviceAddress *addresses, const uint32_t *constants);

// pipeline_cache.c: the file around a driver's cache. Read: NULL and *bytes 0 unless the file is
// whole and of this device and driver; the caller frees.
void *stk_vk_cache_read(const char *path, const stk_vk_device_info *info, size_t *bytes);
void stk_vk_cache_write(const char *path, const stk_vk_device_info *info, const void *data,
                        size_t bytes, const stk_log *log);

// float_controls.c: adds the execution modes "round float32 to nearest even" and "keep float32
// denormals" to a module. out has room for words + STK_VK_CONTROL_WORDS; returns the new length.
enum { STK_VK_CONTROL_WORDS = 12 };
size_t stk_vk_add_float_controls(const uint32_t *code, size_t words, bool rte, bool denorms,
                                 uint32_t *out);

// The compiled shaders (generated).
typedef struct stk_vk_code {
    const char *name;
    uint32_t buffers, constants;
    const uint32_t *plain, *dot; // dot: NULL unless the shader has that variant
    size_t plain_bytes, dot_bytes;
} stk_vk_code;
extern const stk_vk_code stk_vk_codes[STK_VK_SHADER_COUNT];

struct stk_vk {
    const stk_log *log;
    stk_vk_instance instance;
    stk_vk_functions fn; // of the device
    VkPhysicalDevice physical;
    VkDevice device;
    stk_vk_device_info info;
    bool use_dot, lost;
    stk_vk_faults faults;
    uint32_t submissions;
    stk_vk_queue compute, transfer;
    stk_vk_memory memory;
    VkPipelineLayout layout;
    VkPipelineCache cache;
    char *cache_path;
    bool cache_was_read;
    VkPipeline pipelines[STK_VK_SHADER_COUNT];
};

#endif
