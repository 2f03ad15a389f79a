// How often experts were used, kept beside the model, so that a run starts where the last ended.
#include "store/store_impl.h"

#include <stdlib.h>

#include "store/usage_file.h"

void stk_store_load_usage(stk_expert_store *s)
{
    uint32_t layers = s->model->layer_count, experts = s->model->expert_count;
    size_t count = (size_t)layers * experts;
    float *rates = malloc(count * sizeof *rates);
    uint32_t tokens = rates ? stk_usage_read(s->usage_path, layers, experts, s->log, rates) : 0;
    s->clock.token = tokens < STK_USAGE_TOKENS_MAX ? tokens : STK_USAGE_TOKENS_MAX;
    for (size_t i = 0; i < count && tokens > 0; i++) {
        s->entries[i].usage.slow = rates[i];
        s->entries[i].usage.last_token = s->clock.token;
    }
    free(rates);
}

void stk_store_save_usage(const stk_expert_store *s)
{
    uint32_t layers = s->model->layer_count, experts = s->model->expert_count;
    size_t count = (size_t)layers * experts;
    float *rates = malloc(count * sizeof *rates);
    if (!rates)
        return;
    // Rates as of now, whenever each was last touched.
    for (size_t i = 0; i < count; i++)
        rates[i] = stk_usage_slow(&s->entries[i].usage, &s->clock);
    stk_usage_write(s->usage_path, layers, experts, s->log, rates, s->clock.token);
    free(rates);
}

typedef struct ranked {
    float rate;
    uint32_t entry;
} ranked;

static int by_rate(const void *a, const void *b)
{
    const ranked *x = a, *y = b;
    if (x->rate != y->rate)
        return x->rate < y->rate ? 1 : -1;
    return x->entry < y->entry ? -1 : 1;
}

static uint32_t queue_most_used(stk_expert_store *s, ranked *order, uint32_t count)
{
    uint32_t queued = 0;
    for (uint32_t i = 0; i < count; i++)
        order[i] = (ranked){s->entries[i].usage.slow, i};
    qsort(order, count, sizeof *order, by_rate);
    pthread_mutex_lock(&s->lock);
    for (uint32_t i = 0; i < count && queued < s->slot_count && order[i].rate > 0; i++) {
        stk_entry *e = &s->entries[order[i].entry];
        atomic_store_explicit(&e->state, STK_ENTRY_QUEUED, memory_order_relaxed);
        stk_store_enqueue(s, order[i].entry, STK_WANT_EXACT);
        queued++;
    }
    pthread_mutex_unlock(&s->lock);
    return queued;
}

stk_status stk_store_warm(stk_expert_store *s, const atomic_int *cancel)
{
    uint32_t count = s->model->layer_count * s->model->expert_count;
    ranked *order = malloc(count * sizeof *order);
    if (!order)
        return STK_NO_MEMORY;
    uint32_t queued = queue_most_used(s, order, count), done = 0;
    stk_status status = STK_OK;
    if (queued > 0)
        stk_io_kick(s->io);
    while (done < queued && status == STK_OK) {
        uint32_t events = stk_expert_store_events(s);
        done = 0;
        for (uint32_t i = 0; i < queued; i++) {
            int state = atomic_load_explicit(&s->entries[order[i].entry].state,
                                             memory_order_acquire);
            done += state == STK_ENTRY_READY || state == STK_ENTRY_ABSENT;
        }
        stk_progress(s->log, "warming experts", done, queued);
        if (cancel && atomic_load(cancel))
            status = STK_CANCELLED;
        else if (done < queued)
            stk_expert_store_wait(s, events);
    }
    free(order);
    stk_expert_store_reset_stats(s);
    return status;
}
