// Which experts the GPU has, as usage and room change. Decided at token boundaries, one small step
// at a time: an expert that comes in is read by the store and copied while tokens are computed,
// and counts as there only at the boundary after it has arrived. Until then the CPU computes it,
// so a move delays nobody, and by docs/arithmetic.md it changes nothing.
#include "engine/experts_gpu_impl.h"

enum {
    LAYERS_PER_TURN = 4, // looked at between two tokens
    BUDGET_TURNS = 8,    // the driver is asked how much memory is left every so many tokens
};
// An expert must be used that much more per token than the one that gives way: a copy should be
// worth it within some fifty tokens.
static const float gain_min = 0.02f, hysteresis = 1.25f;

static bool is_moving(const stk_gpu *gpu)
{
    for (int i = 0; i < STK_GPU_MOVES; i++)
        if (gpu->moves[i].state != STK_GPU_MOVE_NONE)
            return true;
    return false;
}

static void take_away(stk_gpu *gpu, uint32_t layer, uint32_t expert)
{
    gpu->free_slots[gpu->free_count++] = *stk_gpu_slot(gpu, layer, expert);
    stk_gpu_set_slot(gpu, layer, expert, STK_GPU_NO_SLOT);
    gpu->held--;
}

static void arrive(stk_session *s, stk_gpu_move *move)
{
    stk_gpu *gpu = s->engine->gpu;
    stk_meter_gpu_end(s, STK_GPU_SPAN_UPLOAD, move->layer, move->begin_ns);
    stk_gpu_set_slot(gpu, move->layer, move->expert, move->slot);
    gpu->held++;
    gpu->moved_count++;
    if (move->victim != STK_GPU_NO_SLOT)
        take_away(gpu, move->layer, move->victim);
    stk_debug(gpu->log, "layer %u expert %u: on the GPU", move->layer, move->expert);
    move->state = STK_GPU_MOVE_NONE;
}

static void drop(stk_gpu *gpu, stk_gpu_move *move)
{
    if (move->state == STK_GPU_MOVE_READING)
        stk_expert_store_release(gpu->engine->store, move->layer, move->expert);
    if (move->state != STK_GPU_MOVE_NONE)
        gpu->free_slots[gpu->free_count++] = move->slot;
    move->state = STK_GPU_MOVE_NONE;
}

void stk_gpu_drop_moves(stk_gpu *gpu)
{
    for (int i = 0; i < STK_GPU_MOVES; i++)
        drop(gpu, &gpu->moves[i]);
}

stk_status stk_gpu_send(stk_session *s)
{
    stk_gpu *gpu = s->engine->gpu;
    for (int i = 0; i < STK_GPU_MOVES; i++) {
        stk_gpu_move *move = &gpu->moves[i];
        stk_expert expert;
        if (move->state != STK_GPU_MOVE_READING || !stk_vk_experts_can_upload(gpu->experts))
            continue;
        stk_status status = stk_expert_store_poll(gpu->engine->store, move->layer, move->expert,
                                                  &expert);
        if (status == STK_PENDING)
            continue;
        if (status != STK_OK) {
            drop(gpu, move); // it cannot be read; whoever needs it will say so
            continue;
        }
        move->begin_ns = stk_meter_gpu_begin(s);
        status = stk_vk_experts_upload(gpu->experts, move->slot, expert.gate.data);
        stk_expert_store_release(gpu->engine->store, move->layer, move->expert);
        move->state = STK_GPU_MOVE_COPYING;
        return status; // one at a time: a copy costs this worker some of its time
    }
    return STK_OK;
}

static void start(stk_gpu *gpu, uint32_t layer, stk_residency_swap swap)
{
    stk_gpu_move *move = gpu->moves;
    while (move->state != STK_GPU_MOVE_NONE)
        move++; // there is one, for there is a free slot
    *move = (stk_gpu_move){.state = STK_GPU_MOVE_READING,
                           .layer = layer,
                           .expert = swap.promote,
                           .slot = gpu->free_slots[--gpu->free_count],
                           .victim = swap.demote};
    stk_expert_store_want(gpu->engine->store, layer, &move->expert, NULL, NULL, 1, STK_WANT_EXACT);
}

// Tests: usage that changes with every token.
static float invented(const stk_gpu *gpu, uint32_t layer, uint32_t expert)
{
    uint64_t x = (gpu->turns * 64 + layer) * 1021 + expert + 1;
    x *= UINT64_C(0x9e3779b97f4a7c15);
    return (float)(x >> 40);
}

// Moves pin an expert each; the layer at hand must find room beside them.
static bool store_has_room(const stk_gpu *gpu)
{
    const stk_engine *e = gpu->engine;
    return stk_expert_store_is_resident(e->store) ||
           e->pressure.slots >= stk_expert_store_slots_min(&e->model) + STK_GPU_MOVES;
}

// At most one expert of the layer moves, and none while another one does.
static void consider(stk_gpu *gpu, uint32_t layer)
{
    for (int i = 0; i < STK_GPU_MOVES; i++)
        if (gpu->moves[i].state != STK_GPU_MOVE_NONE && gpu->moves[i].layer == layer)
            return;
    for (uint32_t e = 0; e < gpu->expert_count; e++) {
        gpu->usage[e] = gpu->churns ? invented(gpu, layer, e)
                                    : stk_heat_of(gpu->engine->heat, layer, e);
        gpu->resident[e] = *stk_gpu_slot(gpu, layer, e) != STK_GPU_NO_SLOT;
    }
    const stk_residency now = {.usage = gpu->usage,
                               .is_resident = gpu->resident,
                               .expert_count = gpu->expert_count,
                               .capacity = gpu->quota[layer],
                               .hysteresis = gpu->churns ? 1 : hysteresis,
                               .usage_gain_min = gpu->churns ? 0 : gain_min};
    stk_residency_swap swap;
    if (stk_residency_decide(&now, &swap, 1) == 0)
        return;
    if (swap.promote == STK_RESIDENCY_NONE)
        take_away(gpu, layer, swap.demote);
    else
        start(gpu, layer, swap);
}

// The slots from `slots` on are given back; whose they were, the CPU computes.
static void shrink(stk_gpu *gpu, uint32_t slots)
{
    uint32_t kept = 0;
    for (uint32_t layer = 0; layer < gpu->layer_count; layer++) {
        uint32_t held = 0;
        for (uint32_t e = 0; e < gpu->expert_count; e++) {
            uint32_t *slot = stk_gpu_slot(gpu, layer, e);
            if (*slot != STK_GPU_NO_SLOT && *slot >= slots)
                take_away(gpu, layer, e);
            held += *slot != STK_GPU_NO_SLOT;
        }
        gpu->quota[layer] = held;
    }
    uint32_t stages = 0;
    for (uint32_t i = 0; i < gpu->stage_count; i++)
        if (gpu->stage_slots[i] < slots)
            gpu->stage_slots[stages++] = gpu->stage_slots[i];
    gpu->stage_count = stages;
    for (uint32_t i = 0; i < gpu->free_count; i++)
        if (gpu->free_slots[i] < slots)
            gpu->free_slots[kept++] = gpu->free_slots[i];
    gpu->free_count = kept;
    for (uint32_t i = 0; kept == 0 && slots > 0 && i < gpu->layer_count * gpu->expert_count; i++)
        if (gpu->slot_of[i] + 1 == slots) { // one spare, or nothing could ever come in
            take_away(gpu, i / gpu->expert_count, i % gpu->expert_count);
            gpu->quota[i / gpu->expert_count]--;
            break;
        }
    stk_vk_experts_shrink(gpu->experts, slots);
}

// Where others took device memory, gives way. True: there is too little, so nothing comes in.
static bool heed_budget(stk_gpu *gpu)
{
    uint64_t taken = stk_vk_memory_bytes(gpu->vk), most = stk_vk_memory_bytes_max_now(gpu->vk);
    uint32_t slots = stk_vk_experts_resident_slots(gpu->experts);
    if (taken <= most || slots == 0)
        return false;
    if (is_moving(gpu))
        return true; // first let them arrive
    uint64_t excess = (taken - most + gpu->layout.slot_bytes - 1) / gpu->layout.slot_bytes;
    shrink(gpu, excess < slots ? slots - (uint32_t)excess : 0);
    stk_info(gpu->log, "others need memory of %s: %u experts stay on it",
             stk_gpu_device_name(gpu->device), gpu->held);
    return true;
}

void stk_gpu_turn(stk_session *s)
{
    stk_gpu *gpu = s->engine->gpu;
    if (!gpu || gpu->in_place || gpu->pool)
        return;
    if (stk_gpu_device_is_lost(gpu->device)) {
        stk_gpu_drop_moves(gpu);
        return;
    }
    for (int i = 0; i < STK_GPU_MOVES; i++) {
        stk_gpu_move *move = &gpu->moves[i];
        if (move->state == STK_GPU_MOVE_COPYING &&
            stk_vk_experts_upload_poll(gpu->experts, move->slot) == STK_OK)
            arrive(s, move);
    }
    if (!store_has_room(gpu))
        return;
    bool is_short = gpu->turns++ % (gpu->churns ? 1 : BUDGET_TURNS) == 0 && heed_budget(gpu);
    for (int i = 0; i < LAYERS_PER_TURN && gpu->free_count > 0 && !is_short; i++) {
        bool full = true;
        for (int j = 0; j < STK_GPU_MOVES; j++)
            full &= gpu->moves[j].state != STK_GPU_MOVE_NONE;
        if (full)
            break;
        consider(gpu, gpu->layer_next);
        gpu->layer_next = (gpu->layer_next + 1) % gpu->layer_count;
    }
}

uint64_t stk_gpu_moved_count(const stk_gpu *gpu)
{
    return gpu ? gpu->moved_count : 0;
}
