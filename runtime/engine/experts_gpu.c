#include "engine/experts_gpu.h"

#include <stdlib.h>
#include <string.h>

#include "engine/experts_gpu_impl.h"

static stk_status take_tables(stk_gpu *gpu, const stk_model *m)
{
    uint32_t pairs = STK_GPU_JOB_ROWS * m->expert_used_count;
    size_t experts = (size_t)m->layer_count * m->expert_count;
    gpu->layer_count = m->layer_count;
    gpu->expert_count = m->expert_count;
    gpu->slot_of = malloc(experts * sizeof *gpu->slot_of);
    gpu->quota = calloc(m->layer_count, sizeof *gpu->quota);
    gpu->usage = calloc(m->expert_count, sizeof *gpu->usage);
    gpu->resident = calloc(m->expert_count, sizeof *gpu->resident);
    gpu->fits = calloc(m->layer_count, sizeof *gpu->fits);
    gpu->taken = malloc(m->expert_count * sizeof *gpu->taken);
    gpu->pins = calloc(m->expert_count, sizeof *gpu->pins);
    gpu->pairs = calloc((size_t)STK_GPU_JOBS * pairs, sizeof *gpu->pairs);
    gpu->vk_pairs = calloc(pairs, sizeof *gpu->vk_pairs);
    if (!gpu->slot_of || !gpu->quota || !gpu->usage || !gpu->resident || !gpu->pairs ||
        !gpu->vk_pairs || !gpu->fits || !gpu->taken || !gpu->pins)
        return STK_NO_MEMORY;
    memset(gpu->taken, 0xff, m->expert_count * sizeof *gpu->taken); // STK_GPU_NO_SLOT
    memset(gpu->slot_of, 0xff, experts * sizeof *gpu->slot_of);     // STK_GPU_NO_SLOT
    for (uint32_t i = 0; i < STK_GPU_JOBS; i++)
        gpu->jobs[i].pairs = gpu->pairs + (size_t)i * pairs;
    return STK_OK;
}

static stk_status open_on(stk_gpu *gpu, const stk_engine_options *options)
{
    const stk_engine *engine = gpu->engine;
    stk_status status = take_tables(gpu, &engine->model);
    if (status != STK_OK)
        return status;
    return stk_gpu_place(gpu, options);
}

stk_status stk_gpu_open(stk_engine *engine, const stk_engine_options *options, stk_gpu **out)
{
    if (!engine->device)
        return STK_OK;
    stk_gpu *gpu = calloc(1, sizeof *gpu);
    if (!gpu)
        return STK_NO_MEMORY;
    gpu->log = engine->log;
    gpu->engine = engine;
    gpu->device = engine->device;
    gpu->vk = stk_gpu_device_vk(engine->device);
    gpu->churns = options->gpu_churns;
    stk_status status = open_on(gpu, options);
    if (status == STK_NO_MEMORY || status == STK_DEVICE_LOST) {
        if (status == STK_DEVICE_LOST)
            stk_gpu_device_lose(gpu->device, status);
        else
            stk_warn(engine->log, "%s has no room for experts: they stay on the CPU",
                     stk_gpu_device_name(gpu->device));
        stk_gpu_close(&gpu);
        return STK_OK;
    }
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
    stk_gpu_drop_moves(gpu);
    stk_vk_experts_close(&gpu->experts);
    free(gpu->slot_of);
    free(gpu->quota);
    free(gpu->usage);
    free(gpu->resident);
    free(gpu->fits);
    free(gpu->taken);
    free(gpu->pins);
    free(gpu->free_slots);
    free(gpu->pairs);
    free(gpu->vk_pairs);
    free(gpu);
    *pointer = NULL;
}

bool stk_gpu_has(const stk_gpu *gpu, uint32_t layer, uint32_t expert)
{
    return gpu && !stk_gpu_device_is_lost(gpu->device) &&
           *stk_gpu_slot(gpu, layer, expert) != STK_GPU_NO_SLOT;
}

bool stk_gpu_computes(const stk_gpu *gpu, uint32_t layer, uint32_t expert)
{
    return stk_gpu_has(gpu, layer, expert) ||
           (gpu && !stk_gpu_device_is_lost(gpu->device) && gpu->taken[expert] != STK_GPU_NO_SLOT);
}

// Where the GPU finds an expert that it computes.
static uint32_t slot_now(const stk_gpu *gpu, uint32_t layer, uint32_t expert)
{
    uint32_t slot = *stk_gpu_slot(gpu, layer, expert);
    return slot != STK_GPU_NO_SLOT ? slot : gpu->taken[expert];
}

uint64_t stk_gpu_taken_count(const stk_gpu *gpu)
{
    return gpu ? gpu->taken_count : 0;
}

uint32_t stk_gpu_expert_count(const stk_gpu *gpu)
{
    return gpu && !stk_gpu_device_is_lost(gpu->device) ? gpu->held : 0;
}

// ---- one layer ----

// Waits for the oldest job and copies its outputs to where combining looks for them.
static void finish_oldest(stk_session *s, uint32_t layer)
{
    stk_gpu *gpu = s->engine->gpu;
    const stk_gpu_job *job = &gpu->jobs[gpu->oldest];
    stk_status status = stk_gpu_device_is_lost(gpu->device)
                            ? STK_DEVICE_LOST
                            : stk_vk_experts_wait(gpu->experts, job->number);
    stk_gpu_check(s, status);
    stk_meter_gpu_end(s, STK_GPU_SPAN_JOB, layer, job->begin_ns);
    for (uint32_t i = 0; i < job->count && status == STK_OK; i++)
        memcpy(s->expert_outputs + (size_t)job->pairs[i] * s->width_padded,
               stk_vk_experts_output(gpu->experts, job->number, i),
               s->engine->model.width * sizeof *s->expert_outputs);
    stk_vk_experts_release(gpu->experts, job->number);
    gpu->oldest = (gpu->oldest + 1) % STK_GPU_JOBS;
    gpu->in_flight--;
}

// Lists the GPU's pairs of up to STK_GPU_JOB_ROWS rows, expert by expert. Returns how many rows.
static uint32_t collect(stk_session *s, uint32_t layer, uint32_t first_row, stk_gpu_job *job)
{
    stk_gpu *gpu = s->engine->gpu;
    uint32_t used = s->engine->model.expert_used_count, row_count = s->row_count - first_row;
    row_count = row_count < STK_GPU_JOB_ROWS ? row_count : STK_GPU_JOB_ROWS;
    job->count = 0;
    for (uint32_t r = 0; r < row_count; r++) {
        const stk_act *act = &s->normed.rows[first_row + r];
        gpu->rows[r] = (stk_vk_row){act->q, act->d, act->sum};
    }
    for (uint32_t e = 0; e < gpu->expert_count; e++)
        for (uint32_t i = s->expert_first[e];
             i < s->expert_first[e + 1] && stk_gpu_computes(gpu, layer, e); i++) {
            uint32_t pair = s->expert_pairs[i], row = pair / used - first_row; // or far too large
            if (row >= row_count)
                continue;
            gpu->vk_pairs[job->count] = (stk_vk_pair){row, slot_now(gpu, layer, e)};
            job->pairs[job->count++] = pair;
        }
    return row_count;
}

// Submits one job for the rows from `row` on. Returns the first row after them.
static uint32_t submit_rows(stk_session *s, uint32_t layer, uint32_t row)
{
    stk_gpu *gpu = s->engine->gpu;
    if (gpu->in_flight == STK_GPU_JOBS)
        finish_oldest(s, layer);
    stk_gpu_job *job = &gpu->jobs[(gpu->oldest + gpu->in_flight) % STK_GPU_JOBS];
    uint32_t row_count = collect(s, layer, row, job);
    if (job->count == 0)
        return row + row_count;
    job->begin_ns = stk_meter_gpu_begin(s);
    stk_status status = stk_gpu_device_loses_now(gpu->device)
                            ? STK_DEVICE_LOST
                            : stk_vk_experts_submit(gpu->experts, gpu->rows, row_count,
                                                    gpu->vk_pairs, job->count, &job->number);
    gpu->in_flight += status == STK_OK;
    stk_gpu_check(s, status);
    return row + row_count;
}

void stk_gpu_begin(stk_session *s, uint32_t layer)
{
    stk_gpu *gpu = s->engine->gpu;
    uint64_t begin_ns = gpu ? stk_meter_gpu_begin(s) : 0;
    if (gpu && !stk_gpu_device_is_lost(gpu->device))
        stk_gpu_take_begin(s, layer);
    for (uint32_t row = 0; gpu && !stk_gpu_device_is_lost(gpu->device) && row < s->row_count;)
        row = submit_rows(s, layer, row);
    if (gpu && !stk_gpu_device_is_lost(gpu->device))
        stk_gpu_check(s, stk_gpu_send(s));
    stk_meter_gpu_end(s, STK_GPU_SPAN_SUBMIT, layer, begin_ns);
}

void stk_gpu_end(stk_session *s, uint32_t layer)
{
    stk_gpu *gpu = s->engine->gpu;
    if (!gpu)
        return;
    stk_gpu_take_computed(s);
    uint64_t begin_ns = stk_meter_gpu_begin(s);
    bool waits = gpu->in_flight > 0;
    while (gpu->in_flight > 0)
        finish_oldest(s, layer);
    if (waits)
        stk_meter_gpu_end(s, STK_GPU_SPAN_WAIT, layer, begin_ns);
    stk_gpu_take_end(s, layer);
}
