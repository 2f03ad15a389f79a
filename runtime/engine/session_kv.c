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
    for (uint32_t i = 0; i < layer_count; i++) {
        uint64_t bytes = stk_session_kv_layer_bytes(s, &s->engine->model.layers[i]);
        if (!needs_pages(s, i))
            continue;
        s->kv[i].k = (uint16_t *)(void *)at;
        s->kv[i].v = (uint16_t *)(void *)(at + bytes / 2);
        at += bytes;
    }
    stk_attention_place(s);
    return STK_OK;
}
