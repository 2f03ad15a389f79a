#include "store/expert_store.h"

#include <stdatomic.h>
#include <stdlib.h>

#include "base/pages.h"
#include "store/expert_layout.h"
#include "store/model_file.h"

struct stk_expert_store {
    const stk_model *model;
    stk_expert_layout *layouts; // [layer_count]
    uint64_t *layer_at;         // [layer_count]: where a layer's slots start
    uint8_t *slots;
    uint64_t bytes;
};

stk_expert stk_expert_store_get(const stk_expert_store *store, uint32_t layer, uint32_t expert)
{
    const stk_expert_layout *layout = &store->layouts[layer];
    return stk_expert_at(layout,
                         store->slots + store->layer_at[layer] + expert * layout->slot_bytes);
}

uint64_t stk_expert_store_bytes(const stk_expert_store *store)
{
    return store->bytes;
}

// The parallel load: workers take experts one by one.
typedef struct load_job {
    stk_expert_store *store;
    const stk_model_file *file;
    const stk_log *log;
    atomic_uint loaded;
    atomic_int status;
} load_job;

static stk_status load_expert(const load_job *job, uint32_t layer, uint32_t expert, uint8_t *buffer)
{
    const stk_layer *l = &job->store->model->layers[layer];
    const stk_expert_layout *layout = &job->store->layouts[layer];
    const stk_gguf_tensor *tensors[3] = {l->gate_experts, l->up_experts, l->down_experts};
    const uint8_t *parts[3];
    for (int i = 0; i < 3; i++) {
        uint64_t size = tensors[i]->size_bytes / job->store->model->expert_count;
        stk_status status = stk_model_file_read(job->file, tensors[i], expert * size, size, buffer);
        if (status != STK_OK)
            return status;
        parts[i] = buffer;
        buffer += size;
    }
    stk_expert_pack(layout, parts[0], parts[1], parts[2],
                    job->store->slots + job->store->layer_at[layer] + expert * layout->slot_bytes);
    return STK_OK;
}

static void load_worker(stk_worker *worker, void *argument)
{
    load_job *job = argument;
    const stk_model *model = job->store->model;
    uint64_t source_bytes = 0;
    for (uint32_t i = 0; i < model->layer_count; i++)
        if (job->store->layouts[i].source_bytes > source_bytes)
            source_bytes = job->store->layouts[i].source_bytes;
    uint8_t *buffer = malloc(source_bytes);
    if (!buffer)
        atomic_store(&job->status, STK_NO_MEMORY);
    uint32_t total = model->layer_count * model->expert_count, begin, end;
    while (stk_worker_take(worker, total, 1, &begin, &end)) {
        if (atomic_load(&job->status) != STK_OK)
            break;
        stk_status status = load_expert(job, begin / model->expert_count,
                                        begin % model->expert_count, buffer);
        if (status != STK_OK)
            atomic_store(&job->status, (int)status);
        uint32_t loaded = atomic_fetch_add(&job->loaded, 1) + 1;
        if (worker->index == 0 || loaded == total)
            stk_progress(job->log, "loading experts", loaded, total);
    }
    free(buffer);
}

static stk_status load_all(stk_expert_store *store, const stk_gguf *gguf, stk_team *team,
                           const stk_log *log)
{
    stk_model_file *file = NULL;
    stk_status status = stk_model_file_open(gguf, log, &file);
    if (status != STK_OK)
        return status;
    load_job job = {.store = store, .file = file, .log = log};
    stk_team_run(team, load_worker, &job);
    for (uint32_t i = 0; i < store->model->layer_count; i++) {
        const stk_layer *l = &store->model->layers[i];
        stk_model_file_forget(file, l->gate_experts);
        stk_model_file_forget(file, l->up_experts);
        stk_model_file_forget(file, l->down_experts);
    }
    stk_model_file_close(&file);
    return (stk_status)atomic_load(&job.status);
}

stk_status stk_expert_store_open(const stk_gguf *gguf, const stk_model *model, stk_team *team,
                                 const stk_log *log, stk_expert_store **out)
{
    stk_expert_store *store = calloc(1, sizeof *store);
    stk_status status = STK_NO_MEMORY;
    if (!store)
        return status;
    store->model = model;
    store->layouts = calloc(model->layer_count, sizeof *store->layouts);
    store->layer_at = calloc(model->layer_count, sizeof *store->layer_at);
    if (!store->layouts || !store->layer_at)
        goto err_close;
    for (uint32_t i = 0; i < model->layer_count; i++) {
        store->layouts[i] = stk_expert_layout_of(model, &model->layers[i]);
        store->layer_at[i] = store->bytes;
        store->bytes += store->layouts[i].slot_bytes * model->expert_count;
    }
    store->slots = stk_pages_alloc(store->bytes);
    if (!store->slots) {
        stk_error(log, "cannot reserve %.2f GiB for the experts", (double)store->bytes / 0x1p30);
        goto err_close;
    }
    status = load_all(store, gguf, team, log);
    if (status != STK_OK)
        goto err_close;
    *out = store;
    return STK_OK;

err_close:
    stk_expert_store_close(&store);
    return status;
}

void stk_expert_store_close(stk_expert_store **store)
{
    if (!*store)
        return;
    stk_pages_free((*store)->slots, (*store)->bytes);
    free((*store)->layouts);
    free((*store)->layer_at);
    free(*store);
    *store = NULL;
}
