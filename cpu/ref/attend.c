#include "cpu/ref/ref.h"

#include <string.h>

#include "cpu/math.h"

static float score(const float *q, const uint16_t *k, uint32_t head_dim, float scale)
{
    float a[16] = {0};
    for (uint32_t i = 0; i < head_dim; i++)
        a[i % 16] = fmaf(q[i], stk_half_to_float(k[i]), a[i % 16]);
    return stk_halve(a, 16) * scale;
}

static void attend_query(stk_attend_query *query, uint32_t head_dim,
                         const stk_attend_segment *segment, float scale)
{
    const uint16_t *k = segment->k, *v = segment->v;
    stk_attend_state *state = &query->state;
    uint32_t begin = query->begin, end = query->end;
    float p[STK_SEGMENT_TOKENS], a[16] = {0};
    float m = -INFINITY;
    for (uint32_t j = begin; j < end; j++) {
        p[j] = score(query->q, k + (size_t)j * head_dim, head_dim, scale);
        m = p[j] > m ? p[j] : m;
    }
    memset(state->o, 0, head_dim * sizeof *state->o);
    for (uint32_t j = begin; j < end; j++) {
        p[j] = stk_exp(p[j] - m);
        a[j % 16] = a[j % 16] + p[j];
        for (uint32_t i = 0; i < head_dim; i++) {
            float value = stk_half_to_float(v[(size_t)j * head_dim + i]);
            state->o[i] = fmaf(p[j], value, state->o[i]);
        }
    }
    state->m = m;
    state->l = stk_halve(a, 16);
}

void stk_attend_ref(stk_attend_query *queries, uint32_t count, uint32_t head_dim,
                    const stk_attend_segment *segment, float scale)
{
    for (uint32_t i = 0; i < count; i++)
        attend_query(&queries[i], head_dim, segment, scale);
}

void stk_attend_merge_ref(stk_attend_state *into, const stk_attend_state *segment,
                          uint32_t head_dim)
{
    float m = into->m > segment->m ? into->m : segment->m;
    float a = stk_exp(into->m - m), b = stk_exp(segment->m - m);
    float from_into = into->l * a, from_segment = segment->l * b;
    into->l = from_into + from_segment;
    for (uint32_t i = 0; i < head_dim; i++) {
        float kept = into->o[i] * a, added = segment->o[i] * b;
        into->o[i] = kept + added;
    }
    into->m = m;
}
