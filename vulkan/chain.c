// A layer of a chain is recorded once, for a few rows. A run submits its layers' commands one after
// the other, with what brings the residual there before them and the head, or what brings it back,
// behind.
#include "vulkan/chain.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "vulkan/dense_impl.h"
#include "vulkan/experts_impl.h"

enum { EXPERTS_MAX = 1024, USED_MAX = 32, AROUND = 4 }; // AROUND: commands beside the layers'

// Where what a layer leaves for its next shader is, from the scratch's start.
typedef struct chain_layout {
    uint64_t logits_at, weights_at, pairs_at, inner_at, outputs_at, bytes;
} chain_layout;

struct stk_vk_chain {
    stk_vk *vk;
    stk_vk_chain_options options;
    stk_vk_stream *stream;
    stk_vk_experts *experts;
    uint32_t rows_max, pairs_max;
    chain_layout layout;
    stk_vk_buffer scratch;
    stk_vk_buffer chosen; // [layer][rows_max][used], read by the host
    VkCommandBuffer enter, leave;
    VkCommandBuffer *layers; // [layer]; NULL: no router there
    VkCommandBuffer *list;   // of a run
    uint64_t value;          // of the compute queue, when it is done
};

static uint32_t padded_experts(const stk_vk_experts_options *o)
{
    return (o->expert_count + 15) / 16 * 16;
}

static chain_layout layout_of(const stk_vk_experts_options *o, uint32_t used)
{
    uint64_t rows = STK_VK_CHAIN_ROWS, pairs = rows * used;
    chain_layout l = {.weights_at = stk_vk_padded(4 * rows * padded_experts(o))};
    l.pairs_at = l.weights_at + stk_vk_padded(4 * pairs);
    l.inner_at = l.pairs_at + stk_vk_padded(16 * pairs);
    l.outputs_at = l.inner_at + stk_vk_experts_inner_bytes(o, (uint32_t)pairs);
    l.bytes = l.outputs_at + stk_vk_padded(4 * pairs * o->bundle.width);
    return l;
}

static uint64_t chosen_bytes(const stk_vk_experts_options *o, uint32_t used)
{
    return sizeof(stk_vk_choice) * o->layer_count * STK_VK_CHAIN_ROWS * used;
}

uint64_t stk_vk_chain_bytes(const stk_vk_experts_options *o, uint32_t used)
{
    return layout_of(o, used).bytes + stk_vk_padded(chosen_bytes(o, used));
}

// ---- recording ----

static chain_sizes sizes_of(const void *pointer, uint32_t rows)
{
    const stk_vk_chain *c = pointer;
    expert_sizes e = stk_vk_experts_sizes(&c->experts->options, rows * c->options.used_count);
    uint32_t width = c->stream->dense->options.width;
    return (chain_sizes){{rows, 1, 1}, e.inner, e.down, {(width + 127) / 128, rows, 1}};
}

static void record_router(stk_vk_chain *c, layer_recorder *r)
{
    const stk_vk_stream *s = c->stream;
    const dense_acts acts = {.x = s->acts.address};
    uint32_t stride = padded_experts(&c->experts->options);
    stk_vk_record_product(r, DISPATCH_ROUTER, &s->dense->layers[r->layer].router, &acts,
                          c->scratch.address + c->layout.logits_at, stride);
}

static void record_route(stk_vk_chain *c, layer_recorder *r)
{
    const stk_vk_experts_options *o = &c->experts->options;
    uint32_t used = c->options.used_count;
    uint64_t host_at = sizeof(stk_vk_choice) * r->layer * c->rows_max * used;
    const VkDeviceAddress route[] = {
        c->scratch.address + c->layout.logits_at, stk_vk_experts_table_of(c->experts, r->layer),
        c->scratch.address + c->layout.pairs_at, c->scratch.address + c->layout.weights_at,
        c->chosen.address + host_at};
    const uint32_t constants[] = {padded_experts(o), o->expert_count, used, c->options.is_softmax};
    stk_vk_record_shader(r, DISPATCH_ROUTE, STK_VK_SHADER_route, route, constants);
}

static void record_experts(stk_vk_chain *c, layer_recorder *r)
{
    const stk_vk_stream *s = c->stream;
    dense_acts acts = stk_vk_stream_acts(s);
    VkDeviceAddress scratch = c->scratch.address;
    expert_places p = {.pairs = scratch + c->layout.pairs_at,
                       .q = acts.q,
                       .d = acts.d,
                       .sum = acts.sum,
                       .y = scratch + c->layout.outputs_at};
    const VkDeviceAddress combine[] = {s->acts.address, p.y, scratch + c->layout.weights_at};
    const uint32_t constants[] = {s->dense->options.width, c->options.used_count};
    stk_vk_experts_place_inner(&c->experts->options, c->pairs_max, scratch + c->layout.inner_at,
                               &p);
    if (r->status == STK_OK)
        r->status = stk_vk_experts_bind_inner(c->experts, r->commands, &p);
    stk_vk_record_dispatch(r, DISPATCH_INNER);
    stk_vk_record_barrier(r);
    if (r->status == STK_OK)
        r->status = stk_vk_experts_bind_down(c->experts, r->commands, &p);
    stk_vk_record_dispatch(r, DISPATCH_DOWN);
    stk_vk_record_barrier(r);
    stk_vk_record_shader(r, DISPATCH_COMBINE, STK_VK_SHADER_combine, combine, constants);
}

// The router reads the residual before attention changes it; its choice is made beside attention.
static stk_status record_layer(stk_vk_chain *c, uint32_t layer)
{
    stk_vk_stream *s = c->stream;
    stk_status status = stk_vk_commands_take(c->vk, &c->vk->compute, &c->layers[layer]);
    if (status == STK_OK)
        status = stk_vk_commands_begin(c->vk, c->layers[layer], false);
    layer_recorder r = {s, c->layers[layer], layer, true, status};
    if (status != STK_OK)
        return status;
    stk_vk_record_barrier(&r);
    record_router(c, &r);
    stk_vk_record_project(&r, s->acts.address);
    record_route(c, &r);
    stk_vk_record_attend(&r);
    stk_vk_record_output(&r, s->acts.address); // nobody else wants it
    record_experts(c, &r);
    return r.status == STK_OK ? stk_vk_commands_end(c->vk, c->layers[layer]) : r.status;
}

// A copy of the residual of all rows, with what was before it and what comes after.
static stk_status record_copy(stk_vk_chain *c, VkCommandBuffer *commands, const stk_vk_buffer *from,
                              const stk_vk_buffer *to, bool leaves)
{
    VkBufferCopy region = {from->at, to->at,
                           4 * (uint64_t)c->rows_max * c->stream->dense->options.width};
    stk_status status = stk_vk_commands_take(c->vk, &c->vk->compute, commands);
    if (status == STK_OK)
        status = stk_vk_commands_begin(c->vk, *commands, false);
    if (status != STK_OK)
        return status;
    stk_vk_barrier(c->vk, *commands, VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT,
                   VK_ACCESS_SHADER_WRITE_BIT, VK_PIPELINE_STAGE_TRANSFER_BIT,
                   VK_ACCESS_TRANSFER_READ_BIT | VK_ACCESS_TRANSFER_WRITE_BIT);
    c->vk->fn.CmdCopyBuffer(*commands, from->handle, to->handle, 1, &region);
    VkPipelineStageFlags stage = leaves ? (VkPipelineStageFlags)VK_PIPELINE_STAGE_HOST_BIT
                                        : VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT;
    VkAccessFlags access = leaves ? VK_ACCESS_HOST_READ_BIT
                                  : VK_ACCESS_SHADER_READ_BIT | VK_ACCESS_SHADER_WRITE_BIT;
    stk_vk_barrier(c->vk, *commands,
                   VK_PIPELINE_STAGE_TRANSFER_BIT | VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT,
                   VK_ACCESS_TRANSFER_WRITE_BIT | VK_ACCESS_SHADER_WRITE_BIT, stage, access);
    return stk_vk_commands_end(c->vk, *commands);
}

// ---- opening ----

static stk_status take(stk_vk_chain *c)
{
    const stk_vk_experts_options *o = &c->experts->options;
    stk_vk_stream *s = c->stream;
    uint32_t layers = s->dense->options.layer_count, used = c->options.used_count;
    c->layers = calloc(layers, sizeof *c->layers);
    c->list = calloc((size_t)layers + AROUND, sizeof *c->list);
    stk_status status = c->layers && c->list ? STK_OK : STK_NO_MEMORY;
    if (status == STK_OK)
        status = stk_vk_buffer_take(c->vk, STK_VK_LOCAL, c->layout.bytes, &c->scratch);
    if (status == STK_OK)
        status = stk_vk_buffer_take(c->vk, STK_VK_READBACK, chosen_bytes(o, used), &c->chosen);
    if (status == STK_OK)
        status = record_copy(c, &c->enter, &s->x_in, &s->acts, false);
    if (status == STK_OK)
        status = record_copy(c, &c->leave, &s->acts, &s->host, true);
    for (uint32_t i = 0; i < layers && status == STK_OK; i++)
        if (s->dense->layers[i].here && s->dense->layers[i].router.shape.rows != 0)
            status = record_layer(c, i);
    return status;
}

stk_status stk_vk_chain_open(const stk_vk_chain_options *options, stk_vk_chain **out)
{
    stk_vk_stream *s = options->stream;
    const stk_vk_experts_options *o = &options->experts->options;
    if (o->expert_count > EXPERTS_MAX || options->used_count > USED_MAX ||
        options->used_count > o->expert_count || o->layer_count != s->dense->options.layer_count ||
        o->bundle.width != s->dense->options.width)
        return STK_UNSUPPORTED;
    stk_vk_chain *c = calloc(1, sizeof *c);
    if (!c)
        return STK_NO_MEMORY;
    c->vk = s->vk;
    c->options = *options;
    c->stream = s;
    c->experts = options->experts;
    c->rows_max = s->options.rows_max < STK_VK_CHAIN_ROWS ? s->options.rows_max : STK_VK_CHAIN_ROWS;
    c->pairs_max = STK_VK_CHAIN_ROWS * options->used_count;
    c->layout = layout_of(o, options->used_count);
    stk_status status = take(c);
    if (status != STK_OK) {
        stk_vk_chain_close(&c);
        return status;
    }
    s->sizes_of = sizes_of;
    s->chain = c;
    *out = c;
    return STK_OK;
}

void stk_vk_chain_close(stk_vk_chain **pointer)
{
    stk_vk_chain *c = *pointer;
    if (!c)
        return;
    (void)c->vk->fn.DeviceWaitIdle(c->vk->device);
    for (uint32_t i = 0; c->layers && i < c->stream->dense->options.layer_count; i++)
        stk_vk_commands_give(c->vk, &c->vk->compute, c->layers[i]);
    stk_vk_commands_give(c->vk, &c->vk->compute, c->enter);
    stk_vk_commands_give(c->vk, &c->vk->compute, c->leave);
    stk_vk_buffer_give(c->vk, &c->scratch);
    stk_vk_buffer_give(c->vk, &c->chosen);
    c->stream->sizes_of = NULL;
    free(c->layers);
    free(c->list);
    free(c);
    *pointer = NULL;
}

// ---- running ----

bool stk_vk_chain_has(const stk_vk_chain *c, uint32_t layer)
{
    return c->layers[layer] &&
           c->experts->assigned_count[layer] == c->experts->options.expert_count;
}

stk_status stk_vk_chain_run(stk_vk_chain *c, uint32_t first, uint32_t end, const float *x,
                            const stk_vk_chain_head *head)
{
    stk_vk_stream *s = c->stream;
    stk_vk_experts *e = c->experts;
    uint32_t count = 0;
    assert(first < end && s->row_count <= c->rows_max);
    memcpy(s->x_in.mapped, x, (size_t)s->row_count * s->dense->options.width * sizeof *x);
    if (s->begun)
        c->list[count++] = s->begun;
    if (e->table_changed)
        c->list[count++] = e->table_copy;
    c->list[count++] = c->enter;
    for (uint32_t i = first; i < end; i++) {
        assert(stk_vk_chain_has(c, i));
        c->list[count++] = c->layers[i];
    }
    if (head->count != 0) {
        head_job job = {.count = head->count, .on_device = true, .with_logits = head->with_logits};
        assert(head->count <= s->row_count);
        memcpy(job.rows, head->rows, head->count * sizeof *job.rows);
        stk_status status = stk_vk_stream_prepare_head(s, &job);
        if (status != STK_OK)
            return status;
    }
    c->list[count++] = head->count != 0 ? s->head_commands : c->leave;
    stk_status status = stk_vk_submit_all(c->vk, &c->vk->compute, c->list, count,
                                          e->table_filled != 0 ? e->copier : NULL, e->table_filled,
                                          &c->value);
    if (status != STK_OK)
        return status;
    s->begun = VK_NULL_HANDLE;
    e->table_changed = false;
    e->chain_value = s->value = c->value;
    return STK_OK;
}

stk_status stk_vk_chain_wait(stk_vk_chain *c)
{
    return stk_vk_wait(c->vk, &c->vk->compute, c->value);
}

const float *stk_vk_chain_x(const stk_vk_chain *c)
{
    return (const float *)(const void *)c->stream->host.mapped;
}

const stk_vk_choice *stk_vk_chain_chosen(const stk_vk_chain *c, uint32_t layer)
{
    const stk_vk_choice *all = (const stk_vk_choice *)(const void *)c->chosen.mapped;
    return all + (size_t)layer * c->rows_max * c->options.used_count;
}
