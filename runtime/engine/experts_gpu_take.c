// Experts that are not on the device and that it computes nevertheless, decided as soon as the
// router has chosen them: those in slots of the store that it reads in place, and those copied to
// it while attention computes. What is taken here the workers leave alone in this layer.
#include "engine/experts_gpu_impl.h"

#include "scheduler/staging.h"

static uint32_t least_of(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

// ---- slots of the store, in place ----

// What it holds until the layer is done the store cannot read over: the workers need the rest.
static uint32_t pins_max(const stk_engine *e)
{
    uint32_t slots = least_of(e->pressure.slots, e->memory.slots);
    uint32_t least = stk_expert_store_slots_min(&e->model);
    return slots > least ? slots - least : 0;
}

static bool take_in_place(stk_gpu *gpu, uint32_t layer, uint32_t e)
{
    stk_expert expert;
    if (gpu->pin_count >= pins_max(gpu->engine) || !stk_gpu_is_nth(gpu, layer, e) ||
        stk_expert_store_poll(gpu->engine->store, layer, e, &expert) != STK_OK)
        return false;
    size_t slot = (size_t)((const uint8_t *)expert.gate.data - gpu->pool) / gpu->layout.slot_bytes;
    if (slot >= gpu->pool_slots) // lent, not for good
        return false;
    gpu->taken[e] = gpu->pool_first + (uint32_t)slot;
    gpu->pins[gpu->pin_count++] = e;
    gpu->taken_count++;
    return true;
}

// ---- copies ----

// How many experts of this layer to copy.
static uint32_t count_copies(const stk_gpu *gpu, uint32_t expert_count)
{
    const stk_staging facts = {.expert_count = expert_count,
                               .copies_max = gpu->stage_count,
                               .attention_s = gpu->attention_s,
                               .expert_cpu_s = gpu->expert_cpu_s,
                               .copy_s = gpu->copy_s};
    return gpu->stages_forced ? least_of(gpu->stage_count, expert_count)
                              : stk_staging_decide(&facts);
}

// Only what is in memory: a read would come too late.
static stk_status copy(stk_session *s, uint32_t layer, uint32_t e)
{
    stk_gpu *gpu = s->engine->gpu;
    stk_expert expert;
    if (!gpu->fits[layer] || stk_expert_store_poll(gpu->engine->store, layer, e, &expert) != STK_OK)
        return STK_PENDING;
    uint32_t slot = gpu->stage_slots[gpu->staged_count % gpu->stage_count];
    gpu->stage_begin_ns[gpu->staged_count % gpu->stage_count] = stk_meter_gpu_begin(s);
    stk_status status = stk_vk_experts_upload(gpu->experts, slot, expert.gate.data);
    if (status != STK_OK)
        return status;
    stk_expert_store_release(gpu->engine->store, layer, e);
    gpu->taken[e] = slot;
    gpu->staged_count++;
    gpu->taken_count++;
    return STK_OK;
}

void stk_gpu_take(stk_session *s, uint32_t layer, const uint32_t *experts, uint32_t count)
{
    stk_gpu *gpu = s->engine->gpu;
    if (!gpu || stk_gpu_device_is_lost(gpu->device))
        return;
    for (uint32_t e = 0; e < gpu->expert_count; e++)
        gpu->taken[e] = STK_GPU_NO_SLOT;
    gpu->staged_count = 0;
    for (uint32_t i = 0; i < count && gpu->pool; i++)
        (void)take_in_place(gpu, layer, experts[i]);
    // A prompt's experts are computed for many rows each: what they weigh is another matter.
    bool is_few = s->row_count * s->engine->model.expert_used_count <= STK_PAIRS_SPLIT_MAX;
    uint32_t copies = gpu->stage_count != 0 && is_few ? count_copies(gpu, count) : 0;
    for (uint32_t i = 0; i < count && gpu->staged_count < copies; i++) {
        stk_status status = copy(s, layer, experts[i]);
        if (status != STK_OK && status != STK_PENDING) {
            stk_gpu_check(s, status);
            break;
        }
    }
    gpu->taken_ns = stk_meter_now_ns();
}

// The end of those copies that have arrived, for the trace.
static void end_copies(stk_session *s, uint32_t layer, bool all)
{
    stk_gpu *gpu = s->engine->gpu;
    for (uint32_t i = 0; i < gpu->staged_count; i++) {
        if (gpu->stage_begin_ns[i] == 0 ||
            (!all && stk_vk_experts_upload_poll(gpu->experts, gpu->stage_slots[i]) != STK_OK))
            continue;
        stk_meter_gpu_end(s, STK_GPU_SPAN_UPLOAD, layer, gpu->stage_begin_ns[i]);
        gpu->stage_begin_ns[i] = 0;
    }
}

static double learn(double known, double now)
{
    return known > 0 ? known + (now - known) / 16 : now;
}

void stk_gpu_take_begin(stk_session *s, uint32_t layer)
{
    stk_gpu *gpu = s->engine->gpu;
    uint64_t now = stk_meter_now_ns();
    end_copies(s, layer, false);
    if (s->row_count == 1)
        gpu->attention_s = learn(gpu->attention_s, (double)(now - gpu->taken_ns) * 1e-9);
    gpu->taken_ns = now;
}

void stk_gpu_take_end(stk_session *s, uint32_t layer)
{
    stk_gpu *gpu = s->engine->gpu;
    end_copies(s, layer, true);
    for (uint32_t i = 0; i < gpu->pin_count; i++)
        stk_expert_store_release(gpu->engine->store, layer, gpu->pins[i]);
    gpu->pin_count = 0;
}

// The CPU is done with its experts of the layer.
void stk_gpu_take_computed(stk_session *s)
{
    stk_gpu *gpu = s->engine->gpu;
    if (s->row_count == 1 && s->work_count > 0)
        gpu->expert_cpu_s = learn(gpu->expert_cpu_s, (double)(stk_meter_now_ns() - gpu->taken_ns) *
                                                         1e-9 / s->work_count);
}
