// Where chains find the experts: the addresses of their slots, by layer and expert, in device
// memory.
#include "vulkan/experts_impl.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

static uint64_t entries(const stk_vk_experts_options *o)
{
    return (uint64_t)o->layer_count * o->expert_count;
}

uint64_t stk_vk_experts_table_bytes(const stk_vk_experts_options *o)
{
    return stk_vk_padded(entries(o) * sizeof(VkDeviceAddress));
}

static stk_status record_table(stk_vk_experts *e)
{
    VkBufferCopy region = {e->table_in.at, e->table.at, stk_vk_experts_table_bytes(&e->options)};
    stk_status status = stk_vk_commands_take(e->vk, &e->vk->compute, &e->table_copy);
    if (status == STK_OK)
        status = stk_vk_commands_begin(e->vk, e->table_copy, false);
    if (status != STK_OK)
        return status;
    e->vk->fn.CmdCopyBuffer(e->table_copy, e->table_in.handle, e->table.handle, 1, &region);
    stk_vk_barrier(e->vk, e->table_copy, VK_PIPELINE_STAGE_TRANSFER_BIT,
                   VK_ACCESS_TRANSFER_WRITE_BIT, VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT,
                   VK_ACCESS_SHADER_READ_BIT);
    return stk_vk_commands_end(e->vk, e->table_copy);
}

stk_status stk_vk_experts_open_table(stk_vk_experts *e)
{
    uint64_t count = entries(&e->options), bytes = stk_vk_experts_table_bytes(&e->options);
    if (count == 0)
        return STK_OK;
    e->assigned = malloc(count * sizeof *e->assigned);
    e->assigned_count = calloc(e->options.layer_count, sizeof *e->assigned_count);
    if (!e->assigned || !e->assigned_count)
        return STK_NO_MEMORY;
    memset(e->assigned, 0xff, count * sizeof *e->assigned); // STK_VK_NO_SLOT
    stk_status status = stk_vk_buffer_take(e->vk, STK_VK_LOCAL, bytes, &e->table);
    if (status == STK_OK && e->table.mapped) {
        e->table_in = e->table;
        return STK_OK;
    }
    if (status == STK_OK)
        status = stk_vk_buffer_take(e->vk, STK_VK_UPLOAD, bytes, &e->table_in);
    return status == STK_OK ? record_table(e) : status;
}

void stk_vk_experts_close_table(stk_vk_experts *e)
{
    if (e->table.mapped)
        e->table_in = (stk_vk_buffer){0};
    stk_vk_buffer_give(e->vk, &e->table_in);
    stk_vk_buffer_give(e->vk, &e->table);
    stk_vk_commands_give(e->vk, &e->vk->compute, e->table_copy);
    free(e->assigned);
    free(e->assigned_count);
}

void stk_vk_experts_assign(stk_vk_experts *e, uint32_t layer, uint32_t expert, uint32_t slot)
{
    size_t at = (size_t)layer * e->options.expert_count + expert;
    if (!e->assigned)
        return;
    assert(layer < e->options.layer_count && expert < e->options.expert_count);
    uint32_t before = e->assigned[at];
    VkDeviceAddress address = 0;
    if (before != STK_VK_NO_SLOT && e->slots[before].used_value < e->chain_value)
        e->slots[before].used_value = e->chain_value; // an upload there waits for it
    if (slot != STK_VK_NO_SLOT) {
        address = e->slots[slot].address;
        if (e->slots[slot].filled_value > e->table_filled)
            e->table_filled = e->slots[slot].filled_value;
    }
    e->assigned[at] = slot;
    e->assigned_count[layer] += (slot != STK_VK_NO_SLOT) - (before != STK_VK_NO_SLOT);
    memcpy(e->table_in.mapped + at * sizeof address, &address, sizeof address);
    e->table_changed = e->table_copy != VK_NULL_HANDLE;
}

VkDeviceAddress stk_vk_experts_table_of(const stk_vk_experts *e, uint32_t layer)
{
    return e->table.address + (uint64_t)layer * e->options.expert_count * sizeof(VkDeviceAddress);
}
