// Slots of experts: device memory filled by uploads, and host memory used in place.
#include "vulkan/experts_impl.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

stk_status stk_vk_experts_open_slots(stk_vk_experts *e)
{
    const stk_vk_experts_options *o = &e->options;
    stk_status status = STK_OK;
    e->slots = calloc((size_t)o->resident_slots + o->imported_slots + 1, sizeof *e->slots);
    if (!e->slots)
        return STK_NO_MEMORY;
    uint32_t taken = 0;
    for (; taken < o->resident_slots; taken++) {
        expert_slot *slot = &e->slots[taken];
        if (stk_vk_buffer_take(e->vk, STK_VK_LOCAL, o->slot_bytes, &slot->buffer) != STK_OK)
            break; // it said what is lacking
        slot->address = slot->buffer.address;
    }
    e->options.resident_slots = taken;
    bool mapped = taken == 0 || e->slots[0].buffer.mapped;
    for (uint32_t i = 0; i < STAGES && status == STK_OK && !mapped; i++) {
        status = stk_vk_buffer_take(e->vk, STK_VK_UPLOAD, o->slot_bytes, &e->stages[i].buffer);
        if (status == STK_OK)
            status = stk_vk_commands_take(e->vk, e->copier, &e->stages[i].commands);
    }
    return status;
}

void stk_vk_experts_close_slots(stk_vk_experts *e)
{
    uint32_t count = e->options.resident_slots + e->imported_count;
    for (uint32_t i = 0; e->slots && i < count; i++)
        stk_vk_buffer_give(e->vk, &e->slots[i].buffer);
    for (uint32_t i = 0; i < STAGES; i++) {
        stk_vk_buffer_give(e->vk, &e->stages[i].buffer);
        stk_vk_commands_give(e->vk, e->copier, e->stages[i].commands);
    }
    free(e->slots);
}

static stk_status record_copy(stk_vk *vk, const expert_stage *stage, const stk_vk_buffer *to,
                              uint64_t bytes)
{
    VkBufferCopy region = {.srcOffset = stage->buffer.at, .dstOffset = to->at, .size = bytes};
    stk_status status = stk_vk_commands_begin(vk, stage->commands, true);
    if (status != STK_OK)
        return status;
    vk->fn.CmdCopyBuffer(stage->commands, stage->buffer.handle, to->handle, 1, &region);
    return stk_vk_commands_end(vk, stage->commands);
}

stk_status stk_vk_experts_upload(stk_vk_experts *e, uint32_t index, const void *from)
{
    assert(index < e->options.resident_slots);
    expert_slot *slot = &e->slots[index];
    stk_vk *vk = e->vk;
    stk_status status = STK_OK;
    if (slot->buffer.mapped) {
        status = stk_vk_wait(vk, &vk->compute, slot->used_value);
        if (status == STK_OK)
            memcpy(slot->buffer.mapped, from, e->options.slot_bytes);
        return status;
    }
    expert_stage *stage = &e->stages[e->next_stage];
    e->next_stage = (e->next_stage + 1) % STAGES;
    status = stk_vk_wait(vk, e->copier, stage->value);
    if (status != STK_OK)
        return status;
    memcpy(stage->buffer.mapped, from, e->options.slot_bytes);
    status = record_copy(vk, stage, &slot->buffer, e->options.slot_bytes);
    if (status == STK_OK)
        status = stk_vk_submit(vk, e->copier, stage->commands, &vk->compute, slot->used_value,
                               &stage->value);
    if (status == STK_OK)
        slot->filled_value = stage->value;
    return status;
}

bool stk_vk_experts_can_upload(stk_vk_experts *e)
{
    const expert_stage *stage = &e->stages[e->next_stage];
    return !stage->commands || stk_vk_poll(e->vk, e->copier, stage->value) == STK_OK;
}

stk_status stk_vk_experts_upload_poll(stk_vk_experts *e, uint32_t index)
{
    assert(index < e->options.resident_slots);
    return stk_vk_poll(e->vk, e->copier, e->slots[index].filled_value);
}

stk_status stk_vk_experts_upload_wait(stk_vk_experts *e, uint32_t index)
{
    assert(index < e->options.resident_slots);
    return stk_vk_wait(e->vk, e->copier, e->slots[index].filled_value);
}

uint32_t stk_vk_experts_resident_slots(const stk_vk_experts *e)
{
    return e->options.resident_slots;
}

void stk_vk_experts_shrink(stk_vk_experts *e, uint32_t slots)
{
    // numbers of imported slots follow those of resident ones
    assert(e->imported_count == 0 || slots >= e->options.resident_slots);
    for (; e->options.resident_slots > slots; e->options.resident_slots--)
        stk_vk_buffer_give(e->vk, &e->slots[e->options.resident_slots - 1].buffer);
    stk_vk_memory_trim(e->vk);
}

stk_status stk_vk_experts_import(stk_vk_experts *e, void *host, uint32_t count, uint32_t *out_first)
{
    uint64_t align = e->vk->info.import_align_bytes, bytes = count * e->options.slot_bytes;
    if (count > e->options.imported_slots - e->imported_count)
        return STK_BUSY;
    if (count == 0 || align == 0 || (uintptr_t)host % align != 0 || bytes % align != 0)
        return STK_UNSUPPORTED;
    uint32_t first = e->options.resident_slots + e->imported_count;
    stk_status status = stk_vk_buffer_import(e->vk, host, bytes, &e->slots[first].buffer);
    if (status != STK_OK)
        return status;
    for (uint32_t i = 0; i < count; i++)
        e->slots[first + i].address = e->slots[first].buffer.address + i * e->options.slot_bytes;
    e->imported_count += count;
    *out_first = first;
    return STK_OK;
}
