#include "vulkan/impl.h"

stk_status stk_vk_queue_open(stk_vk *vk, uint32_t family, stk_vk_queue *out)
{
    out->family = family;
    vk->fn.GetDeviceQueue(vk->device, family, 0, &out->handle);
    VkCommandPoolCreateInfo pool = {.sType = VK_STRUCTURE_TYPE_COMMAND_POOL_CREATE_INFO,
                                    .flags = VK_COMMAND_POOL_CREATE_RESET_COMMAND_BUFFER_BIT,
                                    .queueFamilyIndex = family};
    VkResult result = vk->fn.CreateCommandPool(vk->device, &pool, NULL, &out->pool);
    if (result != VK_SUCCESS)
        return stk_vk_fail(vk->log, result, "cannot create a command pool");
    VkSemaphoreTypeCreateInfo type = {.sType = VK_STRUCTURE_TYPE_SEMAPHORE_TYPE_CREATE_INFO,
                                      .semaphoreType = VK_SEMAPHORE_TYPE_TIMELINE};
    VkSemaphoreCreateInfo semaphore = {.sType = VK_STRUCTURE_TYPE_SEMAPHORE_CREATE_INFO,
                                       .pNext = &type};
    result = vk->fn.CreateSemaphore(vk->device, &semaphore, NULL, &out->timeline);
    return result == VK_SUCCESS ? STK_OK
                                : stk_vk_fail(vk->log, result, "cannot create a semaphore");
}

void stk_vk_queue_close(stk_vk *vk, stk_vk_queue *queue)
{
    if (queue->pool)
        vk->fn.DestroyCommandPool(vk->device, queue->pool, NULL);
    if (queue->timeline)
        vk->fn.DestroySemaphore(vk->device, queue->timeline, NULL);
    *queue = (stk_vk_queue){0};
}

stk_status stk_vk_commands_take(stk_vk *vk, stk_vk_queue *queue, VkCommandBuffer *out)
{
    VkCommandBufferAllocateInfo info = {.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO,
                                        .commandPool = queue->pool,
                                        .level = VK_COMMAND_BUFFER_LEVEL_PRIMARY,
                                        .commandBufferCount = 1};
    VkResult result = vk->fn.AllocateCommandBuffers(vk->device, &info, out);
    return result == VK_SUCCESS ? STK_OK
                                : stk_vk_fail(vk->log, result, "cannot take a command buffer");
}

void stk_vk_commands_give(stk_vk *vk, stk_vk_queue *queue, VkCommandBuffer commands)
{
    if (commands)
        vk->fn.FreeCommandBuffers(vk->device, queue->pool, 1, &commands);
}

stk_status stk_vk_commands_begin(stk_vk *vk, VkCommandBuffer commands, bool once)
{
    VkCommandBufferBeginInfo info = {
        .sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO,
        .flags = once ? (VkCommandBufferUsageFlags)VK_COMMAND_BUFFER_USAGE_ONE_TIME_SUBMIT_BIT : 0};
    VkResult result = vk->fn.BeginCommandBuffer(commands, &info);
    return result == VK_SUCCESS ? STK_OK
                                : stk_vk_fail(vk->log, result, "cannot begin a command buffer");
}

stk_status stk_vk_commands_end(stk_vk *vk, VkCommandBuffer commands)
{
    VkResult result = vk->fn.EndCommandBuffer(commands);
    return result == VK_SUCCESS ? STK_OK
                                : stk_vk_fail(vk->log, result, "cannot end a command buffer");
}

stk_status stk_vk_submit(stk_vk *vk, stk_vk_queue *queue, VkCommandBuffer commands,
                         const stk_vk_queue *wait_for, uint64_t wait_value, uint64_t *out_value)
{
    return stk_vk_submit_all(vk, queue, &commands, 1, wait_for, wait_value, out_value);
}

stk_status stk_vk_submit_all(stk_vk *vk, stk_vk_queue *queue, const VkCommandBuffer *commands,
                             uint32_t count, const stk_vk_queue *wait_for, uint64_t wait_value,
                             uint64_t *out_value)
{
    const VkPipelineStageFlags stage = VK_PIPELINE_STAGE_ALL_COMMANDS_BIT;
    uint64_t signal_value = queue->submitted + 1;
    VkTimelineSemaphoreSubmitInfo timeline = {
        .sType = VK_STRUCTURE_TYPE_TIMELINE_SEMAPHORE_SUBMIT_INFO,
        .waitSemaphoreValueCount = wait_for != NULL,
        .pWaitSemaphoreValues = &wait_value,
        .signalSemaphoreValueCount = 1,
        .pSignalSemaphoreValues = &signal_value};
    VkSubmitInfo info = {.sType = VK_STRUCTURE_TYPE_SUBMIT_INFO,
                         .pNext = &timeline,
                         .waitSemaphoreCount = wait_for != NULL,
                         .pWaitSemaphores = wait_for ? &wait_for->timeline : NULL,
                         .pWaitDstStageMask = &stage,
                         .commandBufferCount = count,
                         .pCommandBuffers = commands,
                         .signalSemaphoreCount = 1,
                         .pSignalSemaphores = &queue->timeline};
    vk->lost |= ++vk->submissions == vk->faults.submission;
    VkResult result = vk->lost ? VK_ERROR_DEVICE_LOST
                               : vk->fn.QueueSubmit(queue->handle, 1, &info, VK_NULL_HANDLE);
    vk->lost |= result == VK_ERROR_DEVICE_LOST;
    if (result != VK_SUCCESS)
        return stk_vk_fail(vk->log, result, "cannot submit");
    *out_value = queue->submitted = signal_value;
    return STK_OK;
}

stk_status stk_vk_poll(stk_vk *vk, const stk_vk_queue *queue, uint64_t value)
{
    uint64_t reached = 0;
    VkResult result = vk->lost
                          ? VK_ERROR_DEVICE_LOST
                          : vk->fn.GetSemaphoreCounterValue(vk->device, queue->timeline, &reached);
    if (result != VK_SUCCESS)
        return stk_vk_fail(vk->log, result, "cannot ask how far the device is");
    return reached >= value ? STK_OK : STK_PENDING;
}

stk_status stk_vk_wait(stk_vk *vk, const stk_vk_queue *queue, uint64_t value)
{
    enum { SECONDS_MAX = 60 }; // a device that takes longer hangs
    VkSemaphoreWaitInfo info = {.sType = VK_STRUCTURE_TYPE_SEMAPHORE_WAIT_INFO,
                                .semaphoreCount = 1,
                                .pSemaphores = &queue->timeline,
                                .pValues = &value};
    VkResult result = vk->lost ? VK_ERROR_DEVICE_LOST : VK_TIMEOUT;
    // Second by second: a process that was stopped for a minute has lost one of them, not the
    // device. A software device is threads of this process: slow on a busy machine, never gone.
    bool has_limit = vk->info.kind != STK_VK_CPU;
    for (int i = 0; (i < SECONDS_MAX || !has_limit) && result == VK_TIMEOUT; i += has_limit)
        result = vk->fn.WaitSemaphores(vk->device, &info, UINT64_C(1000000000));
    return result == VK_SUCCESS ? STK_OK : stk_vk_fail(vk->log, result, "waiting for the device");
}

void stk_vk_barrier(stk_vk *vk, VkCommandBuffer commands, VkPipelineStageFlags from,
                    VkAccessFlags from_access, VkPipelineStageFlags to, VkAccessFlags to_access)
{
    VkMemoryBarrier barrier = {.sType = VK_STRUCTURE_TYPE_MEMORY_BARRIER,
                               .srcAccessMask = from_access,
                               .dstAccessMask = to_access};
    vk->fn.CmdPipelineBarrier(commands, from, to, 0, 1, &barrier, 0, NULL, 0, NULL);
}
