#include "vulkan/run.h"

#include <assert.h>
#include <string.h>

#include "vulkan/impl.h"

// The buffers of one run, in memory the CPU sees.
typedef struct run_job {
    stk_vk_buffer buffers[STK_VK_RUN_BUFFERS_MAX];
    VkDeviceAddress addresses[STK_VK_RUN_BUFFERS_MAX];
    VkCommandBuffer commands;
} run_job;

static stk_status record_and_wait(stk_vk *vk, run_job *job, stk_vk_shader shader,
                                  const uint32_t *constants, const uint32_t groups[3])
{
    uint64_t value = 0;
    stk_status status = stk_vk_commands_take(vk, &vk->compute, &job->commands);
    if (status == STK_OK)
        status = stk_vk_commands_begin(vk, job->commands, true);
    if (status == STK_OK)
        status = stk_vk_bind(vk, job->commands, shader, job->addresses, constants);
    if (status != STK_OK)
        return status;
    vk->fn.CmdDispatch(job->commands, groups[0], groups[1], groups[2]);
    stk_vk_barrier(vk, job->commands, VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT,
                   VK_ACCESS_SHADER_WRITE_BIT, VK_PIPELINE_STAGE_HOST_BIT, VK_ACCESS_HOST_READ_BIT);
    status = stk_vk_commands_end(vk, job->commands);
    if (status == STK_OK)
        status = stk_vk_submit(vk, &vk->compute, job->commands, NULL, 0, &value);
    if (status == STK_OK)
        status = stk_vk_wait(vk, &vk->compute, value);
    return status;
}

stk_status stk_vk_run(stk_vk *vk, stk_vk_shader shader, const stk_vk_run_buffer *buffers,
                      uint32_t buffer_count, const uint32_t *constants, uint32_t constant_count,
                      const uint32_t groups[3])
{
    assert(buffer_count == stk_vk_codes[shader].buffers && buffer_count <= STK_VK_RUN_BUFFERS_MAX);
    assert(constant_count == stk_vk_codes[shader].constants);
    (void)constant_count;
    run_job job;
    memset(&job, 0, sizeof job);
    stk_status status = STK_OK;
    for (uint32_t i = 0; i < buffer_count && status == STK_OK; i++) {
        status = stk_vk_buffer_take(vk, STK_VK_READBACK, buffers[i].bytes, &job.buffers[i]);
        if (status != STK_OK)
            break;
        memcpy(job.buffers[i].mapped, buffers[i].host, buffers[i].bytes);
        job.addresses[i] = job.buffers[i].address;
    }
    if (status == STK_OK)
        status = record_and_wait(vk, &job, shader, constants, groups);
    for (uint32_t i = 0; i < buffer_count; i++) {
        if (status == STK_OK && buffers[i].output)
            memcpy(buffers[i].host, job.buffers[i].mapped, buffers[i].bytes);
        stk_vk_buffer_give(vk, &job.buffers[i]);
    }
    stk_vk_commands_give(vk, &vk->compute, job.commands);
    return status;
}
