// Experts that layers ahead will probably want, asked for while the disk has nothing better to do.
//
// Routers read the residual stream raw, and a layer changes it little, so those of the next layers
// can be asked now. Of a long prompt some rows speak for all.
#include "engine/engine_impl.h"

#include <string.h>

enum { ROWS_ASKED = 64 };

// A guess counts only if its logit is clear of the first that would not be chosen, by this part of
// the best one's lead. On the 4B shape 3 of 4 wrong guesses go, and 1 of 5 right ones.
static const float MARGIN = 0.15f;

// Marks row's likely experts of a layer, at most `ranks`.
static void mark_likely(stk_session *s, uint32_t layer, uint32_t row, uint32_t ranks,
                        uint8_t *marks)
{
    const stk_model *m = &s->engine->model;
    const stk_linear *router = &s->engine->weights.layers[layer].router;
    uint32_t chosen[STK_EXPERTS_USED_MAX + 1], used = m->expert_used_count;
    float *logits = s->guess_logits;
    if (used >= m->expert_count) {
        memset(marks, 1, m->expert_count);
        return;
    }
    stk_linear_multiply(router, s->x_acts + row, 1, logits, m->expert_count);
    stk_choose_experts(logits, m->expert_count, used + 1, chosen);
    float cut = logits[chosen[used]], lead = logits[chosen[0]] - cut;
    for (uint32_t k = 0; k < used && k < ranks; k++)
        marks[chosen[k]] |= logits[chosen[k]] - cut >= MARGIN * lead;
}

static void guess_layer(stk_session *s, uint32_t layer, uint32_t ranks)
{
    const stk_model *m = &s->engine->model;
    uint32_t *ids = s->work_ids + m->expert_count, count = 0;
    uint8_t *marks = s->guess_marks;
    uint32_t step = (s->row_count + ROWS_ASKED - 1) / ROWS_ASKED;
    memset(marks, 0, m->expert_count);
    for (uint32_t row = 0; row < s->row_count; row += step)
        mark_likely(s, layer, row, ranks, marks);
    for (uint32_t e = 0; e < m->expert_count; e++)
        if (marks[e] && !stk_gpu_has(s->engine->gpu, layer, e))
            ids[count++] = e;
    stk_expert_store_want(s->engine->store, layer, ids, NULL, NULL, count, STK_WANT_SPECULATIVE);
}

void stk_experts_guess(stk_session *s, uint32_t layer)
{
    const stk_engine *e = s->engine;
    const stk_model *m = &e->model;
    if (stk_expert_store_is_resident(e->store))
        return;
    for (uint32_t ahead = 1; ahead <= e->guess_layers && layer + ahead < m->layer_count; ahead++) {
        // The further ahead, the fewer: only the first ranks stay likely.
        uint32_t used = m->expert_used_count;
        guess_layer(s, layer + ahead, used > ahead - 1 ? used - (ahead - 1) : 1);
    }
}
