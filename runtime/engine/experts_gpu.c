#include "engine/experts_gpu.h"

#include <stdlib.h>
#include <string.h>

#include "engine/experts_gpu_impl.h"
#include "store/expert_layout.h"

enum { JOB_ROWS = 32, JOBS = 8 };
#define NO_SLOT UINT32_MAX

// A job in flight: pair i of it is pair pairs[i] of the batch.
typedef struct gpu_job {
    uint32_t number, count;
    uint32_t *pairs; // [JOB_ROWS * used]
} gpu_job;

struct stk_gpu {
    const stk_log *log;
    stk_gpu_device *device; // borrowed
    stk_vk *vk;             // its
    stk_vk_experts *experts;
    stk_expert_layout layout; // what its experts look like; layers of other types stay with the CPU
    uint32_t layer_count, expert_count;
    uint32_t *slot_of; // [layer][expert], NO_SLOT: the CPU's
    uint32_t held;

    gpu_job jobs[JOBS]; // a ring: oldest, and how many
    uint32_t oldest, in_flight;
    uint32_t *pairs;       // of all jobs
    stk_vk_pair *vk_pairs; // [JOB_ROWS * used]
    stk_vk_row rows[JOB_ROWS];
};

// ---- which experts ----

static bool fits(const stk_expert_layout *l)
{
    return l->gate.type == &stk_type_q4_0 && l->gate.format == STK_FORMAT_X16 &&
           l->bundle.group_bytes != 0;
}

// Spread evenly over each layer: how many of the experts before and with e are the GPU's.
static bool is_chosen(uint32_t e, uint32_t percent)
{
    return (uint64_t)(e + 1) * percent / 100 != (uint64_t)e * percent / 100;
}

static uint32_t choose_experts(stk_gpu *gpu, const stk_model *m, uint32_t percent)
{
    uint32_t wanted = 0;
    bool found = false;
    for (uint32_t layer = 0; layer < m->layer_count; layer++) {
        stk_expert_layout l = stk_expert_layout_of(m, &m->layers[layer]);
        uint32_t *slots = gpu->slot_of + (size_t)layer * m->expert_count;
        if (!found && fits(&l)) {
            gpu->layout = l;
            found = true;
        }
        bool same = found && fits(&l) && l.slot_bytes == gpu->layout.slot_bytes;
        for (uint32_t e = 0; e < m->expert_count; e++) {
            bool chosen = same && is_chosen(e, percent);
            slots[e] = chosen ? wanted : NO_SLOT;
            wanted += chosen;
        }
    }
    return wanted;
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
static stk_status probe_once(stk_gpu *gpu, stk_engine *engine, uint32_t layer,
                             const stk_expert *expert, uint32_t slot)
{
    bool equal = true;
    if (gpu->held++ != 0)
        return STK_OK;
    stk_status status = stk_gpu_probe(engine, gpu->experts, &engine->expert_kernels[layer], expert,
                                      slot, &equal);
    return equal ? status
                 : stk_fail(gpu->log, STK_UNSUPPORTED, "%s computes other bits than the CPU",
                            stk_gpu_device_name(gpu->device));
}

static stk_status upload_expert(stk_gpu *gpu, stk_engine *engine, uint32_t layer, uint32_t e)
{
    uint32_t slot = gpu->slot_of[(size_t)layer * gpu->expert_count + e];
    stk_expert expert;
    stk_status status = wait_for_expert(engine->store, layer, e, &expert);
    if (status != STK_OK)
        return status;
    // the gate is at the slot's start
    status = stk_vk_experts_upload(gpu->experts, slot, expert.gate.data);
    if (status == STK_OK)
        status = probe_once(gpu, engine, layer, &expert, slot);
    stk_expert_store_release(engine->store, layer, e);
    return status;
}

static stk_status upload_layer(stk_gpu *gpu, stk_engine *engine, uint32_t layer, uint32_t slots)
{
    stk_status status = STK_OK;
    for (uint32_t e = 0; e < gpu->expert_count && status == STK_OK; e++) {
        uint32_t *slot = &gpu->slot_of[(size_t)layer * gpu->expert_count + e];
        if (*slot != NO_SLOT && *slot >= slots)
            *slot = NO_SLOT; // no room
        if (*slot != NO_SLOT)
            status = upload_expert(gpu, engine, layer, e);
    }
    return status;
}

// The host slots of a layer lie in one run, in order of the experts, when all are resident. One
// import for all of them: drivers allow a few thousand.
static bool find_run(stk_gpu *gpu, stk_engine *engine, uint32_t layer, stk_expert *first)
{
    for (uint32_t e = 0; e < gpu->expert_count; e++) {
        stk_expert expert;
        if (wait_for_expert(engine->store, layer, e, &expert) != STK_OK)
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
static stk_status import_layer(stk_gpu *gpu, stk_engine *engine, uint32_t layer)
{
    uint32_t *slots = gpu->slot_of + (size_t)layer * gpu->expert_count, first = 0;
    stk_expert expert;
    stk_status status = STK_OK;
    bool imported = find_run(gpu, engine, layer, &expert) &&
                    stk_vk_experts_import(gpu->experts, (void *)(uintptr_t)expert.gate.data,
                                          gpu->expert_count, &first) == STK_OK;
    for (uint32_t e = 0; e < gpu->expert_count && status == STK_OK; e++) {
        if (slots[e] == NO_SLOT)
            continue;
        slots[e] = imported ? first + e : NO_SLOT;
        if (!imported)
            continue;
        stk_expert chosen;
        status = wait_for_expert(engine->store, layer, e, &chosen);
        if (status == STK_OK)
            status = probe_once(gpu, engine, layer, &chosen, slots[e]);
    }
    return status;
}

static bool has_any(const stk_gpu *gpu, uint32_t layer)
{
    bool any = false;
    for (uint32_t e = 0; e < gpu->expert_count; e++)
        any |= gpu->slot_of[(size_t)layer * gpu->expert_count + e] != NO_SLOT;
    return any;
}

static stk_status place_experts(stk_gpu *gpu, stk_engine *engine, uint32_t slots, bool in_place)
{
    stk_status status = STK_OK;
    for (uint32_t layer = 0; layer < gpu->layer_count && status == STK_OK; layer++) {
        if (has_any(gpu, layer))
            status = in_place ? import_layer(gpu, engine, layer)
                              : upload_layer(gpu, engine, layer, slots);
        stk_progress(gpu->log, "filling the GPU", layer + 1, gpu->layer_count);
    }
    return status;
}

static stk_status fill(stk_gpu *gpu, stk_engine *engine, uint32_t wanted, bool copies)
{
    const stk_model *m = &engine->model;
    const stk_vk_device_info *info = stk_vk_info(gpu->vk);
    bool in_place = info->unified && !copies && stk_expert_store_is_resident(engine->store) &&
                    info->import_align_bytes != 0 &&
                    gpu->layout.slot_bytes % info->import_align_bytes == 0;
    stk_vk_experts_options options = {.vk = gpu->vk,
                                      .bundle = gpu->layout.bundle,
                                      .bundle_at = gpu->layout.up_at,
                                      .slot_bytes = gpu->layout.slot_bytes,
                                      .imported_slots = in_place ? m->layer_count * m->expert_count
                                                                 : 0,
                                      .rows_max = JOB_ROWS,
                                      .pairs_max = JOB_ROWS * m->expert_used_count,
                                      .jobs_max = JOBS};
    uint64_t most = stk_gpu_room_bytes(engine), jobs = stk_vk_experts_bytes(&options);
    uint64_t room = most / 16 * 15 > jobs ? (most / 16 * 15 - jobs) / options.slot_bytes : 0;
    if (!in_place) {
        wanted = room < wanted ? (uint32_t)room : wanted;
        options.resident_slots = wanted;
    }
    if (wanted == 0)
        return STK_OK;
    stk_status status = stk_vk_experts_open(&options, &gpu->experts);
    if (status == STK_OK)
        status = place_experts(gpu, engine, wanted, in_place);
    if (status == STK_OK)
        stk_info(gpu->log, "%u of %u experts on %s%s", gpu->held, m->layer_count * m->expert_count,
                 info->name, in_place ? ", in host memory" : "");
    return status;
}

static stk_status take_tables(stk_gpu *gpu, const stk_model *m)
{
    uint32_t pairs = JOB_ROWS * m->expert_used_count;
    gpu->layer_count = m->layer_count;
    gpu->expert_count = m->expert_count;
    gpu->slot_of = calloc((size_t)m->layer_count * m->expert_count, sizeof *gpu->slot_of);
    gpu->pairs = calloc((size_t)JOBS * pairs, sizeof *gpu->pairs);
    gpu->vk_pairs = calloc(pairs, sizeof *gpu->vk_pairs);
    if (!gpu->slot_of || !gpu->pairs || !gpu->vk_pairs)
        return STK_NO_MEMORY;
    for (uint32_t i = 0; i < JOBS; i++)
        gpu->jobs[i].pairs = gpu->pairs + (size_t)i * pairs;
    return STK_OK;
}

static stk_status open_on(stk_gpu *gpu, stk_engine *engine, const stk_engine_options *options)
{
    stk_status status = take_tables(gpu, &engine->model);
    if (status != STK_OK)
        return status;
    if (stk_vk_info(gpu->vk)->unified && engine->memory.limit_bytes != 0) {
        // its memory is the memory that the limit is about, and the plan has spent it
        stk_info(engine->log, "experts stay on the CPU: %s shares the limited memory",
                 stk_vk_info(gpu->vk)->name);
        return STK_OK;
    }
    uint32_t percent = options->gpu_experts_percent < 100 ? options->gpu_experts_percent : 100;
    return fill(gpu, engine, choose_experts(gpu, &engine->model, percent), options->gpu_copies);
}

stk_status stk_gpu_open(stk_engine *engine, const stk_engine_options *options, stk_gpu **out)
{
    if (!engine->device)
        return STK_OK;
    stk_gpu *gpu = calloc(1, sizeof *gpu);
    if (!gpu)
        return STK_NO_MEMORY;
    gpu->log = engine->log;
    gpu->device = engine->device;
    gpu->vk = stk_gpu_device_vk(engine->device);
    stk_status status = open_on(gpu, engine, options);
    if (status != STK_OK || gpu->held == 0)
        stk_gpu_close(&gpu);
    *out = gpu;
    return status;
}

void stk_gpu_close(stk_gpu **pointer)
{
    stk_gpu *gpu = *pointer;
    if (!gpu)
        return;
    stk_vk_experts_close(&gpu->experts);
    free(gpu->slot_of);
    free(gpu->pairs);
    free(gpu->vk_pairs);
    free(gpu);
    *pointer = NULL;
}

bool stk_gpu_has(const stk_gpu *gpu, uint32_t layer, uint32_t expert)
{
    return gpu && !stk_gpu_device_is_lost(gpu->device) &&
           gpu->slot_of[(size_t)layer * gpu->expert_count + expert] != NO_SLOT;
}

uint32_t stk_gpu_expert_count(const stk_gpu *gpu)
{
    return gpu && !stk_gpu_device_is_lost(gpu->device) ? gpu->held : 0;
}

// ---- one layer ----

static void lose(stk_session *s, stk_status status)
{
    stk_gpu_device_lose(s->engine->gpu->device, status);
    atomic_store(&s->failure, STK_DEVICE_LOST);
}

// Waits for the oldest job and copies its outputs to where combining looks for them.
static void finish_oldest(stk_session *s)
{
    stk_gpu *gpu = s->engine->gpu;
    const gpu_job *job = &gpu->jobs[gpu->oldest];
    stk_status status = stk_gpu_device_is_lost(gpu->device)
                            ? STK_DEVICE_LOST
                            : stk_vk_experts_wait(gpu->experts, job->number);
    if (status != STK_OK)
        lose(s, status);
    for (uint32_t i = 0; i < job->count && status == STK_OK; i++)
        memcpy(s->expert_outputs + (size_t)job->pairs[i] * s->width_padded,
               stk_vk_experts_output(gpu->experts, job->number, i),
               s->engine->model.width * sizeof *s->expert_outputs);
    stk_vk_experts_release(gpu->experts, job->number);
    gpu->oldest = (gpu->oldest + 1) % JOBS;
    gpu->in_flight--;
}

// Lists the GPU's pairs of up to JOB_ROWS rows. Returns how many.
static uint32_t collect(stk_session *s, uint32_t layer, uint32_t first_row, gpu_job *job)
{
    stk_gpu *gpu = s->engine->gpu;
    uint32_t used = s->engine->model.expert_used_count, row_count = s->row_count - first_row;
    row_count = row_count < JOB_ROWS ? row_count : JOB_ROWS;
    job->count = 0;
    for (uint32_t r = 0; r < row_count; r++) {
        const stk_act *act = &s->normed.rows[first_row + r];
        gpu->rows[r] = (stk_vk_row){act->q, act->d, act->sum};
        for (uint32_t k = 0; k < used; k++) {
            uint32_t pair = (first_row + r) * used + k, e = s->chosen[pair];
            if (!stk_gpu_has(gpu, layer, e))
                continue;
            gpu->vk_pairs[job->count] = (stk_vk_pair){
                r, gpu->slot_of[(size_t)layer * gpu->expert_count + e]};
            job->pairs[job->count++] = pair;
        }
    }
    return row_count;
}

void stk_gpu_begin(stk_session *s, uint32_t layer)
{
    stk_gpu *gpu = s->engine->gpu;
    for (uint32_t row = 0; gpu && !stk_gpu_device_is_lost(gpu->device) && row < s->row_count;) {
        if (gpu->in_flight == JOBS)
            finish_oldest(s);
        gpu_job *job = &gpu->jobs[(gpu->oldest + gpu->in_flight) % JOBS];
        uint32_t row_count = collect(s, layer, row, job);
        row += row_count;
        if (job->count == 0)
            continue;
        stk_status status = stk_gpu_device_loses_now(gpu->device)
                                ? STK_DEVICE_LOST
                                : stk_vk_experts_submit(gpu->experts, gpu->rows, row_count,
                                                        gpu->vk_pairs, job->count, &job->number);
        if (status == STK_OK)
            gpu->in_flight++;
        else
            lose(s, status);
    }
}

void stk_gpu_end(stk_session *s, uint32_t layer)
{
    (void)layer;
    while (s->engine->gpu && s->engine->gpu->in_flight > 0)
        finish_oldest(s);
}
