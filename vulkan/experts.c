// Jobs: what a job needs is taken and its commands are recorded at open; a submission only writes
// the input and the number of workgroups, which the device reads from there.
#include "vulkan/experts_impl.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

// A decoding step has a few rows; where input is copied, it is not worth copying room for a
// prompt's.
enum { FEW_ROWS = 4, FEW_PAIRS = 64, PAIR_BYTES = 16, PAIRS_AT = 256, TILE_ROWS = 4 };

static job_layout layout_of(const stk_vk_experts_options *o)
{
    job_layout l = {.pairs_at = PAIRS_AT};
    uint64_t rows = o->rows_max, width = o->bundle.width;
    l.tiles_at = l.pairs_at + (uint64_t)o->pairs_max * PAIR_BYTES;
    l.q_at = stk_vk_padded(l.tiles_at + (uint64_t)o->pairs_max * PAIR_BYTES);
    l.d_at = stk_vk_padded(l.q_at + rows * width);
    l.sum_at = stk_vk_padded(l.d_at + rows * (width / 8));
    l.bytes = stk_vk_padded(l.sum_at + rows * (width / 8));
    return l;
}

uint64_t stk_vk_experts_bytes(const stk_vk_experts_options *o)
{
    uint64_t job = layout_of(o).bytes + stk_vk_experts_inner_bytes(o, o->pairs_max) +
                   stk_vk_padded((uint64_t)o->pairs_max * o->bundle.width * 4);
    return o->resident_slots * o->slot_bytes + o->jobs_max * job + stk_vk_experts_table_bytes(o);
}

static expert_places places_of(const stk_vk_experts *e, const expert_job *job, bool tiled)
{
    VkDeviceAddress in = job->local.address;
    expert_places p = {.pairs = in + e->layout.pairs_at,
                       .tiles = tiled ? in + e->layout.tiles_at : 0,
                       .q = in + e->layout.q_at,
                       .d = in + e->layout.d_at,
                       .sum = in + e->layout.sum_at,
                       .y = job->output.address};
    stk_vk_experts_place_inner(&e->options, e->options.pairs_max, job->inner.address, &p);
    return p;
}

// Copies the input of up to that many rows and pairs to where the device reads it.
static void record_input_copy(stk_vk_experts *e, const expert_job *job, VkCommandBuffer commands,
                              uint32_t rows, uint32_t pairs, bool tiled)
{
    const job_layout *l = &e->layout;
    uint64_t width = e->options.bundle.width;
    const uint64_t at[4] = {0, l->q_at, l->d_at, l->sum_at};
    const uint64_t bytes[4] = {tiled ? l->q_at : PAIRS_AT + (uint64_t)pairs * PAIR_BYTES,
                               rows * width, rows * (width / 8), rows * (width / 8)};
    VkBufferCopy regions[4];
    for (int i = 0; i < 4; i++)
        regions[i] = (VkBufferCopy){job->input.at + at[i], job->local.at + at[i], bytes[i]};
    e->vk->fn.CmdCopyBuffer(commands, job->input.handle, job->local.handle, 4, regions);
    stk_vk_barrier(e->vk, commands, VK_PIPELINE_STAGE_TRANSFER_BIT, VK_ACCESS_TRANSFER_WRITE_BIT,
                   VK_PIPELINE_STAGE_DRAW_INDIRECT_BIT | VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT,
                   VK_ACCESS_INDIRECT_COMMAND_READ_BIT | VK_ACCESS_SHADER_READ_BIT);
}

static stk_status record_job(stk_vk_experts *e, const expert_job *job, VkCommandBuffer commands,
                             uint32_t rows, uint32_t pairs, bool tiled)
{
    stk_vk *vk = e->vk;
    stk_status status = stk_vk_commands_begin(vk, commands, false);
    if (status != STK_OK)
        return status;
    if (job->local.handle != job->input.handle || job->local.at != job->input.at)
        record_input_copy(e, job, commands, rows, pairs, tiled);
    const expert_places places = places_of(e, job, tiled);
    status = stk_vk_experts_bind_inner(e, commands, &places);
    if (status == STK_OK)
        vk->fn.CmdDispatchIndirect(commands, job->local.handle, job->local.at);
    stk_vk_barrier(vk, commands, VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT, VK_ACCESS_SHADER_WRITE_BIT,
                   VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT, VK_ACCESS_SHADER_READ_BIT);
    if (status == STK_OK)
        status = stk_vk_experts_bind_down(e, commands, &places);
    if (status == STK_OK)
        vk->fn.CmdDispatchIndirect(commands, job->local.handle,
                                   job->local.at + sizeof(VkDispatchIndirectCommand));
    stk_vk_barrier(vk, commands, VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT, VK_ACCESS_SHADER_WRITE_BIT,
                   VK_PIPELINE_STAGE_HOST_BIT, VK_ACCESS_HOST_READ_BIT);
    return status == STK_OK ? stk_vk_commands_end(vk, commands) : status;
}

static stk_status open_job(stk_vk_experts *e, expert_job *job)
{
    stk_vk *vk = e->vk;
    const stk_vk_experts_options *o = &e->options;
    uint32_t few_rows = o->rows_max < FEW_ROWS ? o->rows_max : FEW_ROWS;
    uint32_t few_pairs = o->pairs_max < FEW_PAIRS ? o->pairs_max : FEW_PAIRS;
    stk_status status = stk_vk_buffer_take(vk, STK_VK_LOCAL, e->layout.bytes, &job->local);
    if (status == STK_OK && job->local.mapped)
        job->input = job->local;
    else if (status == STK_OK)
        status = stk_vk_buffer_take(vk, STK_VK_UPLOAD, e->layout.bytes, &job->input);
    if (status == STK_OK)
        status = stk_vk_buffer_take(vk, STK_VK_LOCAL, stk_vk_experts_inner_bytes(o, o->pairs_max),
                                    &job->inner);
    if (status == STK_OK)
        status = stk_vk_buffer_take(vk, STK_VK_READBACK,
                                    (uint64_t)o->pairs_max * o->bundle.width * 4, &job->output);
    for (int i = 0; i < COPIES && status == STK_OK; i++) {
        status = stk_vk_commands_take(vk, &vk->compute, &job->commands[i]);
        if (status == STK_OK)
            status = record_job(e, job, job->commands[i], i == 0 ? few_rows : o->rows_max,
                                i == 0 ? few_pairs : o->pairs_max, i != 0);
    }
    return status;
}

static void close_job(stk_vk_experts *e, expert_job *job)
{
    if (job->local.mapped)
        job->input = (stk_vk_buffer){0};
    stk_vk_buffer_give(e->vk, &job->input);
    stk_vk_buffer_give(e->vk, &job->local);
    stk_vk_buffer_give(e->vk, &job->inner);
    stk_vk_buffer_give(e->vk, &job->output);
    for (int i = 0; i < COPIES; i++)
        stk_vk_commands_give(e->vk, &e->vk->compute, job->commands[i]);
}

static bool are_valid(const stk_vk_experts_options *o)
{
    return o->jobs_max >= 1 && o->jobs_max <= JOBS_MAX && o->rows_max >= 1 && o->pairs_max >= 1 &&
           o->pairs_max <= 65535 && o->slot_bytes % 4096 == 0 && o->bundle_at % 64 == 0 &&
           o->slot_bytes < UINT32_MAX && o->bundle.width % 32 == 0 && o->bundle.width > 0 &&
           o->bundle.ffn_width % 32 == 0 && o->bundle.ffn_width > 0 &&
           o->bundle_at + stk_bundle_bytes(&o->bundle) <= o->slot_bytes;
}

stk_status stk_vk_experts_open(const stk_vk_experts_options *options, stk_vk_experts **out)
{
    if (!are_valid(options))
        return STK_INVALID;
    stk_vk_experts *e = calloc(1, sizeof *e);
    if (!e)
        return STK_NO_MEMORY;
    e->vk = options->vk;
    e->options = *options;
    e->layout = layout_of(options);
    e->copier = e->vk->transfer.handle ? &e->vk->transfer : &e->vk->compute;
    // Slots last: what ends the memory only makes them fewer, and the last can be given back.
    stk_status status = STK_OK;
    for (uint32_t i = 0; i < options->jobs_max && status == STK_OK; i++)
        status = open_job(e, &e->jobs[i]);
    if (status == STK_OK)
        status = stk_vk_experts_open_table(e);
    if (status == STK_OK)
        status = stk_vk_experts_open_slots(e);
    if (status != STK_OK) {
        stk_vk_experts_close(&e);
        return status;
    }
    *out = e;
    return STK_OK;
}

void stk_vk_experts_close(stk_vk_experts **pointer)
{
    stk_vk_experts *e = *pointer;
    if (!e)
        return;
    (void)e->vk->fn.DeviceWaitIdle(e->vk->device);
    for (uint32_t i = 0; i < JOBS_MAX; i++)
        close_job(e, &e->jobs[i]);
    stk_vk_experts_close_table(e);
    stk_vk_experts_close_slots(e);
    free(e);
    *pointer = NULL;
}

static bool in_range(const stk_vk_experts *e, uint32_t row_count, const stk_vk_pair *pairs,
                     uint32_t pair_count)
{
    uint32_t slots = e->options.resident_slots + e->imported_count;
    if (row_count > e->options.rows_max || pair_count > e->options.pairs_max || pair_count == 0)
        return false;
    for (uint32_t i = 0; i < pair_count; i++)
        if (pairs[i].row >= row_count || pairs[i].slot >= slots)
            return false;
    return true;
}

static void write_entry(uint8_t *to, VkDeviceAddress slot, uint32_t row, uint32_t count)
{
    memcpy(to, &slot, 8);
    memcpy(to + 8, &row, 4);
    memcpy(to + 12, &count, 4);
}

// Neighbours with the same slot go together. Returns how many tiles there are.
static uint32_t write_tiles(stk_vk_experts *e, uint8_t *to, const stk_vk_pair *pairs,
                            uint32_t pair_count)
{
    uint32_t tiles = 0;
    for (uint32_t first = 0, end; first < pair_count; first = end) {
        for (end = first + 1;
             end < pair_count && end - first < TILE_ROWS && pairs[end].slot == pairs[first].slot;)
            end++;
        write_entry(to + (size_t)tiles++ * PAIR_BYTES, e->slots[pairs[first].slot].address, first,
                    end - first);
    }
    return tiles;
}

static void write_input(stk_vk_experts *e, expert_job *job, const stk_vk_row *rows,
                        uint32_t row_count, const stk_vk_pair *pairs, uint32_t pair_count,
                        bool tiled)
{
    const stk_vk_experts_options *o = &e->options;
    uint8_t *in = job->input.mapped;
    size_t width = o->bundle.width, scales = width / 32 * 4;
    uint32_t high = tiled ? write_tiles(e, in + e->layout.tiles_at, pairs, pair_count) : pair_count;
    const expert_sizes sizes = stk_vk_experts_sizes(o, high);
    memcpy(in, &sizes, sizeof sizes);
    for (uint32_t i = 0; i < pair_count; i++)
        write_entry(in + e->layout.pairs_at + (size_t)i * PAIR_BYTES,
                    e->slots[pairs[i].slot].address, pairs[i].row, 1);
    for (uint32_t r = 0; r < row_count; r++) {
        memcpy(in + e->layout.q_at + r * width, rows[r].q, width);
        memcpy(in + e->layout.d_at + r * scales, rows[r].d, scales);
        memcpy(in + e->layout.sum_at + r * scales, rows[r].sum, scales);
    }
}

stk_status stk_vk_experts_submit(stk_vk_experts *e, const stk_vk_row *rows, uint32_t row_count,
                                 const stk_vk_pair *pairs, uint32_t pair_count, uint32_t *out_job)
{
    uint32_t index = 0;
    if (!in_range(e, row_count, pairs, pair_count))
        return STK_INVALID;
    while (index < e->options.jobs_max && e->jobs[index].taken)
        index++;
    if (index == e->options.jobs_max)
        return STK_BUSY;
    expert_job *job = &e->jobs[index];
    bool few = row_count <= FEW_ROWS && pair_count <= FEW_PAIRS;
    write_input(e, job, rows, row_count, pairs, pair_count, !few);
    uint64_t filled = 0;
    for (uint32_t i = 0; i < pair_count; i++)
        if (e->slots[pairs[i].slot].filled_value > filled)
            filled = e->slots[pairs[i].slot].filled_value;
    stk_status status = stk_vk_submit(e->vk, &e->vk->compute, job->commands[few ? 0 : 1],
                                      filled != 0 ? e->copier : NULL, filled, &job->value);
    if (status != STK_OK)
        return status;
    for (uint32_t i = 0; i < pair_count; i++)
        e->slots[pairs[i].slot].used_value = job->value;
    job->taken = true;
    *out_job = index;
    return STK_OK;
}

stk_status stk_vk_experts_poll(stk_vk_experts *e, uint32_t job)
{
    assert(job < e->options.jobs_max && e->jobs[job].taken);
    return stk_vk_poll(e->vk, &e->vk->compute, e->jobs[job].value);
}

stk_status stk_vk_experts_wait(stk_vk_experts *e, uint32_t job)
{
    assert(job < e->options.jobs_max && e->jobs[job].taken);
    return stk_vk_wait(e->vk, &e->vk->compute, e->jobs[job].value);
}

const float *stk_vk_experts_output(const stk_vk_experts *e, uint32_t job, uint32_t pair)
{
    assert(job < e->options.jobs_max && pair < e->options.pairs_max);
    return (const float *)(const void *)e->jobs[job].output.mapped +
           (size_t)pair * e->options.bundle.width;
}

void stk_vk_experts_release(stk_vk_experts *e, uint32_t job)
{
    assert(job < e->options.jobs_max);
    e->jobs[job].taken = false;
}
