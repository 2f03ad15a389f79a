// Commands of a layer: recorded once. How much there is to do they read from the step.
#include "vulkan/dense_impl.h"

#include <math.h>
#include <string.h>

static uint32_t float_bits(float f)
{
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    return bits;
}

void stk_vk_record_barrier(layer_recorder *r)
{
    stk_vk_barrier(r->stream->vk, r->commands, VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT,
                   VK_ACCESS_SHADER_WRITE_BIT, VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT,
                   VK_ACCESS_SHADER_READ_BIT | VK_ACCESS_SHADER_WRITE_BIT);
}

void stk_vk_record_dispatch(layer_recorder *r, dispatch which)
{
    const stk_vk_stream *s = r->stream;
    VkDeviceSize at = ((VkDeviceSize)r->layer * DISPATCH_COUNT + which) *
                      sizeof(VkDispatchIndirectCommand);
    if (r->status == STK_OK)
        s->vk->fn.CmdDispatchIndirect(r->commands, s->step.handle, s->step.at + at);
}

void stk_vk_record_shader(layer_recorder *r, dispatch which, stk_vk_shader shader,
                          const VkDeviceAddress *addresses, const uint32_t *constants)
{
    if (r->status == STK_OK)
        r->status = stk_vk_bind(r->stream->vk, r->commands, shader, addresses, constants);
    stk_vk_record_dispatch(r, which);
}

void stk_vk_record_product(layer_recorder *r, dispatch which, const dense_matrix *matrix,
                           const dense_acts *acts, VkDeviceAddress y, uint32_t y_stride)
{
    const stk_vk_stream *s = r->stream;
    VkDeviceAddress many = r->few ? 0 : s->step.address + s->layout.batch_at;
    if (r->status == STK_OK)
        r->status = stk_vk_dense_bind(s->vk, r->commands, matrix, acts, y, y_stride, many);
    stk_vk_record_dispatch(r, which);
}

dense_acts stk_vk_stream_acts(const stk_vk_stream *s)
{
    VkDeviceAddress at = s->acts.address;
    return (dense_acts){at + s->block.y_at, at + s->block.q_at, at + s->block.d_at,
                        at + s->block.sum_at};
}

static dense_acts attended_acts(const stk_vk_stream *s)
{
    const stk_vk_dense_options *o = &s->dense->options;
    uint64_t values = (uint64_t)s->options.rows_max * o->head_count * o->head_dim;
    VkDeviceAddress x = s->attended.address, q = x + 4 * values, d = q + values;
    return (dense_acts){x, q, d, d + values / 8};
}

void stk_vk_record_project(layer_recorder *r, VkDeviceAddress x)
{
    const stk_vk_stream *s = r->stream;
    const stk_vk_dense_options *o = &s->dense->options;
    const dense_layer *l = &s->dense->layers[r->layer];
    const stk_vk_buffer *kv = &s->kv[r->layer];
    const VkDeviceAddress norm[] = {x, l->attn_norm, s->acts.address};
    const uint32_t norm_constants[] = {o->width, s->options.rows_max, float_bits(o->rms_epsilon)};
    uint32_t q_width = o->head_count * o->head_dim, kv_width = o->kv_head_count * o->head_dim;
    VkDeviceAddress q = s->qkv.address, k = q + 4 * (uint64_t)s->options.rows_max * q_width;
    VkDeviceAddress v = k + 4 * (uint64_t)s->options.rows_max * kv_width;
    dense_acts acts = stk_vk_stream_acts(s);
    const VkDeviceAddress rope[] = {q,
                                    k,
                                    v,
                                    s->step.address + s->layout.batch_at,
                                    s->step.address + s->layout.angles_at,
                                    kv->address,
                                    kv->address + kv->bytes / 2};
    const uint32_t rope_constants[] = {o->head_dim,      l->has_rope ? o->rope_dim / 2 : 0,
                                       o->rope_dim,      o->head_count,
                                       o->kv_head_count, s->capacity_tokens[r->layer]};
    stk_vk_record_shader(r, DISPATCH_NORM, STK_VK_SHADER_norm_act, norm, norm_constants);
    stk_vk_record_barrier(r);
    stk_vk_record_product(r, DISPATCH_Q, &l->q, &acts, q, q_width);
    stk_vk_record_product(r, DISPATCH_K, &l->k, &acts, k, kv_width);
    stk_vk_record_product(r, DISPATCH_V, &l->v, &acts, v, kv_width);
    stk_vk_record_barrier(r);
    stk_vk_record_shader(r, DISPATCH_ROPE, STK_VK_SHADER_rope_append, rope, rope_constants);
    stk_vk_record_barrier(r);
}

void stk_vk_record_attend(layer_recorder *r)
{
    const stk_vk_stream *s = r->stream;
    const stk_vk_dense_options *o = &s->dense->options;
    const dense_layer *l = &s->dense->layers[r->layer];
    const stk_vk_buffer *kv = &s->kv[r->layer];
    uint32_t segments = stk_vk_dense_segments_max(s);
    float scale = 1.0f / sqrtf((float)o->head_dim);
    VkDeviceAddress batch = s->step.address + s->layout.batch_at;
    const VkDeviceAddress attend[] = {s->qkv.address,
                                      kv->address,
                                      kv->address + kv->bytes / 2,
                                      batch,
                                      s->step.address + s->layout.tiles_at,
                                      r->few ? s->states.address : s->attended.address};
    const uint32_t constants[] = {
        o->head_dim,      o->head_count,     o->kv_head_count, s->capacity_tokens[r->layer],
        l->window_tokens, float_bits(scale), segments};
    const VkDeviceAddress join[] = {s->states.address, s->attended.address, batch};
    const uint32_t join_constants[] = {o->head_dim, segments, l->window_tokens};
    stk_vk_shader shader = r->few                             ? STK_VK_SHADER_attend_split
                           : stk_vk_dense_queries(s->vk) == 8 ? STK_VK_SHADER_attend_few
                                                              : STK_VK_SHADER_attend_many;
    stk_vk_record_shader(r, DISPATCH_ATTEND, shader, attend, constants);
    stk_vk_record_barrier(r);
    if (!r->few)
        return;
    stk_vk_record_shader(r, DISPATCH_JOIN, STK_VK_SHADER_attend_join, join, join_constants);
    stk_vk_record_barrier(r);
}

void stk_vk_record_output(layer_recorder *r, VkDeviceAddress copy)
{
    const stk_vk_stream *s = r->stream;
    const stk_vk_dense_options *o = &s->dense->options;
    const dense_layer *l = &s->dense->layers[r->layer];
    dense_acts acts = attended_acts(s);
    uint32_t blocks = s->options.rows_max * (o->head_count * o->head_dim / 32);
    const VkDeviceAddress quantize[] = {acts.x, acts.q, acts.d, acts.sum};
    const VkDeviceAddress norm[] = {s->acts.address, l->ffn_norm, s->acts.address,
                                    s->projected.address, copy};
    const uint32_t constants[] = {o->width, s->options.rows_max, float_bits(o->rms_epsilon)};
    stk_vk_record_shader(r, DISPATCH_QUANTIZE, STK_VK_SHADER_quantize_q8, quantize, &blocks);
    stk_vk_record_barrier(r);
    stk_vk_record_product(r, DISPATCH_OUTPUT, &l->output, &acts, s->projected.address, o->width);
    stk_vk_record_barrier(r);
    stk_vk_record_shader(r, DISPATCH_NORM, STK_VK_SHADER_norm_act_add, norm, constants);
    stk_vk_barrier(
        s->vk, r->commands, VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT, VK_ACCESS_SHADER_WRITE_BIT,
        VK_PIPELINE_STAGE_HOST_BIT | VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT,
        VK_ACCESS_HOST_READ_BIT | VK_ACCESS_SHADER_READ_BIT | VK_ACCESS_SHADER_WRITE_BIT);
}

// Copies the step of up to `rows` rows to where the device reads it.
static stk_status record_begin(stk_vk_stream *s, VkCommandBuffer commands, uint32_t rows)
{
    const step_layout *l = &s->layout;
    const stk_vk_dense_options *o = &s->dense->options;
    const uint64_t at[] = {0, l->batch_at, l->tiles_at, l->angles_at};
    const uint64_t bytes[] = {
        (uint64_t)o->layer_count * DISPATCH_COUNT * sizeof(VkDispatchIndirectCommand),
        8 + 8 * (uint64_t)rows, 8 * (uint64_t)rows, 4 * (uint64_t)rows * o->rope_dim};
    uint32_t count = o->rope_dim != 0 ? 4 : 3;
    VkBufferCopy regions[4];
    stk_status status = stk_vk_commands_begin(s->vk, commands, false);
    if (status != STK_OK)
        return status;
    for (uint32_t i = 0; i < count; i++)
        regions[i] = (VkBufferCopy){s->step_in.at + at[i], s->step.at + at[i], bytes[i]};
    s->vk->fn.CmdCopyBuffer(commands, s->step_in.handle, s->step.handle, count, regions);
    stk_vk_barrier(s->vk, commands, VK_PIPELINE_STAGE_TRANSFER_BIT, VK_ACCESS_TRANSFER_WRITE_BIT,
                   VK_PIPELINE_STAGE_DRAW_INDIRECT_BIT | VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT,
                   VK_ACCESS_INDIRECT_COMMAND_READ_BIT | VK_ACCESS_SHADER_READ_BIT);
    return stk_vk_commands_end(s->vk, commands);
}

static stk_status record_layer(stk_vk_stream *s, VkCommandBuffer commands, uint32_t layer, bool few)
{
    layer_recorder r = {s, commands, layer, few, stk_vk_commands_begin(s->vk, commands, false)};
    if (r.status != STK_OK)
        return r.status;
    stk_vk_record_barrier(&r); // what the layer before left behind may still be read
    stk_vk_record_project(&r, s->x_in.address);
    stk_vk_record_attend(&r);
    stk_vk_record_output(&r, s->host.address);
    return r.status == STK_OK ? stk_vk_commands_end(s->vk, commands) : r.status;
}

stk_status stk_vk_stream_record(stk_vk_stream *s)
{
    stk_status status = STK_OK;
    uint32_t few = s->options.rows_max < FEW_ROWS ? s->options.rows_max : FEW_ROWS;
    for (uint32_t c = 0; c < CLASSES && status == STK_OK; c++) {
        if (!s->step.mapped) // else the host writes it there
            status = stk_vk_commands_take(s->vk, &s->vk->compute, &s->begin[c]);
        if (status == STK_OK && s->begin[c])
            status = record_begin(s, s->begin[c], c == 0 ? few : s->options.rows_max);
        for (uint32_t i = 0; i < s->dense->options.layer_count && status == STK_OK; i++) {
            if (!s->dense->layers[i].here)
                continue;
            status = stk_vk_commands_take(s->vk, &s->vk->compute, &s->layers[i][c]);
            if (status == STK_OK)
                status = record_layer(s, s->layers[i][c], i, c == 0);
        }
    }
    return status;
}
