// Reads every expert of a model that fits into memory, once, when the store opens.
#include "store/store_impl.h"

#include <stdlib.h>

#include "base/pages.h"

typedef struct load_all_job {
    stk_expert_store *store;
    const atomic_int *cancel;
    uint64_t source_bytes;
    atomic_uint loaded;
    atomic_int status;
} load_all_job;

static void load_all_worker(stk_worker *worker, void *argument)
{
    load_all_job *job = argument;
    uint8_t *buffer = malloc(job->source_bytes);
    if (!buffer)
        atomic_store(&job->status, STK_NO_MEMORY);
    stk_expert_store *s = job->store;
    uint32_t total = s->slot_count, index, end;
    while (stk_worker_take_from(worker, worker->node, total, 1, &index, &end)) {
        if (s->node_of && s->node_of[index] != worker->node)
            continue;
        if (job->cancel && atomic_load(job->cancel))
            atomic_store(&job->status, STK_CANCELLED);
        if (atomic_load(&job->status) != STK_OK)
            break;
        stk_status status = stk_expert_read(s->file, s->model,
                                            &s->layouts[index / s->model->expert_count], index,
                                            buffer, stk_store_slot(s, index));
        if (status != STK_OK)
            atomic_store(&job->status, (int)status);
        uint32_t loaded = atomic_fetch_add(&job->loaded, 1) + 1;
        if (worker->index == 0 || loaded == total)
            stk_progress(s->log, "loading experts", loaded, total);
    }
    free(buffer);
}

stk_status stk_store_load_all(stk_expert_store *s, const stk_expert_store_options *options)
{
    load_all_job job = {
        .store = s, .cancel = options->cancel, .source_bytes = stk_store_staging_bytes(s->model)};
    stk_team_run(options->team, load_all_worker, &job);
    s->slots_used = s->slot_count;
    stk_pages_gather(s->slots, s->slots_size);
    return (stk_status)atomic_load(&job.status);
}
