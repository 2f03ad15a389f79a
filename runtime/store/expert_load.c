// Reads every expert of a model that fits into memory, once, when the store opens.
#include "store/store_impl.h"

#include <stdlib.h>

#include "base/pages.h"
#include "store/reading.h"

typedef struct load_all_job {
    stk_expert_store *store;
    uint64_t source_bytes;
    stk_reading reading;
} load_all_job;

static void load_all_worker(stk_worker *worker, void *argument)
{
    load_all_job *job = argument;
    stk_expert_store *s = job->store;
    uint32_t total = s->slot_count, index, end;
    uint8_t *buffer = malloc(job->source_bytes);
    if (!buffer)
        stk_reading_count(&job->reading, STK_NO_MEMORY);
    while (stk_worker_take_from(worker, worker->node, total, 1, &index, &end)) {
        if (s->node_of && s->node_of[index] != worker->node)
            continue;
        if (!stk_reading_goes_on(&job->reading))
            break;
        stk_reading_count(&job->reading,
                          stk_expert_read(s->file, s->model,
                                          &s->layouts[index / s->model->expert_count], index,
                                          buffer, stk_store_slot(s, index)));
    }
    free(buffer);
}

stk_status stk_store_load_all(stk_expert_store *s, const stk_expert_store_options *options)
{
    load_all_job job = {.store = s,
                        .source_bytes = stk_store_staging_bytes(s->model),
                        .reading = {.what = "loading experts",
                                    .total = s->slot_count,
                                    .log = s->log,
                                    .cancel = options->cancel}};
    stk_status status = stk_reading_run(&job.reading, options->team, load_all_worker, &job);
    s->slots_used = s->slot_count;
    stk_pages_gather(s->slots, s->slots_size);
    return status;
}
