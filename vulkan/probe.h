// vulkan/probe.h: how fast a device's memory is, seen from the host and from the device.
#ifndef STK_VULKAN_PROBE_H
#define STK_VULKAN_PROBE_H

#include "vulkan/device.h"

// Best of a few runs, in MiB per second. Higher is better.
typedef struct stk_vk_speeds {
    uint64_t upload_mib_s;   // staging memory to device memory, on the queue uploads use
    uint64_t download_mib_s; // device memory to the host's
    uint64_t copy_mib_s;     // within device memory: bytes read plus bytes written
    uint64_t bytes;          // copied in a run
} stk_vk_speeds;

// Copies up to bytes_max (0: 64 MiB; less where the budget is short) a few times and waits: some
// milliseconds on a card. What it takes it gives back. *out is written only on STK_OK.
// STK_NO_MEMORY, STK_DEVICE_LOST. Thread-safety: as the device.
STK_CHECKED stk_status stk_vk_probe(stk_vk *vk, uint64_t bytes_max, stk_vk_speeds *out);

#endif
