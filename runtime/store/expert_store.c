#include "store/store_impl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/pages.h"

enum { INFLIGHT_DEFAULT = 16 };

static uint64_t slot_bytes_of(const stk_model *model, bool packed)
{
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < model->layer_count; i++) {
        stk_expert_layout l = stk_expert_layout_of(model, &model->layers[i]);
        uint64_t slot = packed ? l.slot_bytes : l.rooms_bytes;
        bytes = slot > bytes ? slot : bytes;
    }
    return bytes;
}

uint64_t stk_expert_store_slot_bytes(const stk_model *model)
{
    return slot_bytes_of(model, false);
}

uint32_t stk_expert_store_slots_min(const stk_model *model)
{
    // A layer's experts are used one after another if need be; one may load meanwhile.
    return model->expert_used_count + 1;
}

uint64_t stk_store_staging_bytes(const stk_model *model)
{
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < model->layer_count; i++) {
        uint64_t need = stk_expert_layout_of(model, &model->layers[i]).source_bytes;
        bytes = need > bytes ? need : bytes;
    }
    // Each of three slices may begin and end inside a page.
    return (bytes / STK_DIRECT_ALIGN + 3 * 3) * STK_DIRECT_ALIGN;
}

uint64_t stk_expert_store_overhead_bytes(const stk_model *model)
{
    uint64_t entries = (uint64_t)model->layer_count * model->expert_count;
    return STK_STAGING_COUNT * stk_store_staging_bytes(model) +
           entries * (sizeof(stk_entry) + sizeof(stk_expert_places) + 16);
}

uint64_t stk_expert_store_unused_bytes(const stk_expert_store *s)
{
    return s->resident ? 0 : (STK_STAGING_COUNT - s->staging_count) * s->staging_bytes;
}

stk_expert stk_expert_store_shape(const stk_expert_store *store, uint32_t layer)
{
    const stk_expert_layout *l = &store->layouts[layer];
    return (stk_expert){l->gate, l->up, l->down};
}

bool stk_expert_store_is_resident(const stk_expert_store *store)
{
    return store->resident;
}

// ---- open and close ----

static stk_status take_slots(stk_expert_store *s, uint64_t cache_bytes)
{
    uint32_t total = s->model->layer_count * s->model->expert_count;
    uint64_t fit = cache_bytes / s->slot_bytes;
    s->resident = cache_bytes == 0 || fit >= total;
    s->slot_count = s->resident ? total : (uint32_t)fit;
    if (s->resident)
        s->slot_bytes = slot_bytes_of(s->model, true);
    if (!s->resident && s->slot_count < stk_expert_store_slots_min(s->model))
        return stk_fail(s->log, STK_NO_MEMORY,
                        "%.1f MiB hold %u experts of %.2f MiB, at least %u are needed",
                        (double)cache_bytes / 0x1p20, s->slot_count, (double)s->slot_bytes / 0x1p20,
                        stk_expert_store_slots_min(s->model));
    s->slot_limit = s->slots_allowed = s->slots_lent = s->slot_count;
    s->slots_size = s->slot_count * s->slot_bytes;
    s->slots = stk_pages_alloc(s->slots_size);
    if (!s->slots)
        return stk_fail(s->log, STK_NO_MEMORY, "cannot reserve %.2f GiB for the experts",
                        (double)s->slots_size / 0x1p30);
    return STK_OK;
}

// Where every expert lies in its slot: packed, or in rooms, behind as many bytes as a direct read
// brings with it.
static stk_status take_places(stk_expert_store *s)
{
    uint32_t experts = s->model->expert_count, total = s->model->layer_count * experts;
    s->places = malloc(total * sizeof *s->places);
    if (!s->places)
        return STK_NO_MEMORY;
    for (uint32_t index = 0; index < total; index++) {
        uint32_t layer = index / experts;
        const stk_expert_layout *l = &s->layouts[layer];
        s->places[index] = s->in_rooms ? l->rooms : stk_expert_packed_places(l);
        for (int i = 0; i < STK_SLICE_COUNT; i++) {
            stk_expert_slice slice = (stk_expert_slice)i;
            const stk_gguf_tensor *t = stk_expert_slice_tensor(&s->model->layers[layer], slice);
            uint64_t offset = t->offset_bytes + index % experts * (t->size_bytes / experts);
            if (stk_store_in_place(s, layer, slice))
                s->places[index].at[i] += offset % STK_DIRECT_ALIGN;
        }
    }
    return STK_OK;
}

static stk_status take_tables(stk_expert_store *s)
{
    uint32_t total = s->model->layer_count * s->model->expert_count;
    s->entries = calloc(total, sizeof *s->entries);
    s->slot_entry = malloc(s->slot_count * sizeof *s->slot_entry);
    s->staging_bytes = stk_store_staging_bytes(s->model);
    s->staging = stk_pages_alloc(STK_STAGING_COUNT * s->staging_bytes);
    if (!s->entries || !s->slot_entry || !s->staging)
        return STK_NO_MEMORY;
    for (uint32_t i = 0; i < total; i++) {
        s->entries[i].slot = STK_NONE;
        s->entries[i].load = STK_NONE;
    }
    memset(s->slot_entry, 0xff, s->slot_count * sizeof *s->slot_entry);
    for (int i = 0; i < STK_WANT_COUNT; i++)
        s->queues[i] = (stk_queue){UINT32_MAX, UINT32_MAX};
    s->clock.layer_count = s->model->layer_count;
    return STK_OK;
}

static stk_status start_io(stk_expert_store *s, const stk_expert_store_options *options)
{
    int fds[STK_GGUF_FILES_MAX + 1];
    uint32_t count = stk_gguf_file_count(s->gguf);
    for (uint32_t i = 0; i < count; i++)
        fds[i] = stk_model_file_fd(s->file, i);
    if (s->sidecar)
        fds[count++] = stk_sidecar_fd(s->sidecar);
    stk_io_options io = {
        .kind = options->io,
        .inflight_max = options->inflight_max ? options->inflight_max : INFLIGHT_DEFAULT,
        .fds = fds,
        .fd_count = count,
        .source = {stk_store_next_read, stk_store_read_done, stk_store_work, s},
        .log = s->log,
    };
    return stk_io_open(&io, &s->io);
}

static stk_status open_resident(stk_expert_store *s, const stk_expert_store_options *options)
{
    stk_status status = take_places(s);
    return status == STK_OK ? stk_store_load_all(s, options) : status;
}

static stk_status open_streaming(stk_expert_store *s, const stk_expert_store_options *options)
{
    stk_status status = take_tables(s);
    if (status != STK_OK)
        return status;
    if (options->sidecar) {
        status = stk_sidecar_open(options->sidecar, s->gguf, s->model,
                                  stk_model_file_is_direct(s->file), s->log, &s->sidecar);
        if (status == STK_NO_MEMORY)
            return status;
        if (status == STK_OK)
            stk_info(s->log, "%s: packed experts are used", options->sidecar);
        else if (access(options->sidecar, F_OK) == 0)
            stk_warn(s->log, "%s is not used; experts come from the GGUF", options->sidecar);
    }
    s->in_rooms = !s->sidecar;
    bool packs = false;
    for (uint32_t i = 0; i < s->model->layer_count; i++)
        packs |= stk_expert_packs(&s->layouts[i]);
    // A damaged expert of a sidecar is read from the GGUF.
    s->staging_count = s->sidecar ? 1 : packs ? STK_STAGING_COUNT : 0;
    status = take_places(s);
    if (status == STK_OK)
        status = start_io(s, options);
    if (status == STK_OK && options->usage_path) {
        s->usage_path = strdup(options->usage_path);
        if (!s->usage_path)
            return STK_NO_MEMORY;
        stk_store_load_usage(s);
        status = stk_store_warm(s, options->cancel);
    }
    return status;
}

static stk_status unknown_policy(const stk_expert_store *s, const char *name)
{
    char names[256] = "";
    const stk_cache_policy *p;
    for (size_t i = 0, at = 0; (p = stk_cache_policy_at(i)) && at < sizeof names; i++)
        at += (size_t)snprintf(names + at, sizeof names - at, "%s%s", i ? ", " : "", p->name);
    return stk_fail(s->log, STK_INVALID, "no cache policy is called '%s' (%s)", name, names);
}

stk_status stk_expert_store_open(const stk_expert_store_options *options, stk_expert_store **out)
{
    const stk_model *model = options->model;
    stk_expert_store *s = calloc(1, sizeof *s);
    if (!s)
        return STK_NO_MEMORY;
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->arrived, NULL);
    s->gguf = options->gguf;
    s->model = model;
    s->log = options->log;
    s->slot_bytes = stk_expert_store_slot_bytes(model);
    s->layouts = calloc(model->layer_count, sizeof *s->layouts);
    s->policy = stk_cache_policy_find(options->policy);
    stk_status status = STK_NO_MEMORY;
    if (!s->layouts)
        goto err_close;
    for (uint32_t i = 0; i < model->layer_count; i++)
        s->layouts[i] = stk_expert_layout_of(model, &model->layers[i]);
    if (!s->policy) {
        status = unknown_policy(s, options->policy);
        goto err_close;
    }
    status = take_slots(s, options->cache_bytes);
    if (status == STK_OK)
        status = stk_store_divide(s, options->team);
    if (status == STK_OK)
        status = stk_model_file_open(s->gguf, options->direct, s->log, &s->file);
    if (status == STK_OK)
        status = s->resident ? open_resident(s, options) : open_streaming(s, options);
    if (status != STK_OK)
        goto err_close;
    s->stats.slot_count = s->slot_count;
    *out = s;
    return STK_OK;

err_close:
    stk_expert_store_close(&s);
    return status;
}

void stk_expert_store_close(stk_expert_store **store)
{
    stk_expert_store *s = *store;
    if (!s)
        return;
    stk_io_close(&s->io);
    if (s->usage_path)
        stk_store_save_usage(s);
    free(s->usage_path);
    stk_sidecar_close(&s->sidecar);
    stk_model_file_close(&s->file);
    stk_pages_free(s->staging, STK_STAGING_COUNT * s->staging_bytes);
    stk_pages_free(s->slots, s->slots_size);
    free(s->slot_at);
    free(s->node_of);
    free(s->places);
    free(s->slot_entry);
    free(s->entries);
    free(s->layouts);
    pthread_cond_destroy(&s->arrived);
    pthread_mutex_destroy(&s->lock);
    free(s);
    *store = NULL;
}

stk_expert_store_stats stk_expert_store_get_stats(stk_expert_store *s)
{
    pthread_mutex_lock(&s->lock);
    stk_store_count_busy(s);
    stk_expert_store_stats stats = s->stats;
    stats.slot_count = s->slot_limit;
    stats.slots_used = s->slots_used < s->slot_limit ? s->slots_used : s->slot_limit;
    pthread_mutex_unlock(&s->lock);
    return stats;
}

stk_expert_store_stats stk_expert_store_stats_between(const stk_expert_store_stats *before,
                                                      const stk_expert_store_stats *after)
{
    stk_expert_store_stats s = *after;
    s.wanted -= before->wanted;
    s.hits -= before->hits;
    s.reads -= before->reads;
    s.read_bytes -= before->read_bytes;
    s.speculative -= before->speculative;
    s.speculative_used -= before->speculative_used;
    s.evictions -= before->evictions;
    s.wait_ns -= before->wait_ns;
    s.busy_ns -= before->busy_ns;
    s.flight_ns -= before->flight_ns;
    s.bursts -= before->bursts;
    s.pack_ns -= before->pack_ns;
    return s;
}

void stk_expert_store_reset_stats(stk_expert_store *s)
{
    pthread_mutex_lock(&s->lock);
    s->stats = (stk_expert_store_stats){.slot_count = s->slot_count};
    s->counted_ns = stk_store_now_ns();
    pthread_mutex_unlock(&s->lock);
}

uint64_t stk_expert_store_bytes(const stk_expert_store *s)
{
    return s->resident ? s->slots_size
                       : s->slot_limit * s->slot_bytes + s->staging_count * s->staging_bytes;
}

const char *stk_expert_store_io_name(const stk_expert_store *s)
{
    return s->io ? stk_io_name(s->io) : "none";
}
