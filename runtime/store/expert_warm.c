// How often experts were used, kept beside the model, so that a run starts where the last ended.
//
// The file: magic, version, layers, experts, tokens, then the slow rate of every expert, then a
// hash. It is a hint: whatever is wrong with it, it is ignored.
#include "store/store_impl.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

enum { TOKENS_KEPT_MAX = 512 }; // older runs weigh at most as much as this many tokens

typedef struct usage_header {
    char magic[8]; // "STKUSAGE"
    uint32_t version, layer_count, expert_count, tokens;
} usage_header;

static usage_header header_of(uint32_t layer_count, uint32_t expert_count)
{
    usage_header h = {.version = 1, .layer_count = layer_count, .expert_count = expert_count};
    memcpy(h.magic, "STKUSAGE", sizeof h.magic);
    return h;
}

static uint64_t hash_of(const usage_header *h, const float *rates, size_t bytes)
{
    return XXH3_64bits_withSeed(rates, bytes, XXH3_64bits(h, sizeof *h));
}

uint32_t stk_usage_read(const char *path, uint32_t layer_count, uint32_t expert_count,
                        const stk_log *log, float *rates)
{
    size_t count = (size_t)layer_count * expert_count;
    usage_header want = header_of(layer_count, expert_count), h;
    uint64_t hash;
    FILE *f = fopen(path, "re");
    if (!f)
        return 0;
    bool is_good = fread(&h, sizeof h, 1, f) == 1 &&
                   memcmp(h.magic, want.magic, sizeof h.magic) == 0 && h.version == want.version &&
                   h.layer_count == layer_count && h.expert_count == expert_count &&
                   fread(rates, sizeof *rates, count, f) == count &&
                   fread(&hash, sizeof hash, 1, f) == 1 &&
                   hash == hash_of(&h, rates, count * sizeof *rates);
    fclose(f);
    if (!is_good)
        stk_info(log, "%s: not a record of this model's experts; ignored", path);
    return is_good ? h.tokens : 0;
}

void stk_store_load_usage(stk_expert_store *s)
{
    size_t count = (size_t)s->model->layer_count * s->model->expert_count;
    float *rates = malloc(count * sizeof *rates);
    uint32_t tokens = rates ? stk_usage_read(s->usage_path, s->model->layer_count,
                                             s->model->expert_count, s->log, rates)
                            : 0;
    if (tokens) {
        s->clock.token = tokens < TOKENS_KEPT_MAX ? tokens : TOKENS_KEPT_MAX;
        for (size_t i = 0; i < count; i++) {
            s->entries[i].usage.slow = rates[i];
            s->entries[i].usage.last_token = s->clock.token;
        }
    }
    free(rates);
}

void stk_store_save_usage(const stk_expert_store *s)
{
    char partial[4096 + 32];
    size_t count = (size_t)s->model->layer_count * s->model->expert_count;
    usage_header h = header_of(s->model->layer_count, s->model->expert_count);
    float *rates = malloc(count * sizeof *rates);
    h.tokens = s->clock.token;
    if (!rates || h.tokens == 0 ||
        (size_t)snprintf(partial, sizeof partial, "%s.%ld.tmp", s->usage_path, (long)getpid()) >=
            sizeof partial) {
        free(rates);
        return;
    }
    // Rates as of now, whenever each was last touched.
    for (size_t i = 0; i < count; i++)
        rates[i] = stk_usage_slow(&s->entries[i].usage, &s->clock);
    uint64_t hash = hash_of(&h, rates, count * sizeof *rates);
    FILE *f = fopen(partial, "we");
    bool good = f && fwrite(&h, sizeof h, 1, f) == 1 &&
                fwrite(rates, sizeof *rates, count, f) == count &&
                fwrite(&hash, sizeof hash, 1, f) == 1;
    good = (!f || fclose(f) == 0) && good;
    if (!good || rename(partial, s->usage_path) != 0) {
        // A read-only folder is no reason to complain: the next run just starts cold.
        stk_debug(s->log, "%s: not written: %s", s->usage_path, strerror(errno));
        if (f)
            unlink(partial);
    }
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
