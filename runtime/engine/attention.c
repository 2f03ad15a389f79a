// Rotary positions, the KV cache and attention over it.
#include "engine/engine_impl.h"

#include <math.h>

enum { HEADS_MAX = 1024 }; // query heads, checked when the model is loaded

static uint16_t *kv_at(const stk_session *s, const stk_kv_layer *kv, uint16_t *base,
                       uint32_t sequence, uint32_t head, uint32_t position)
{
    const stk_model *m = &s->engine->model;
    size_t head_index = (size_t)sequence * m->kv_head_count + head;
    return base + (head_index * kv->capacity_tokens + position % kv->capacity_tokens) * m->head_dim;
}

static void rotate(float *x, uint32_t half, const float *cosines, const float *sines)
{
    for (uint32_t i = 0; i < half; i++) {
        float a = x[i], b = x[i + half];
        float ac = a * cosines[i], bs = b * sines[i];
        float bc = b * cosines[i], as = a * sines[i];
        x[i] = ac - bs;
        x[i + half] = bc + as;
    }
}

// Rotates the row's queries and keys and appends its keys and values to the cache.
void stk_attention_prepare_row(stk_session *s, uint32_t layer, uint32_t row)
{
    const stk_model *m = &s->engine->model;
    const stk_row *r = &s->rows[row];
    uint32_t dim = m->head_dim, half = m->rope_dim / 2;
    float *q = s->q + (size_t)row * m->head_count * dim;
    float *k = s->k + (size_t)row * m->kv_head_count * dim;
    const float *v = s->v + (size_t)row * m->kv_head_count * dim;
    if (m->layers[layer].has_rope) {
        const float *cosines = s->rope + (size_t)row * m->rope_dim, *sines = cosines + half;
        for (uint32_t h = 0; h < m->head_count; h++)
            rotate(q + (size_t)h * dim, half, cosines, sines);
        for (uint32_t h = 0; h < m->kv_head_count; h++)
            rotate(k + (size_t)h * dim, half, cosines, sines);
    }
    const stk_kv_layer *kv = &s->kv[layer];
    stk_to_half_fn to_half = s->engine->cpu.to_half;
    for (uint32_t h = 0; h < m->kv_head_count; h++) {
        to_half(k + (size_t)h * dim, dim, kv_at(s, kv, kv->k, r->sequence, h, r->position));
        to_half(v + (size_t)h * dim, dim, kv_at(s, kv, kv->v, r->sequence, h, r->position));
    }
}

// Query heads of one KV head of one row over everything the row may see.
static void attend(stk_session *s, const stk_expert_scratch *scratch, uint32_t layer, uint32_t row,
                   uint32_t kv_head)
{
    const stk_model *m = &s->engine->model;
    const stk_cpu *cpu = &s->engine->cpu;
    const stk_row *r = &s->rows[row];
    const stk_kv_layer *kv = &s->kv[layer];
    uint32_t dim = m->head_dim, heads = m->head_count / m->kv_head_count;
    uint32_t window = m->layers[layer].window_tokens;
    uint32_t end = r->position + 1, begin = window != 0 && end > window ? end - window : 0;
    const float *q = s->q + ((size_t)row * m->head_count + (size_t)kv_head * heads) * dim;
    float *out = s->attended.x + ((size_t)row * m->head_count + (size_t)kv_head * heads) * dim;
    float scale = 1.0f / sqrtf((float)dim);
    stk_attend_state total[HEADS_MAX], part[HEADS_MAX];
    for (uint32_t h = 0; h < heads; h++) {
        total[h].o = out + (size_t)h * dim;
        part[h].o = scratch->attend_o + (size_t)h * dim;
    }
    for (uint32_t at = begin; at < end;) {
        uint32_t segment = at / STK_SEGMENT_TOKENS * STK_SEGMENT_TOKENS;
        uint32_t stop = end - segment < STK_SEGMENT_TOKENS ? end - segment : STK_SEGMENT_TOKENS;
        const uint16_t *k = kv_at(s, kv, kv->k, r->sequence, kv_head, segment);
        const uint16_t *v = kv_at(s, kv, kv->v, r->sequence, kv_head, segment);
        int first = at == begin;
        cpu->attend(q, heads, dim, k, v, at - segment, stop, scale, first ? total : part);
        for (uint32_t h = 0; h < heads && !first; h++)
            cpu->attend_merge(&total[h], &part[h], dim);
        at = segment + STK_SEGMENT_TOKENS;
    }
    for (uint32_t h = 0; h < heads; h++) {
        float inverse = 1.0f / total[h].l;
        for (uint32_t i = 0; i < dim; i++)
            total[h].o[i] = total[h].o[i] * inverse;
    }
}

void stk_attention_worker(stk_session *s, stk_worker *worker, uint32_t layer)
{
    uint32_t kv_heads = s->engine->model.kv_head_count, task, end;
    while (stk_worker_take(worker, s->row_count * kv_heads, 1, &task, &end))
        attend(s, &s->workers[worker->index], layer, task / kv_heads, task % kv_heads);
}
