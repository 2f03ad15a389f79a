#include "vulkan/impl.h"

#include <stdlib.h>
#include <string.h>

enum { PUSH_BYTES = 128 }; // what every device has

stk_status stk_vk_pipelines_open(stk_vk *vk, const char *cache_path)
{
    VkPushConstantRange range = {.stageFlags = VK_SHADER_STAGE_COMPUTE_BIT, .size = PUSH_BYTES};
    VkPipelineLayoutCreateInfo layout = {.sType = VK_STRUCTURE_TYPE_PIPELINE_LAYOUT_CREATE_INFO,
                                         .pushConstantRangeCount = 1,
                                         .pPushConstantRanges = &range};
    VkResult result = vk->fn.CreatePipelineLayout(vk->device, &layout, NULL, &vk->layout);
    if (result != VK_SUCCESS)
        return stk_vk_fail(vk->log, result, "cannot create a pipeline layout");
    if (!cache_path)
        return STK_OK;
    vk->cache_path = strdup(cache_path);
    if (!vk->cache_path)
        return STK_NO_MEMORY;
    size_t bytes = 0;
    void *data = stk_vk_cache_read(cache_path, &vk->info, &bytes);
    VkPipelineCacheCreateInfo info = {.sType = VK_STRUCTURE_TYPE_PIPELINE_CACHE_CREATE_INFO,
                                      .initialDataSize = bytes,
                                      .pInitialData = data};
    vk->cache_was_read = data != NULL;
    result = vk->fn.CreatePipelineCache(vk->device, &info, NULL, &vk->cache);
    free(data);
    return result == VK_SUCCESS ? STK_OK
                                : stk_vk_fail(vk->log, result, "cannot create a pipeline cache");
}

static void save_cache(stk_vk *vk)
{
    size_t bytes = 0;
    if (vk->fn.GetPipelineCacheData(vk->device, vk->cache, &bytes, NULL) != VK_SUCCESS ||
        bytes == 0)
        return;
    void *data = malloc(bytes);
    if (data && vk->fn.GetPipelineCacheData(vk->device, vk->cache, &bytes, data) == VK_SUCCESS)
        stk_vk_cache_write(vk->cache_path, &vk->info, data, bytes, vk->log);
    free(data);
}

void stk_vk_pipelines_close(stk_vk *vk)
{
    if (vk->cache) {
        save_cache(vk);
        vk->fn.DestroyPipelineCache(vk->device, vk->cache, NULL);
    }
    for (uint32_t i = 0; i < STK_VK_SHADER_COUNT; i++)
        if (vk->pipelines[i])
            vk->fn.DestroyPipeline(vk->device, vk->pipelines[i], NULL);
    if (vk->layout)
        vk->fn.DestroyPipelineLayout(vk->device, vk->layout, NULL);
    free(vk->cache_path);
}

static VkResult create_module(stk_vk *vk, const stk_vk_code *code, VkShaderModule *out)
{
    const uint32_t *words = vk->use_dot && code->dot ? code->dot : code->plain;
    size_t bytes = vk->use_dot && code->dot ? code->dot_bytes : code->plain_bytes;
    uint32_t *patched = malloc(bytes + STK_VK_CONTROL_WORDS * sizeof *patched);
    if (!patched)
        return VK_ERROR_OUT_OF_HOST_MEMORY;
    size_t count = stk_vk_add_float_controls(words, bytes / sizeof *words, vk->info.has_rte_float32,
                                             vk->info.has_denorms_float32, patched);
    VkShaderModuleCreateInfo info = {.sType = VK_STRUCTURE_TYPE_SHADER_MODULE_CREATE_INFO,
                                     .codeSize = count * sizeof *patched,
                                     .pCode = patched};
    VkResult result = vk->fn.CreateShaderModule(vk->device, &info, NULL, out);
    free(patched);
    return result;
}

// Compiles the shader unless that was done before.
static stk_status get_pipeline(stk_vk *vk, stk_vk_shader shader, VkPipeline *out)
{
    const stk_vk_code *code = &stk_vk_codes[shader];
    if (!vk->pipelines[shader]) {
        VkShaderModule module = VK_NULL_HANDLE;
        VkResult result = create_module(vk, code, &module);
        if (result != VK_SUCCESS)
            return stk_vk_fail(vk->log, result, code->name);
        VkComputePipelineCreateInfo info = {
            .sType = VK_STRUCTURE_TYPE_COMPUTE_PIPELINE_CREATE_INFO,
            .stage = {.sType = VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_CREATE_INFO,
                      .stage = VK_SHADER_STAGE_COMPUTE_BIT,
                      .module = module,
                      .pName = "main"},
            .layout = vk->layout};
        result = vk->fn.CreateComputePipelines(vk->device, vk->cache, 1, &info, NULL,
                                               &vk->pipelines[shader]);
        vk->fn.DestroyShaderModule(vk->device, module, NULL);
        if (result != VK_SUCCESS) {
            vk->pipelines[shader] = VK_NULL_HANDLE;
            return stk_vk_fail(vk->log, result, code->name);
        }
    }
    *out = vk->pipelines[shader];
    return STK_OK;
}

stk_status stk_vk_bind(stk_vk *vk, VkCommandBuffer commands, stk_vk_shader shader,
                       const VkDeviceAddress *addresses, const uint32_t *constants)
{
    const stk_vk_code *code = &stk_vk_codes[shader];
    uint8_t push[PUSH_BYTES];
    uint32_t address_bytes = code->buffers * (uint32_t)sizeof *addresses;
    uint32_t constant_bytes = code->constants * (uint32_t)sizeof *constants;
    VkPipeline pipeline = VK_NULL_HANDLE;
    stk_status status = get_pipeline(vk, shader, &pipeline);
    if (status != STK_OK)
        return status;
    memcpy(push, addresses, address_bytes);
    memcpy(push + address_bytes, constants, constant_bytes);
    vk->fn.CmdBindPipeline(commands, VK_PIPELINE_BIND_POINT_COMPUTE, pipeline);
    vk->fn.CmdPushConstants(commands, vk->layout, VK_SHADER_STAGE_COMPUTE_BIT, 0,
                            address_bytes + constant_bytes, push);
    return STK_OK;
}

const char *stk_vk_shader_name(stk_vk_shader shader)
{
    return stk_vk_codes[shader].name;
}
