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

// A jump to a page of memory that was not read lately costs as much as reading some 20 KB
// (bench/2026-11-22-xeon.md), so a head's segments lie in runs. Runs grow with the text, so that a
// short one touches few pages: one segment, another, then 2, 4 and always 8.
enum { RUN_SEGMENTS_MAX = 8 };

// The first segment of the run that holds `segment`.
static uint32_t run_begin(uint32_t segment)
{
    uint32_t first = segment > 0 ? 1 : 0;
    if (segment >= RUN_SEGMENTS_MAX)
        return segment / RUN_SEGMENTS_MAX * RUN_SEGMENTS_MAX;
    while (2 * first <= segment && first > 0)
        first *= 2;
    return first;
}

// The same, where runs grow; how many segments the run has to *count.
static uint32_t run_of(const stk_kv_layer *kv, uint32_t segment, uint32_t *count)
{
    uint32_t all = kv->capacity_tokens / STK_SEGMENT_TOKENS, first = 0;
    *count = all;
    if (!kv->runs_grow)
        return 0;
    first = run_begin(segment);
    *count = first == 0 ? 1 : first < RUN_SEGMENTS_MAX ? first : RUN_SEGMENTS_MAX;
    if (*count > all - first)
        *count = all - first;
    return first;
}

// Where a row was the first in a run of its sequence, every page of that run has been touched.
void stk_session_gather_kv(const stk_session *s)
{
    bool begins = false;
    for (uint32_t i = 0; i < s->row_count; i++) {
        uint32_t position = s->rows[i].position, segment = position / STK_SEGMENT_TOKENS;
        begins |= position % STK_SEGMENT_TOKENS == 0 && run_begin(segment) == segment;
    }
    if (begins && stk_expert_store_is_resident(s->engine->store)) {
        stk_pages_gather(s->kv_pages.start, s->kv_pages.bytes);
        stk_pages_gather(s->kv_again.start, s->kv_again.bytes);
    }
}

uint16_t *stk_session_kv_at(const stk_session *s, const stk_kv_layer *kv, uint16_t *base,
                            uint32_t sequence, uint32_t head, uint32_t position)
{
    uint32_t at = position % kv->capacity_tokens, segment = at / STK_SEGMENT_TOKENS, count;
    uint32_t first = run_of(kv, segment, &count);
    // The runs of all heads before, of which `first` segments each, then those in this run.
    size_t index = (size_t)first * kv->heads_together + (size_t)(kv->heads_before + head) * count +
                   (segment - first);
    return base + sequence * kv->sequence_stride + index * kv->segment_stride +
           at % STK_SEGMENT_TOKENS * (size_t)s->engine->model.head_dim;
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
        kv->heads_together = m->kv_head_count;
        kv->sequence_stride = (size_t)m->kv_head_count * kv->capacity_tokens * m->head_dim;
        at += bytes;
    }
}

// [sequence][run][layer][head][segment][k, v] for all layers of one capacity.
static uint8_t *lay_out_by_run(stk_session *s, uint32_t capacity, uint8_t *at)
{
    const stk_model *m = &s->engine->model;
    size_t block = (size_t)STK_SEGMENT_TOKENS * m->head_dim;
    uint32_t heads = 0, before = 0;
    for (uint32_t i = 0; i < m->layer_count; i++)
        if (needs_pages(s, i) && s->kv[i].capacity_tokens == capacity)
            heads += m->kv_head_count;
    size_t sequence = heads * 2 * block * (capacity / STK_SEGMENT_TOKENS);
    for (uint32_t i = 0; before < heads; i++) {
        stk_kv_layer *kv = &s->kv[i];
        if (!needs_pages(s, i) || kv->capacity_tokens != capacity)
            continue;
        kv->k = (uint16_t *)(void *)at;
        kv->v = kv->k + block;
        kv->segment_stride = 2 * block;
        kv->heads_before = before;
        kv->heads_together = heads;
        kv->sequence_stride = sequence;
        kv->runs_grow = true;
        before += m->kv_head_count;
    }
    return at + s->sequence_count * sequence * sizeof(uint16_t);
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
            at = lay_out_by_run(s, s->kv[i].capacity_tokens, at);
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
