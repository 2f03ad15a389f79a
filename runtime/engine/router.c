// Which experts a row uses: known from the raw residual stream, before attention.
#include "engine/engine_impl.h"

#include "cpu/math.h"

// The largest logits first, the lower id first among equals; NaN never beats a number.
void stk_choose_experts(const float *logits, uint32_t count, uint32_t used, uint32_t *chosen)
{
    for (uint32_t k = 0; k < used; k++) {
        uint32_t best = UINT32_MAX;
        for (uint32_t e = 0; e < count; e++) {
            int taken = 0;
            for (uint32_t j = 0; j < k; j++)
                taken |= chosen[j] == e;
            if (!taken && (best == UINT32_MAX || logits[e] > logits[best] ||
                           (isnan(logits[best]) && !isnan(logits[e]))))
                best = e;
        }
        chosen[k] = best;
    }
}

void stk_weigh_experts(const float *logits, const uint32_t *chosen, uint32_t used,
                       stk_gating gating, float *weights)
{
    float sum = 0;
    for (uint32_t k = 0; k < used; k++) {
        float logit = logits[chosen[k]];
        weights[k] = gating == STK_GATING_SIGMOID ? 1.0f / (1.0f + stk_exp(-logit))
                                                  : stk_exp(logit - logits[chosen[0]]);
        sum = sum + weights[k];
    }
    for (uint32_t k = 0; k < used; k++)
        weights[k] = weights[k] / sum;
}

void stk_route_row(stk_session *s, uint32_t layer, uint32_t row)
{
    (void)layer;
    const stk_model *m = &s->engine->model;
    uint32_t used = m->expert_used_count;
    const float *logits = s->router_logits + (size_t)row * ((m->expert_count + 15) / 16 * 16);
    uint32_t *chosen = s->chosen + (size_t)row * used;
    stk_choose_experts(logits, m->expert_count, used, chosen);
    stk_weigh_experts(logits, chosen, used, m->gating, s->chosen_weights + (size_t)row * used);
}

// Lists the batch's (row, rank) pairs by expert, rows in rising order.
void stk_group_pairs(stk_session *s)
{
    const stk_model *m = &s->engine->model;
    uint32_t pairs = s->row_count * m->expert_used_count;
    uint32_t *first = s->expert_first;
    for (uint32_t e = 0; e <= m->expert_count; e++)
        first[e] = 0;
    for (uint32_t p = 0; p < pairs; p++)
        first[s->chosen[p] + 1]++;
    for (uint32_t e = 0; e < m->expert_count; e++)
        first[e + 1] += first[e];
    for (uint32_t p = 0; p < pairs; p++)
        s->expert_pairs[first[s->chosen[p]]++] = p;
    for (uint32_t e = m->expert_count; e > 0; e--) // filling moved every start to its end
        first[e] = first[e - 1];
    first[0] = 0;
}
