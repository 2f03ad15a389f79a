// The KV cache in host memory.
#include "engine/engine_impl.h"

#include <stdlib.h>

#include "base/pages.h"

uint32_t stk_session_kv_capacity(const stk_session *s, const stk_layer *layer)
{
    uint64_t window = layer->window_tokens, need = s->context_tokens;
    // A batch is written before its first row attends, so the ring holds both.
    if (window != 0 && !s->full_kv && window + s->batch_rows_max < need)
        need = window + s->batch_rows_max;
    return (uint32_t)((need + STK_SEGMENT_TOKENS - 1) / STK_SEGMENT_TOKENS * STK_SEGMENT_TOKENS);
}

uint64_t stk_session_kv_layer_bytes(const stk_session *s, const stk_layer *layer)
{
    const stk_model *m = &s->engine->model;
    uint64_t per_token = (uint64_t)s->sequence_count * m->kv_head_count * m->head_dim;
    return 2 * per_token * stk_session_kv_capacity(s, layer) * sizeof(uint16_t);
}

stk_status stk_session_take_kv_table(stk_session *s)
{
    const stk_model *m = &s->engine->model;
    s->kv = calloc(m->layer_count, sizeof *s->kv);
    if (!s->kv)
        return STK_NO_MEMORY;
    for (uint32_t i = 0; i < m->layer_count; i++) {
        s->kv_bytes += stk_session_kv_layer_bytes(s, &s->engine->model.layers[i]);
        s->kv[i].capacity_tokens = stk_session_kv_capacity(s, &m->layers[i]);
    }
    return STK_OK;
}

static bool needs_pages(const stk_session *s, uint32_t layer)
{
    return !s->kv[layer].k && !(s->stream && stk_gpu_share_has(&s->engine->share, layer));
}

// A layer after the other, each [k, v][sequence][head][segment]: a memory node's heads lie
// together, and so do a sequence's pages, which stk_spare_forget gives back.
static void lay_out_by_layer(stk_session *s, uint8_t *at)
{
    const stk_model *m = &s->engine->model;
    for (uint32_t i = 0; i < m->layer_count; i++) {
        stk_kv_layer *kv = &s->kv[i];
        uint64_t bytes = stk_session_kv_layer_bytes(s, &m->layers[i]);
        if (!needs_pages(s, i))
            continue;
        kv->k = (uint16_t *)(void *)at;
        kv->v = (uint16_t *)(void *)(at + bytes / 2);
        kv->segment_stride = (size_t)STK_SEGMENT_TOKENS * m->head_dim;
        kv->head_stride = (size_t)kv->capacity_tokens * m->head_dim;
        kv->sequence_stride = m->kv_head_count * kv->head_stride;
        at += bytes;
    }
}

// [sequence][segment][layer][k, v][head] for all layers of one capacity: a short text touches the
// huge pages of its own segments and not one per layer and head.
static uint8_t *lay_out_by_segment(stk_session *s, uint32_t capacity, uint8_t *at)
{
    const stk_model *m = &s->engine->model;
    size_t block = (size_t)STK_SEGMENT_TOKENS * m->head_dim, half = m->kv_head_count * block;
    size_t layers = 0, index = 0;
    for (uint32_t i = 0; i < m->layer_count; i++)
        layers += needs_pages(s, i) && s->kv[i].capacity_tokens == capacity;
    size_t sequence = layers * 2 * half * (capacity / STK_SEGMENT_TOKENS);
    uint16_t *first = (uint16_t *)(void *)at;
    for (uint32_t i = 0; index < layers; i++) {
        stk_kv_layer *kv = &s->kv[i];
        if (!needs_pages(s, i) || kv->capacity_tokens != capacity)
            continue;
        kv->k = first + index++ * 2 * half;
        kv->v = kv->k + half;
        kv->head_stride = block;
        kv->segment_stride = layers * 2 * half;
        kv->sequence_stride = sequence;
    }
    return at + s->sequence_count * sequence * sizeof *first;
}

static void lay_out(stk_session *s, uint8_t *at)
{
    // Small pages, where experts lie on disk, and nodes have a different need.
    if (!stk_expert_store_is_resident(s->engine->store) || stk_engine_node_count(s->engine) > 1) {
        lay_out_by_layer(s, at);
        return;
    }
    for (uint32_t i = 0; i < s->engine->model.layer_count; i++)
        if (needs_pages(s, i))
            at = lay_out_by_segment(s, s->kv[i].capacity_tokens, at);
}

stk_status stk_session_take_kv_pages(stk_session *s, stk_pages *pages)
{
    uint32_t layer_count = s->engine->model.layer_count;
    uint64_t wanted = 0;
    for (uint32_t i = 0; i < layer_count; i++)
        wanted += needs_pages(s, i) ? stk_session_kv_layer_bytes(s, &s->engine->model.layers[i])
                                    : 0;
    if (wanted == 0)
        return STK_OK;
    uint8_t *at = stk_session_take_pages(s, wanted);
    if (!at)
        return stk_fail(s->engine->log, STK_NO_MEMORY,
                        "cannot reserve %.2f GiB of KV cache for %u tokens; use a smaller --ctx",
                        (double)wanted / 0x1p30, s->context_tokens);
    *pages = (stk_pages){at, wanted};
    lay_out(s, at);
    stk_attention_place(s);
    return STK_OK;
}
