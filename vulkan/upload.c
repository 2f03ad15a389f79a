#include "vulkan/dense_impl.h"

#include <string.h>

enum { STAGE_BYTES = 8 << 20 };

static stk_status copy_stage(stk_vk *vk, VkCommandBuffer commands, const stk_vk_buffer *stage,
                             const stk_vk_buffer *to, uint64_t at, uint64_t bytes)
{
    VkBufferCopy region = {.srcOffset = stage->at, .dstOffset = to->at + at, .size = bytes};
    uint64_t value = 0;
    stk_status status = stk_vk_commands_begin(vk, commands, true);
    if (status != STK_OK)
        return status;
    vk->fn.CmdCopyBuffer(commands, stage->handle, to->handle, 1, &region);
    stk_vk_barrier(vk, commands, VK_PIPELINE_STAGE_TRANSFER_BIT, VK_ACCESS_TRANSFER_WRITE_BIT,
                   VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT, VK_ACCESS_SHADER_READ_BIT);
    status = stk_vk_commands_end(vk, commands);
    if (status == STK_OK)
        status = stk_vk_submit(vk, &vk->compute, commands, NULL, 0, &value);
    return status == STK_OK ? stk_vk_wait(vk, &vk->compute, value) : status;
}

stk_status stk_vk_upload(stk_vk *vk, const stk_vk_buffer *to, uint64_t at, const void *from,
                         uint64_t bytes)
{
    if (to->mapped) {
        memcpy(to->mapped + at, from, bytes);
        return STK_OK;
    }
    const uint8_t *source = from;
    stk_vk_buffer stage = {0};
    VkCommandBuffer commands = VK_NULL_HANDLE;
    uint64_t most = bytes < STAGE_BYTES ? bytes : STAGE_BYTES;
    stk_status status = stk_vk_buffer_take(vk, STK_VK_UPLOAD, most, &stage);
    if (status == STK_OK)
        status = stk_vk_commands_take(vk, &vk->compute, &commands);
    for (uint64_t done = 0; done < bytes && status == STK_OK; done += most) {
        uint64_t part = bytes - done < most ? bytes - done : most;
        memcpy(stage.mapped, source + done, part);
        status = copy_stage(vk, commands, &stage, to, at + done, part);
    }
    stk_vk_commands_give(vk, &vk->compute, commands);
    stk_vk_buffer_give(vk, &stage);
    return status;
}
