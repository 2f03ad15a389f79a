// vulkan/device.h: the Vulkan devices of this machine, and one of them opened for compute.
//
// libvulkan is loaded at run time, so a program built with this room runs on machines without it.
// No Vulkan type appears in this header; vulkan.h stays inside the room. Invariant: what a device
// computes for sections 1 to 5 of docs/arithmetic.md equals the CPU's answer to the bit.
#ifndef STK_VULKAN_DEVICE_H
#define STK_VULKAN_DEVICE_H

#include "base/log.h"
#include <stdbool.h>
#include <stdint.h>

typedef enum stk_vk_kind { // in the order "auto" prefers
    STK_VK_DISCRETE,
    STK_VK_INTEGRATED,
    STK_VK_VIRTUAL,
    STK_VK_OTHER,
    STK_VK_CPU, // a software device, such as lavapipe
} stk_vk_kind;

// A heap of memory. Sizes in bytes.
typedef struct stk_vk_heap {
    uint64_t bytes, free_bytes; // as local_free_bytes
    bool is_local;              // to the device
    bool is_mappable;           // the CPU can write there
} stk_vk_heap;

enum { STK_VK_HEAPS_MAX = 16 };

// Facts about a device. Sizes in bytes.
typedef struct stk_vk_device_info {
    char name[256];
    char driver[256]; // "NVIDIA 550.54", "llvmpipe Mesa 22.3.6"
    char pci[16];     // "0000:01:00.0"; empty when unknown
    stk_vk_kind kind;
    uint32_t api_version; // major << 22 | minor << 12 | patch
    uint8_t driver_uuid[16];
    uint8_t cache_uuid[16]; // of pipeline caches

    uint64_t local_bytes;      // the largest heap of device-local memory
    uint64_t local_free_bytes; // of that, what the driver says this process may take now
    uint64_t mappable_bytes;   // of it, what the CPU can write: all or nothing
    uint64_t allocation_bytes_max;
    uint64_t import_align_bytes;      // of host memory the device can use in place; 0: it cannot
    uint64_t storage_range_bytes_max; // maxStorageBufferRange; addresses are not bound by it
    uint32_t shared_bytes_max;
    uint32_t workgroup_invocations_max;
    uint32_t workgroup_count_max[3];
    uint32_t subgroup_size;
    stk_vk_heap heaps[STK_VK_HEAPS_MAX];
    uint32_t heap_count;

    bool usable; // has what this room needs; unusable_because says what lacks
    char unusable_because[64];
    bool unified;         // every byte of device memory is also the CPU's
    bool has_budget;      // local_free_bytes comes from the driver
    bool has_dot;         // integer dot product instruction
    bool dot_accelerated; // and worth using
    bool has_rte_float32; // can be told to round to nearest even
    bool has_denorms_float32;
    bool has_transfer_queue; // copies run beside compute
    bool has_int8, has_float16, has_storage8, has_storage16, has_subgroup_arithmetic;
} stk_vk_device_info;

enum { STK_VK_DEVICES_MAX = 16 };

// "discrete", "integrated", "virtual", "other", "cpu". Never NULL.
const char *stk_vk_kind_name(stk_vk_kind kind);

// Describes up to STK_VK_DEVICES_MAX devices in the driver's order. STK_UNSUPPORTED: this build or
// this machine has no Vulkan; one line at info level says which. *count is 0 then.
STK_CHECKED stk_status stk_vk_devices(const stk_log *log, stk_vk_device_info *out, uint32_t *count);

// The device that `choice` names: NULL or "auto" (the first usable one of the most preferred kind),
// an index, a PCI address, or a part of the name in any case. STK_INVALID: none, or not usable
// (logged). Pure.
STK_CHECKED stk_status stk_vk_choose(const stk_vk_device_info *infos, uint32_t count,
                                     const char *choice, const stk_log *log, uint32_t *out_index);

typedef enum stk_vk_dot { STK_VK_DOT_AUTO, STK_VK_DOT_NEVER, STK_VK_DOT_ALWAYS } stk_vk_dot;

// Tests: what goes wrong, and what a device seems to lack.
typedef struct stk_vk_faults {
    uint32_t allocation;        // this allocation of device memory fails, counted from 1; 0: none
    uint32_t submission;        // the device is lost at this submission, counted from 1; 0: never
    const uint64_t *free_bytes; // what the driver says is left, now and later; NULL: the truth
    bool unmapped; // device memory is out of the CPU's reach, as on most discrete cards
    bool apart;    // device memory is not the host's, so no limit of the host's memory counts it
    bool no_import, no_addresses; // lacks host memory in place, buffer device addresses
} stk_vk_faults;

typedef struct stk_vk_options {
    const stk_log *log; // borrowed, must outlive the device; NULL: silent
    const char *device; // as stk_vk_choose
    const char
        *pipeline_cache; // file to keep compiled shaders in; NULL: none. A bad file is ignored
    uint64_t memory_bytes_max; // hard cap on device memory; 0: none but the next
    uint32_t memory_percent;   // of what the driver offers this process, 1 to 100; 0: 90
    stk_vk_dot dot;            // integer dot product instruction; auto: where it is accelerated
    bool validate;             // with the validation layer and synchronization validation
    stk_vk_faults faults;      // tests; all zero: none
} stk_vk_options;

// An open device. Thread-safety: none; one thread at a time.
typedef struct stk_vk stk_vk;

// *out is written only on STK_OK; the caller closes it. STK_UNSUPPORTED: no Vulkan, or no
// validation layer though asked for; STK_INVALID: no such device; STK_NO_MEMORY; STK_DEVICE_LOST.
STK_CHECKED stk_status stk_vk_open(const stk_vk_options *options, stk_vk **out);
// Waits for the device, writes the pipeline cache, sets *vk to NULL; NULL is allowed. What was
// opened on the device must be closed before.
void stk_vk_close(stk_vk **vk);

const stk_vk_device_info *stk_vk_info(const stk_vk *vk); // borrowed
uint64_t stk_vk_memory_bytes(const stk_vk *vk);          // taken from the device so far
uint64_t stk_vk_memory_bytes_max(const stk_vk *vk);
// The same as the driver sees it now: less where other programs took memory since. Costs a call to
// the driver.
uint64_t stk_vk_memory_bytes_max_now(const stk_vk *vk);
uint32_t stk_vk_validation_messages(const stk_vk *vk); // warnings and errors so far
uint32_t stk_vk_submission_count(const stk_vk *vk);    // to its queues, since open
// Shaders whose compiled form came out of the pipeline cache's file: whether that file was read.
bool stk_vk_cache_was_read(const stk_vk *vk);

#endif
