// Which experts the GPU starts with: per layer the most used ones of earlier runs, or every nth.
#include "engine/experts_gpu_impl.h"

#include <stdlib.h>

static bool is_supported(const stk_expert_layout *l)
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
        if (!found && is_supported(&l)) {
            gpu->layout = l;
            found = true;
        }
        gpu->fits[layer] = found && is_supported(&l) && l.slot_bytes == gpu->layout.slot_bytes;
        gpu->quota[layer] = gpu->fits[layer] ? (uint32_t)((uint64_t)m->expert_count * percent / 100)
                                             : 0;
        sum += gpu->quota[layer];
    }
    return sum;
}

// Experts were wanted on the device, and none can be there.
static void warn_of_types(const stk_gpu *gpu, uint32_t percent)
{
    const stk_model *m = &gpu->engine->model;
    stk_expert_layout l = stk_expert_layout_of(m, &m->layers[0]);
    if (percent != 0 && !is_supported(&l))
        stk_warn(gpu->engine->log,
                 "experts stay on the CPU: there are shaders for %s only, these are %s, %s and %s",
                 stk_type_q4_0.name, l.gate.type->name, l.up.type->name, l.down.type->name);
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
bool stk_gpu_is_nth(const stk_gpu *gpu, uint32_t layer, uint32_t e)
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
                                : stk_gpu_is_nth(gpu, layer, e);
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

// ---- slots ----

static stk_vk_experts_options options_of(const stk_engine *e, const stk_expert_layout *layout)
{
    const stk_model *m = &e->model;
    return (stk_vk_experts_options){.vk = stk_gpu_device_vk(e->device),
                                    .bundle = layout->bundle,
                                    .bundle_at = layout->up_at,
                                    .slot_bytes = layout->slot_bytes,
                                    .rows_max = STK_GPU_JOB_ROWS,
                                    .pairs_max = STK_GPU_JOB_ROWS * m->expert_used_count,
                                    .jobs_max = STK_GPU_JOBS,
                                    .layer_count = m->layer_count,
                                    .expert_count = m->expert_count};
}

uint64_t stk_gpu_shared_bytes(const stk_engine *e)
{
    enum { SLABS_BYTES = 3 * (8 << 20) }; // what allocations are rounded up to, one of each use
    if (!e->device || e->gpu_percent_max == 0 ||
        !stk_vk_info(stk_gpu_device_vk(e->device))->unified)
        return 0;
    const stk_expert_layout layout = stk_expert_layout_of(&e->model, &e->model.layers[0]);
    const stk_vk_experts_options sizes = options_of(e, &layout);
    return stk_vk_experts_bytes(&sizes) + SLABS_BYTES;
}

// Resident slots for `wanted` experts, and spare ones for those that come later or for one layer.
static uint32_t count_slots(const stk_gpu *gpu, const stk_vk_experts_options *options,
                            uint32_t wanted)
{
    uint64_t most = stk_gpu_room_bytes(gpu->engine), jobs = stk_vk_experts_bytes(options);
    uint64_t room = most / 16 * 15 > jobs ? (most / 16 * 15 - jobs) / options->slot_bytes : 0;
    uint64_t all = (uint64_t)gpu->layer_count * gpu->expert_count;
    uint64_t slots = wanted < all ? (uint64_t)wanted + STK_GPU_MOVES : wanted;
    slots += gpu->stage_count;
    return (uint32_t)(room < slots ? room : slots);
}

static stk_status open_slots(stk_gpu *gpu, uint32_t wanted)
{
    stk_vk_experts_options options = options_of(gpu->engine, &gpu->layout);
    options.imported_slots = gpu->in_place ? gpu->layer_count * gpu->expert_count : gpu->pool_slots;
    if (options.imported_slots == 0)
        options.resident_slots = count_slots(gpu, &options, wanted);
    if (options.imported_slots == 0 && options.resident_slots == 0)
        return STK_NO_MEMORY;
    return stk_vk_experts_open(&options, &gpu->experts);
}

// ---- slots of the store, in place ----

// Those that hold experts whatever else the limit's memory is used for.
static bool has_pool(const stk_gpu *gpu, stk_expert_pool *pool)
{
    const stk_engine *e = gpu->engine;
    const stk_vk_device_info *info = stk_vk_info(gpu->vk);
    uint64_t align = info->import_align_bytes;
    *pool = stk_expert_store_pool(e->store, 0);
    if (pool->slot_count > e->memory.slots)
        pool->slot_count = e->memory.slots;
    return info->unified && align != 0 && pool->data && (uintptr_t)pool->data % align == 0 &&
           pool->slot_bytes == gpu->layout.slot_bytes && pool->slot_bytes % align == 0;
}

// Allocations have a largest size. Numbers of slots follow each other all the same.
static stk_status import_pool(stk_gpu *gpu, const stk_expert_pool *pool)
{
    uint64_t most = stk_vk_info(gpu->vk)->allocation_bytes_max / pool->slot_bytes;
    uint32_t count = 0, first = 0;
    stk_status status = most != 0 ? STK_OK : STK_UNSUPPORTED;
    for (uint32_t at = 0; at < pool->slot_count && status == STK_OK; at += count) {
        count = pool->slot_count - at < most ? pool->slot_count - at : (uint32_t)most;
        status = stk_vk_experts_import(gpu->experts, (uint8_t *)pool->data + at * pool->slot_bytes,
                                       count, &first);
        if (at == 0)
            gpu->pool_first = first;
    }
    return status;
}

// The device reads the store's slots where they are, whatever they hold from token to token.
static stk_status place_in_pool(stk_gpu *gpu, uint32_t wanted)
{
    stk_expert_pool pool;
    if (!has_pool(gpu, &pool)) {
        // its memory is the memory that the limit is about, and the plan has spent it
        stk_info(gpu->log, "experts stay on the CPU: %s shares the limited memory",
                 stk_vk_info(gpu->vk)->name);
        return STK_OK;
    }
    gpu->pool_slots = pool.slot_count;
    stk_status status = open_slots(gpu, wanted);
    if (status == STK_OK)
        status = import_pool(gpu, &pool);
    if (status == STK_UNSUPPORTED) {
        stk_info(gpu->log, "experts stay on the CPU: %s cannot read them in place",
                 stk_vk_info(gpu->vk)->name);
        return STK_OK;
    }
    if (status != STK_OK)
        return status;
    (void)stk_expert_store_pool(gpu->engine->store, gpu->pool_slots);
    gpu->pool = pool.data;
    uint32_t layer = 0;
    while (!gpu->fits[layer])
        layer++; // there is one, for something was wanted
    stk_expert expert;
    status = wait_for_expert(gpu->engine->store, layer, 0, &expert);
    size_t slot = status == STK_OK
                      ? (size_t)((const uint8_t *)expert.gate.data - gpu->pool) / pool.slot_bytes
                      : 0;
    if (status == STK_OK && slot < gpu->pool_slots)
        status = probe_once(gpu, layer, &expert, gpu->pool_first + (uint32_t)slot);
    stk_expert_store_release(gpu->engine->store, layer, 0);
    gpu->held = status == STK_OK ? gpu->pool_slots : 0;
    if (status == STK_OK)
        stk_info(gpu->log, "%u slots of experts are read in place by %s", gpu->pool_slots,
                 stk_vk_info(gpu->vk)->name);
    return status;
}

// ---- experts of one layer, copied when they are chosen ----

static void wish_stages(stk_gpu *gpu, uint32_t wanted, const stk_engine_options *options)
{
    bool is_auto = options->gpu_staging == STK_GPU_STAGING_AUTO;
    bool is_own = stk_vk_info(gpu->vk)->kind == STK_VK_DISCRETE;
    gpu->stages_forced = !is_auto;
    gpu->stage_count = is_auto ? is_own ? STK_GPU_STAGES : 0 : options->gpu_staging;
    if (gpu->stage_count > STK_GPU_STAGES_MAX)
        gpu->stage_count = STK_GPU_STAGES_MAX;
    if (wanted == 0 || gpu->in_place)
        gpu->stage_count = 0;
}

// Takes the last of the free slots, and measures how long a copy to one takes.
static stk_status take_stages(stk_gpu *gpu)
{
    enum { COPIES = 4 };
    uint32_t wished = gpu->stage_count, layer = 0;
    stk_expert expert;
    for (gpu->stage_count = 0; gpu->stage_count < wished && gpu->free_count > 0;)
        gpu->stage_slots[gpu->stage_count++] = gpu->free_slots[--gpu->free_count];
    if (gpu->stage_count == 0 || gpu->stages_forced)
        return STK_OK;
    while (!gpu->fits[layer])
        layer++;
    stk_status status = wait_for_expert(gpu->engine->store, layer, 0, &expert);
    for (int i = 0; i < COPIES && status == STK_OK; i++) {
        uint64_t begin_ns = stk_meter_now_ns();
        status = stk_vk_experts_upload(gpu->experts, gpu->stage_slots[0], expert.gate.data);
        if (status == STK_OK)
            status = stk_vk_experts_upload_wait(gpu->experts, gpu->stage_slots[0]);
        double copy_s = (double)(stk_meter_now_ns() - begin_ns) * 1e-9;
        if (i == 1 || copy_s < gpu->copy_s) // the first one warms up
            gpu->copy_s = copy_s;
    }
    stk_expert_store_release(gpu->engine->store, layer, 0);
    return status;
}

stk_status stk_gpu_place(stk_gpu *gpu, const stk_engine_options *options)
{
    const stk_model *m = &gpu->engine->model;
    const stk_vk_device_info *info = stk_vk_info(gpu->vk);
    uint32_t percent = gpu->engine->gpu_percent_max;
    uint32_t wanted = set_quotas(gpu, m, percent);
    if (wanted == 0) {
        warn_of_types(gpu, percent);
        return STK_OK;
    }
    bool is_limited = info->unified && gpu->engine->memory.limit_bytes != 0;
    if (is_limited && !stk_expert_store_is_resident(gpu->engine->store))
        return place_in_pool(gpu, wanted);
    gpu->in_place = info->unified && !options->gpu_copies &&
                    stk_expert_store_is_resident(gpu->engine->store) &&
                    info->import_align_bytes != 0 &&
                    gpu->layout.slot_bytes % info->import_align_bytes == 0;
    if (is_limited && !gpu->in_place)
        return STK_OK; // a copy would be counted twice
    wish_stages(gpu, wanted, options);
    stk_status status = open_slots(gpu, wanted);
    if (status != STK_OK)
        return status;
    uint32_t slots = stk_vk_experts_resident_slots(gpu->experts),
             all = m->layer_count * m->expert_count;
    uint32_t spare = wanted < all || slots < wanted ? STK_GPU_MOVES + gpu->stage_count : 0;
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
        status = take_stages(gpu);
    if (status == STK_OK)
        stk_info(gpu->log, "%u of %u experts on %s%s%s", gpu->held, all, info->name,
                 gpu->in_place ? ", in host memory" : "",
                 stk_heat_is_known(gpu->engine->heat) ? ", the most used ones" : "");
    return status;
}
