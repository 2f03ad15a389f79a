// The two shaders of an expert, wherever their inputs and outputs are.
#include "vulkan/experts_impl.h"

expert_sizes stk_vk_experts_sizes(const stk_vk_experts_options *o, uint32_t high)
{
    uint32_t chunks = (o->bundle.width + 127) / 128; // of outputs, in both down shaders
    return (expert_sizes){{o->bundle.ffn_width / 32, high, 1}, {chunks, high, 1}};
}

// h, then q, then d of every pair.
uint64_t stk_vk_experts_inner_bytes(const stk_vk_experts_options *o, uint32_t pairs)
{
    uint64_t ffn = o->bundle.ffn_width;
    return stk_vk_padded(pairs * ffn * 4) + stk_vk_padded(pairs * ffn) +
           stk_vk_padded(pairs * (ffn / 8));
}

void stk_vk_experts_place_inner(const stk_vk_experts_options *o, uint32_t pairs,
                                VkDeviceAddress address, expert_places *p)
{
    uint64_t ffn = o->bundle.ffn_width;
    p->h = address;
    p->hq = p->h + stk_vk_padded(pairs * ffn * 4);
    p->hd = p->hq + stk_vk_padded(pairs * ffn);
}

stk_status stk_vk_experts_bind_inner(stk_vk_experts *e, VkCommandBuffer commands,
                                     const expert_places *p)
{
    const stk_bundle *b = &e->options.bundle;
    const VkDeviceAddress addresses[] = {p->tiles, p->pairs, p->q,  p->d,
                                         p->sum,   p->h,     p->hq, p->hd};
    const uint32_t constants[] = {b->width, (uint32_t)(e->options.bundle_at / 16),
                                  b->group_bytes / 16, b->scales_bytes / 16, b->run_bytes / 16};
    return p->tiles != 0
               ? stk_vk_bind(e->vk, commands, STK_VK_SHADER_expert_inner_rows, addresses, constants)
               : stk_vk_bind(e->vk, commands, STK_VK_SHADER_expert_inner, addresses + 1, constants);
}

stk_status stk_vk_experts_bind_down(stk_vk_experts *e, VkCommandBuffer commands,
                                    const expert_places *p)
{
    const stk_bundle *b = &e->options.bundle;
    bool tiled = p->tiles != 0, is_transposed = b->scales_bytes == 0;
    VkDeviceAddress pairs = tiled ? p->tiles : p->pairs;
    uint32_t at = (uint32_t)(e->options.bundle_at / 4), groups = b->ffn_width / 32;
    const VkDeviceAddress outputs[] = {pairs, p->hq, p->hd, p->y};
    const uint32_t outputs_constants[] = {
        b->width,         groups,         at, b->group_bytes / 4, b->scales_bytes / 4,
        b->run_bytes / 4, b->up_bytes / 4};
    const VkDeviceAddress neurons[] = {pairs, p->h, p->y};
    const uint32_t neurons_constants[] = {b->width,           groups,           at,
                                          b->group_bytes / 4, b->run_bytes / 4, b->up_bytes / 4};
    stk_vk_shader shader = is_transposed ? tiled ? STK_VK_SHADER_expert_down_t_rows
                                                 : STK_VK_SHADER_expert_down_t
                           : tiled       ? STK_VK_SHADER_expert_down_rows
                                         : STK_VK_SHADER_expert_down;
    return stk_vk_bind(e->vk, commands, shader, is_transposed ? neurons : outputs,
                       is_transposed ? neurons_constants : outputs_constants);
}
