// Which experts the GPU starts with: per layer the most used ones of earlier runs, or every nth.
#include "engine/experts_gpu_impl.h"

#include <stdlib.h>

static bool fits(const stk_expert_layout *l)
{
    return l->gate.type == &stk_type_q4_0 && l->gate.format == STK_FORMAT_X16 &&
           l->bundle.group_bytes != 0;
}

// What each layer would have if all of it fitted. Returns the sum.
static uint32_t set_quotas(stk_gpu *gpu, const stk_model *m, uint32_t percent)
{
    uint32_t sum = 0;
    bool found = false;
    for (uint32_t layer = 0; layer < m->layer_count; layer++) {
        stk_expert_layout l = stk_expert_layout_of(m, &m->layers[layer]);
        if (!found && fits(&l)) {
            gpu->layout = l;
            found = true;
        }
        bool same = found && fits(&l) && l.slot_bytes == gpu->layout.slot_bytes;
        gpu->quota[layer] = same ? (uint32_t)((uint64_t)m->expert_count * percent / 100) : 0;
        sum += gpu->quota[layer];
    }
    return sum;
}

// Cuts every layer's quota in proportion, so that their sum is `slots`.
static void cut_quotas(stk_gpu *gpu, uint32_t sum, uint32_t slots)
{
    uint64_t before = 0, given = 0;
    for (uint32_t layer = 0; layer < gpu->layer_count && slots < sum; layer++) {
        before += gpu->quota[layer];
        uint64_t all = before * slots / sum; // of this layer and those before
        gpu->quota[layer] = (uint32_t)(all - given);
        given = all;
    }
}

// Spread evenly: how many of the experts before and with e are the GPU's.
static bool is_nth(const stk_gpu *gpu, uint32_t layer, uint32_t e)
{
    uint64_t quota = gpu->quota[layer], count = gpu->expert_count;
    return (e + 1) * quota / count != e * quota / count;
}

// How many experts of the layer are used more, or as much and come first.
static uint32_t rank_of(const stk_gpu *gpu, uint32_t layer, uint32_t expert)
{
    const stk_heat *heat = gpu->engine->heat;
    float own = stk_heat_of(heat, layer, expert);
    uint32_t rank = 0;
    for (uint32_t e = 0; e < gpu->expert_count; e++) {
        float other = stk_heat_of(heat, layer, e);
        rank += other > own || (other == own && e < expert); // exact: the same numbers
    }
    return rank;
}

// Numbers the chosen experts' slots from 0 on. The others are STK_GPU_NO_SLOT.
static uint32_t choose_experts(stk_gpu *gpu)
{
    bool known = stk_heat_is_known(gpu->engine->heat);
    uint32_t count = 0;
    for (uint32_t layer = 0; layer < gpu->layer_count; layer++)
        for (uint32_t e = 0; e < gpu->expert_count; e++) {
            bool chosen = known ? rank_of(gpu, layer, e) < gpu->quota[layer]
                                : is_nth(gpu, layer, e);
            *stk_gpu_slot(gpu, layer, e) = chosen ? count++ : STK_GPU_NO_SLOT;
        }
    return count;
}

// ---- filling the device ----

static stk_status wait_for_expert(stk_expert_store *store, uint32_t layer, uint32_t e,
                                  stk_expert *out)
{
    stk_status status = STK_PENDING;
    stk_expert_store_want(store, layer, &e, NULL, NULL, 1, STK_WANT_DEMAND);
    while (status == STK_PENDING) {
        uint32_t events = stk_expert_store_events(store);
        status = stk_expert_store_poll(store, layer, e, out);
        if (status == STK_PENDING)
            stk_expert_store_wait(store, events);
    }
    return status;
}

// The first expert on the device is also a test of the device.
static stk_status probe_once(stk_gpu *gpu, uint32_t layer, const stk_expert *expert, uint32_t slot)
{
    bool equal = true;
    if (gpu->held++ != 0)
        return STK_OK;
    stk_status status = stk_gpu_probe(gpu->engine, gpu->experts,
                                      &gpu->engine->expert_kernels[layer], expert, slot, &equal);
    return equal ? status
                 : stk_fail(gpu->log, STK_UNSUPPORTED, "%s computes other bits than the CPU",
                            stk_gpu_device_name(gpu->device));
}

static stk_status upload_expert(stk_gpu *gpu, uint32_t layer, uint32_t e)
{
    stk_expert_store *store = gpu->engine->store;
    uint32_t slot = *stk_gpu_slot(gpu, layer, e);
    stk_expert expert;
    stk_status status = wait_for_expert(store, layer, e, &expert);
    // the gate is at the slot's start
    if (status == STK_OK)
        status = stk_vk_experts_upload(gpu->experts, slot, expert.gate.data);
    if (status == STK_OK)
        status = probe_once(gpu, layer, &expert, slot);
    stk_expert_store_release(store, layer, e);
    return status;
}

static stk_status upload_layer(stk_gpu *gpu, uint32_t layer)
{
    stk_status status = STK_OK;
    for (uint32_t e = 0; e < gpu->expert_count && status == STK_OK; e++)
        if (*stk_gpu_slot(gpu, layer, e) != STK_GPU_NO_SLOT)
            status = upload_expert(gpu, layer, e);
    return status;
}

// The host slots of a layer lie in one run, in order of the experts, when all are resident. One
// import for all of them: drivers allow a few thousand.
static bool find_run(stk_gpu *gpu, uint32_t layer, stk_expert *first)
{
    for (uint32_t e = 0; e < gpu->expert_count; e++) {
        stk_expert expert;
        if (wait_for_expert(gpu->engine->store, layer, e, &expert) != STK_OK)
            return false;
        if (e == 0)
            *first = expert;
        if ((const uint8_t *)expert.gate.data !=
            (const uint8_t *)first->gate.data + e * gpu->layout.slot_bytes)
            return false;
    }
    return true;
}

// Lets the device read the layer's host slots; where it cannot, the layer stays with the CPU.
static stk_status import_layer(stk_gpu *gpu, uint32_t layer)
{
    uint32_t *slots = stk_gpu_slot(gpu, layer, 0), first = 0;
    stk_expert expert = {0};
    stk_status status = STK_OK;
    bool imported = find_run(gpu, layer, &expert) &&
                    stk_vk_experts_import(gpu->experts, (void *)(uintptr_t)expert.gate.data,
                                          gpu->expert_count, &first) == STK_OK;
    for (uint32_t e = 0; e < gpu->expert_count && status == STK_OK; e++) {
        if (slots[e] == STK_GPU_NO_SLOT)
            continue;
        slots[e] = imported ? first + e : STK_GPU_NO_SLOT;
        if (!imported)
            continue;
        stk_expert chosen;
        status = wait_for_expert(gpu->engine->store, layer, e, &chosen);
        if (status == STK_OK)
            status = probe_once(gpu, layer, &chosen, slots[e]);
    }
    return status;
}

static stk_status fill(stk_gpu *gpu)
{
    stk_status status = STK_OK;
    for (uint32_t layer = 0; layer < gpu->layer_count && status == STK_OK; layer++) {
        if (gpu->quota[layer] > 0)
            status = gpu->in_place ? import_layer(gpu, layer) : upload_layer(gpu, layer);
        for (uint32_t e = 0; e < gpu->expert_count && status == STK_OK; e++)
            stk_gpu_set_slot(gpu, layer, e, *stk_gpu_slot(gpu, layer, e));
        stk_progress(gpu->log, "filling the GPU", layer + 1, gpu->layer_count);
    }
    return status;
}

// Resident slots for `wanted` experts, and spare ones for those that come later.
static uint32_t count_slots(const stk_gpu *gpu, const stk_vk_experts_options *options,
                            uint32_t wanted)
{
    uint64_t most = stk_gpu_room_bytes(gpu->engine), jobs = stk_vk_experts_bytes(options);
    uint64_t room = most / 16 * 15 > jobs ? (most / 16 * 15 - jobs) / options->slot_bytes : 0;
    uint64_t all = (uint64_t)gpu->layer_count * gpu->expert_count;
    uint64_t slots = wanted < all ? (uint64_t)wanted + STK_GPU_MOVES : wanted;
    return (uint32_t)(room < slots ? room : slots);
}

static stk_status open_slots(stk_gpu *gpu, uint32_t wanted)
{
    uint32_t all = gpu->layer_count * gpu->expert_count;
    stk_vk_experts_options options = {
        .vk = gpu->vk,
        .bundle = gpu->layout.bundle,
        .bundle_at = gpu->layout.up_at,
        .slot_bytes = gpu->layout.slot_bytes,
        .imported_slots = gpu->in_place ? all : 0,
        .rows_max = STK_GPU_JOB_ROWS,
        .pairs_max = STK_GPU_JOB_ROWS * gpu->engine->model.expert_used_count,
        .jobs_max = STK_GPU_JOBS,
        .layer_count = gpu->layer_count,
        .expert_count = gpu->expert_count,
    };
    if (!gpu->in_place)
        options.resident_slots = count_slots(gpu, &options, wanted);
    if (!gpu->in_place && options.resident_slots == 0)
        return STK_NO_MEMORY;
    return stk_vk_experts_open(&options, &gpu->experts);
}

stk_status stk_gpu_place(stk_gpu *gpu, uint32_t percent, bool copies)
{
    const stk_model *m = &gpu->engine->model;
    const stk_vk_device_info *info = stk_vk_info(gpu->vk);
    uint32_t wanted = set_quotas(gpu, m, percent);
    if (wanted == 0)
        return STK_OK;
    gpu->in_place = info->unified && !copies && stk_expert_store_is_resident(gpu->engine->store) &&
                    info->import_align_bytes != 0 &&
                    gpu->layout.slot_bytes % info->import_align_bytes == 0;
    stk_status status = open_slots(gpu, wanted);
    if (status != STK_OK)
        return status;
    uint32_t slots = stk_vk_experts_resident_slots(gpu->experts),
             all = m->layer_count * m->expert_count;
    uint32_t spare = wanted < all || slots < wanted ? STK_GPU_MOVES : 0;
    if (!gpu->in_place)
        cut_quotas(gpu, wanted, slots > spare ? slots - spare : 0);
    uint32_t used = choose_experts(gpu);
    gpu->free_slots = calloc((size_t)slots + 1, sizeof *gpu->free_slots);
    if (!gpu->free_slots)
        return STK_NO_MEMORY;
    for (uint32_t slot = used; slot < slots; slot++)
        gpu->free_slots[gpu->free_count++] = slot;
    status = fill(gpu);
    if (status == STK_OK)
        stk_info(gpu->log, "%u of %u experts on %s%s%s", gpu->held, all, info->name,
                 gpu->in_place ? ", in host memory" : "",
                 stk_heat_is_known(gpu->engine->heat) ? ", the most used ones" : "");
    return status;
}
