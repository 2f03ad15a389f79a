#include "vulkan/probe.h"

#include <time.h>

#include "vulkan/impl.h"

enum { RUNS = 4 };
#define BYTES_DEFAULT (UINT64_C(64) << 20)

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static stk_status record(stk_vk *vk, VkCommandBuffer commands, const stk_vk_buffer *from,
                         const stk_vk_buffer *to, uint64_t bytes)
{
    VkBufferCopy region = {.srcOffset = from->at, .dstOffset = to->at, .size = bytes};
    stk_status status = stk_vk_commands_begin(vk, commands, false);
    if (status != STK_OK)
        return status;
    // runs follow each other, and each waits for the one before on the CPU
    stk_vk_barrier(vk, commands, VK_PIPELINE_STAGE_TRANSFER_BIT,
                   VK_ACCESS_TRANSFER_WRITE_BIT | VK_ACCESS_TRANSFER_READ_BIT,
                   VK_PIPELINE_STAGE_TRANSFER_BIT,
                   VK_ACCESS_TRANSFER_READ_BIT | VK_ACCESS_TRANSFER_WRITE_BIT);
    vk->fn.CmdCopyBuffer(commands, from->handle, to->handle, 1, &region);
    return stk_vk_commands_end(vk, commands);
}

// The time of the fastest run.
static stk_status time_copies(stk_vk *vk, stk_vk_queue *queue, const stk_vk_buffer *from,
                              const stk_vk_buffer *to, uint64_t bytes, uint64_t *best_ns)
{
    VkCommandBuffer commands = VK_NULL_HANDLE;
    *best_ns = UINT64_MAX;
    stk_status status = stk_vk_commands_take(vk, queue, &commands);
    if (status != STK_OK)
        return status;
    status = record(vk, commands, from, to, bytes);
    for (int run = 0; run < RUNS && status == STK_OK; run++) {
        uint64_t value = 0, start = now_ns();
        status = stk_vk_submit(vk, queue, commands, NULL, 0, &value);
        if (status == STK_OK)
            status = stk_vk_wait(vk, queue, value);
        uint64_t took = now_ns() - start;
        *best_ns = took < *best_ns ? took : *best_ns;
    }
    if (status == STK_OK || status == STK_DEVICE_LOST) // else it may still run
        vk->fn.FreeCommandBuffers(vk->device, queue->pool, 1, &commands);
    return status;
}

static uint64_t speed(uint64_t bytes, uint64_t ns)
{
    return (uint64_t)((double)bytes / 0x1p20 * 1e9 / (double)(ns + !ns));
}

static stk_status measure(stk_vk *vk, const stk_vk_buffer buffers[4], uint64_t bytes,
                          stk_vk_speeds *out)
{
    stk_vk_queue *uploads = vk->transfer.handle ? &vk->transfer : &vk->compute;
    uint64_t up = 0, down = 0, copy = 0;
    stk_status status = time_copies(vk, uploads, &buffers[0], &buffers[2], bytes, &up);
    if (status == STK_OK)
        status = time_copies(vk, uploads, &buffers[2], &buffers[1], bytes, &down);
    if (status == STK_OK)
        status = time_copies(vk, &vk->compute, &buffers[2], &buffers[3], bytes, &copy);
    if (status == STK_OK)
        *out = (stk_vk_speeds){.upload_mib_s = speed(bytes, up),
                               .download_mib_s = speed(bytes, down),
                               .copy_mib_s = speed(2 * bytes, copy),
                               .bytes = bytes};
    return status;
}

stk_status stk_vk_probe(stk_vk *vk, uint64_t bytes_max, stk_vk_speeds *out)
{
    static const stk_vk_use uses[4] = {STK_VK_UPLOAD, STK_VK_READBACK, STK_VK_LOCAL, STK_VK_LOCAL};
    stk_vk_buffer buffers[4] = {{0}};
    uint64_t left = vk->memory.bytes_max - vk->memory.taken_bytes;
    uint64_t bytes = bytes_max ? bytes_max : BYTES_DEFAULT;
    bytes = (bytes < left / 8 ? bytes : left / 8) / 4096 * 4096;
    if (bytes == 0)
        return STK_NO_MEMORY;
    stk_status status = STK_OK;
    for (int i = 0; i < 4 && status == STK_OK; i++)
        status = stk_vk_buffer_take(vk, uses[i], bytes, &buffers[i]);
    if (status == STK_OK)
        status = measure(vk, buffers, bytes, out);
    for (int i = 0; i < 4; i++)
        stk_vk_buffer_give(vk, &buffers[i]);
    return status;
}
