// vulkan/run.h: one shader, once, on host arrays: for tests and benches, not for the token path.
#ifndef STK_VULKAN_RUN_H
#define STK_VULKAN_RUN_H

#include "vulkan/device.h"
#include "vulkan/shaders.h"
#include <stddef.h>

enum { STK_VK_RUN_BUFFERS_MAX = 8 };

typedef struct stk_vk_run_buffer {
    void *host;
    size_t bytes;
    bool output; // copied back
} stk_vk_run_buffer;

// Copies the buffers to the device, runs groups[3] workgroups of `shader` with the constants and
// copies outputs back. The counts must be those of shaders.def. STK_NO_MEMORY, STK_DEVICE_LOST.
STK_CHECKED stk_status stk_vk_run(stk_vk *vk, stk_vk_shader shader,
                                  const stk_vk_run_buffer *buffers, uint32_t buffer_count,
                                  const uint32_t *constants, uint32_t constant_count,
                                  const uint32_t groups[3]);

// "matmul_x16_q4_0".
const char *stk_vk_shader_name(stk_vk_shader shader);

#endif
