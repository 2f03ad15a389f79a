// The head: norm, logits, and where the largest of them is, which is all that greedy decoding reads
// back.
#include "vulkan/dense_impl.h"

#include <assert.h>
#include <string.h>

static uint32_t padded(const stk_vk_dense_options *o)
{
    return (o->head.rows + 15) / 16 * 16;
}

static uint32_t runs(const stk_vk_dense_options *o)
{
    return (o->head.rows + ARGMAX_RUN - 1) / ARGMAX_RUN;
}

uint64_t stk_vk_stream_head_bytes(const stk_vk_dense_options *o, const stk_vk_stream_options *so)
{
    uint64_t slots = so->logit_rows_max;
    if (!o->has_head)
        return 0;
    uint64_t bytes = stk_vk_act_block_of(slots, o->width).bytes + 4 * slots * padded(o) +
                     4 * slots * runs(o) + 1024;
    return stk_vk_info(o->vk)->unified ? bytes + 4 * slots * (padded(o) + o->width) : bytes;
}

stk_status stk_vk_stream_open_head(stk_vk_stream *s)
{
    const stk_vk_dense_options *o = &s->dense->options;
    uint64_t slots = s->options.logit_rows_max;
    s->vocab_padded = padded(o);
    const struct {
        stk_vk_use use;
        uint64_t bytes;
        stk_vk_buffer *to;
    } wanted[] = {
        {STK_VK_UPLOAD, 4 * slots * o->width, &s->head_in},
        {STK_VK_LOCAL, stk_vk_act_block_of(slots, o->width).bytes, &s->head_acts},
        {STK_VK_LOCAL, 4 * slots * s->vocab_padded, &s->logits},
        {STK_VK_READBACK, 4 * slots * s->vocab_padded, &s->logits_host},
        {STK_VK_LOCAL, 4 * slots * runs(o), &s->places},
        {STK_VK_READBACK, 4 * slots, &s->best},
    };
    stk_status status = STK_OK;
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted && status == STK_OK; i++)
        status = stk_vk_buffer_take(s->vk, wanted[i].use, wanted[i].bytes, wanted[i].to);
    if (status == STK_OK)
        status = stk_vk_commands_take(s->vk, &s->vk->compute, &s->head_commands);
    return status;
}

void stk_vk_stream_close_head(stk_vk_stream *s)
{
    stk_vk_buffer *const buffers[] = {&s->head_in,     &s->head_acts, &s->logits,
                                      &s->logits_host, &s->places,    &s->best};
    for (size_t i = 0; i < sizeof buffers / sizeof *buffers; i++)
        stk_vk_buffer_give(s->vk, buffers[i]);
}

static void then(stk_vk_stream *s, VkPipelineStageFlags stage, VkAccessFlags access)
{
    stk_vk_barrier(s->vk, s->head_commands, VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT,
                   VK_ACCESS_SHADER_WRITE_BIT, stage, access);
}

// Whether rows 0, 1... of the residual are those of the head.
static bool is_in_order(const head_job *job)
{
    uint32_t i = 0;
    while (i < job->count && job->rows[i] == i)
        i++;
    return i == job->count;
}

// Norm and products: logits[count][vocab padded].
static stk_status record_logits(stk_vk_stream *s, uint32_t count, const stk_vk_buffer *from)
{
    const stk_vk_dense_options *o = &s->dense->options;
    act_block block = stk_vk_act_block_of(s->options.logit_rows_max, o->width);
    VkDeviceAddress at = s->head_acts.address;
    uint32_t eps;
    memcpy(&eps, &o->rms_epsilon, sizeof eps);
    const VkDeviceAddress norm[] = {from->address, s->dense->head_norm, at};
    const uint32_t norm_constants[] = {o->width, s->options.logit_rows_max, eps};
    const dense_acts acts = {at + block.y_at, at + block.q_at, at + block.d_at, at + block.sum_at};
    stk_status status = stk_vk_bind(s->vk, s->head_commands, STK_VK_SHADER_norm_act, norm,
                                    norm_constants);
    if (status != STK_OK)
        return status;
    s->vk->fn.CmdDispatch(s->head_commands, count, 1, 1);
    then(s, VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT, VK_ACCESS_SHADER_READ_BIT);
    status = stk_vk_dense_bind(s->vk, s->head_commands, &s->dense->head, &acts, s->logits.address,
                               s->vocab_padded, 0);
    if (status != STK_OK)
        return status;
    VkDispatchIndirectCommand size = stk_vk_dense_size(&o->head, count, false);
    s->vk->fn.CmdDispatch(s->head_commands, size.x, size.y, size.z);
    then(s, VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT | VK_PIPELINE_STAGE_TRANSFER_BIT,
         VK_ACCESS_SHADER_READ_BIT | VK_ACCESS_TRANSFER_READ_BIT);
    return STK_OK;
}

static stk_status record_best(stk_vk_stream *s, uint32_t count)
{
    const stk_vk_dense_options *o = &s->dense->options;
    const VkDeviceAddress part[] = {s->logits.address, s->places.address};
    const uint32_t part_constants[] = {o->head.rows, s->vocab_padded};
    const VkDeviceAddress join[] = {s->logits.address, s->places.address, s->best.address};
    const uint32_t join_constants[] = {runs(o), s->vocab_padded};
    stk_status status = stk_vk_bind(s->vk, s->head_commands, STK_VK_SHADER_argmax_part, part,
                                    part_constants);
    if (status != STK_OK)
        return status;
    s->vk->fn.CmdDispatch(s->head_commands, runs(o), count, 1);
    then(s, VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT, VK_ACCESS_SHADER_READ_BIT);
    status = stk_vk_bind(s->vk, s->head_commands, STK_VK_SHADER_argmax_join, join, join_constants);
    if (status != STK_OK)
        return status;
    s->vk->fn.CmdDispatch(s->head_commands, count, 1, 1);
    return STK_OK;
}

// Brings the rows to where the norm reads them, unless the residual already has them there.
static void record_input(stk_vk_stream *s, const head_job *job)
{
    uint64_t bytes = 4 * (uint64_t)s->dense->options.width;
    then(s, VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT | VK_PIPELINE_STAGE_TRANSFER_BIT,
         VK_ACCESS_SHADER_READ_BIT | VK_ACCESS_TRANSFER_READ_BIT);
    if (is_in_order(job))
        return;
    for (uint32_t i = 0; i < job->count; i++) {
        VkBufferCopy region = {s->acts.at + job->rows[i] * bytes, s->head_in.at + i * bytes, bytes};
        s->vk->fn.CmdCopyBuffer(s->head_commands, s->acts.handle, s->head_in.handle, 1, &region);
    }
    stk_vk_barrier(s->vk, s->head_commands, VK_PIPELINE_STAGE_TRANSFER_BIT,
                   VK_ACCESS_TRANSFER_WRITE_BIT, VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT,
                   VK_ACCESS_SHADER_READ_BIT);
}

static stk_status record_head(stk_vk_stream *s, const head_job *job)
{
    uint32_t count = job->count;
    stk_status status = stk_vk_commands_begin(s->vk, s->head_commands, false);
    if (status != STK_OK)
        return status;
    if (job->on_device)
        record_input(s, job);
    status = record_logits(s, count, job->on_device && is_in_order(job) ? &s->acts : &s->head_in);
    if (status == STK_OK)
        status = record_best(s, count);
    if (status != STK_OK)
        return status;
    if (job->with_logits) {
        VkBufferCopy region = {s->logits.at, s->logits_host.at,
                               4 * (uint64_t)count * s->vocab_padded};
        s->vk->fn.CmdCopyBuffer(s->head_commands, s->logits.handle, s->logits_host.handle, 1,
                                &region);
    }
    stk_vk_barrier(s->vk, s->head_commands,
                   VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT | VK_PIPELINE_STAGE_TRANSFER_BIT,
                   VK_ACCESS_SHADER_WRITE_BIT | VK_ACCESS_TRANSFER_WRITE_BIT,
                   VK_PIPELINE_STAGE_HOST_BIT, VK_ACCESS_HOST_READ_BIT);
    return stk_vk_commands_end(s->vk, s->head_commands);
}

static bool is_same(const head_job *a, const head_job *b)
{
    bool same = a->count == b->count && a->on_device == b->on_device &&
                a->with_logits == b->with_logits;
    for (uint32_t i = 0; same && a->on_device && i < a->count; i++)
        same = a->rows[i] == b->rows[i];
    return same;
}

stk_status stk_vk_stream_prepare_head(stk_vk_stream *s, const head_job *job)
{
    assert(s->dense->options.has_head && job->count >= 1 &&
           job->count <= s->options.logit_rows_max);
    s->head_count = job->count;
    s->has_logits = job->with_logits;
    if (is_same(job, &s->head_recorded)) // as it is from token to token
        return STK_OK;
    s->head_recorded.count = 0;
    stk_status status = record_head(s, job);
    if (status == STK_OK)
        s->head_recorded = *job;
    return status;
}

stk_status stk_vk_stream_head(stk_vk_stream *s, const float *x, const uint32_t *rows,
                              uint32_t count, bool with_logits)
{
    size_t width = s->dense->options.width;
    const head_job job = {.count = count, .with_logits = with_logits};
    stk_status status = stk_vk_stream_prepare_head(s, &job);
    float *to = (float *)(void *)s->head_in.mapped;
    for (uint32_t i = 0; i < count; i++)
        memcpy(to + i * width, x + rows[i] * width, width * sizeof *x);
    if (status == STK_OK)
        status = stk_vk_submit(s->vk, &s->vk->compute, s->head_commands, NULL, 0, &s->value);
    return status == STK_OK ? stk_vk_wait(s->vk, &s->vk->compute, s->value) : status;
}

const float *stk_vk_stream_logits(const stk_vk_stream *s, uint32_t slot)
{
    if (!s->has_logits || slot >= s->head_count)
        return NULL;
    return (const float *)(const void *)s->logits_host.mapped + (size_t)slot * s->vocab_padded;
}

uint32_t stk_vk_stream_best(const stk_vk_stream *s, uint32_t slot)
{
    assert(slot < s->head_count);
    return ((const uint32_t *)(const void *)s->best.mapped)[slot];
}
