// The sparse ReGLU experts: gate for every neuron, up and down for those the gate left active.
//
// docs/arithmetic.md section 4 sums an expert in four parts, so a few rows (decode) are shared out
// as (row, expert, part) and many rows (prefill) as whole experts, with the same bits.
#include "engine/engine_impl.h"

#include <string.h>

static uint32_t part_begin(uint32_t groups, uint32_t part)
{
    return groups * part / STK_EXPERT_PARTS;
}

// Fills scratch->h and the list of active neurons over groups [begin, end) from their gates.
static void find_active(const stk_expert_scratch *w, const float *gate, uint32_t begin,
                        uint32_t end)
{
    uint32_t count = 0;
    for (uint32_t g = begin; g < end; g++) {
        w->first[g] = count;
        for (uint32_t j = 32 * g; j < 32 * g + 32; j++)
            if (gate[j - 32 * begin] > 0)
                w->active[count++] = j;
    }
    w->first[end] = count;
}

// One part of one expert for one row, whose gates of that part are given: y[width padded].
static void run_part(const stk_session *s, uint32_t layer, const stk_expert *expert,
                     const stk_expert_scratch *w, const stk_act *act, const float *gate,
                     uint32_t begin, uint32_t end, float *y)
{
    const stk_expert_kernels *kernels = &s->engine->expert_kernels[layer];
    find_active(w, gate, begin, end);
    uint32_t count = w->first[end];
    kernels->up(&expert->up, w->active, count, act, w->up);
    memset(w->h + 32 * begin, 0, (end - begin) * 32 * sizeof *w->h);
    for (uint32_t a = 0; a < count; a++) {
        uint32_t j = w->active[a];
        w->h[j] = gate[j - 32 * begin] * w->up[a];
    }
    s->engine->cpu.quantize(w->h + 32 * begin, (end - begin) * 32, w->q + 32 * begin, w->d + begin,
                            w->sum + begin);
    stk_neurons n = {w->h, w->q, w->d, w->sum, w->active, w->first};
    memset(y, 0, s->width_padded * sizeof *y);
    kernels->down(&expert->down, &n, begin, end, y);
}

static void run_split(stk_session *s, const stk_expert_scratch *w, uint32_t layer, uint32_t task)
{
    const stk_model *m = &s->engine->model;
    uint32_t pair = task / STK_EXPERT_PARTS, part = task % STK_EXPERT_PARTS;
    uint32_t groups = m->ffn_width / 32;
    uint32_t begin = part_begin(groups, part), end = part_begin(groups, part + 1);
    const stk_act *act = &s->normed.rows[pair / m->expert_used_count];
    stk_expert expert = stk_expert_store_get(s->engine->store, layer, s->chosen[pair]);
    s->engine->expert_kernels[layer].gate(&expert.gate, 32 * begin, 32 * end, act, 1, w->gate,
                                          m->ffn_width);
    run_part(s, layer, &expert, w, act, w->gate, begin, end,
             s->part_outputs + (size_t)task * s->width_padded);
    stk_meter_active(s, w, layer, s->chosen[pair], begin, end);
}

// All rows of one expert, STK_EXPERT_TILE at a time.
static void run_whole(stk_session *s, const stk_expert_scratch *w, uint32_t layer, uint32_t e)
{
    const stk_model *m = &s->engine->model;
    uint32_t groups = m->ffn_width / 32;
    stk_expert expert = stk_expert_store_get(s->engine->store, layer, e);
    for (uint32_t at = s->expert_first[e]; at < s->expert_first[e + 1]; at += STK_EXPERT_TILE) {
        uint32_t count = s->expert_first[e + 1] - at;
        count = count < STK_EXPERT_TILE ? count : STK_EXPERT_TILE;
        const uint32_t *pairs = s->expert_pairs + at;
        for (uint32_t t = 0; t < count; t++)
            w->acts[t] = s->normed.rows[pairs[t] / m->expert_used_count];
        s->engine->expert_kernels[layer].gate(&expert.gate, 0, m->ffn_width, w->acts, count,
                                              w->gate, m->ffn_width);
        for (uint32_t t = 0; t < count; t++) {
            for (uint32_t part = 0; part < STK_EXPERT_PARTS; part++) {
                uint32_t begin = part_begin(groups, part), end = part_begin(groups, part + 1);
                run_part(s, layer, &expert, w, &w->acts[t],
                         w->gate + (size_t)t * m->ffn_width + 32 * begin, begin, end,
                         w->parts + (size_t)part * s->width_padded);
                stk_meter_active(s, w, layer, e, begin, end);
            }
            s->engine->cpu.sum_parts(w->parts, s->width_padded, m->width,
                                     s->expert_outputs + (size_t)pairs[t] * s->width_padded);
        }
    }
}

void stk_experts_worker(stk_session *s, stk_worker *worker, uint32_t layer)
{
    const stk_model *m = &s->engine->model;
    const stk_expert_scratch *w = &s->workers[worker->index];
    uint32_t pairs = s->row_count * m->expert_used_count, task, end;
    if (pairs <= STK_PAIRS_SPLIT_MAX) {
        while (stk_worker_take(worker, pairs * STK_EXPERT_PARTS, 1, &task, &end))
            run_split(s, w, layer, task);
        return;
    }
    while (stk_worker_take(worker, m->expert_count, 1, &task, &end))
        run_whole(s, w, layer, task);
}

// Adds the row's experts to its residual stream, in rank order.
void stk_experts_combine_row(stk_session *s, uint32_t row)
{
    const stk_model *m = &s->engine->model;
    const stk_cpu *cpu = &s->engine->cpu;
    uint32_t used = m->expert_used_count;
    const float *outputs[STK_EXPERTS_USED_MAX];
    for (uint32_t k = 0; k < used; k++) {
        size_t pair = (size_t)row * used + k;
        float *out = s->expert_outputs + pair * s->width_padded;
        if (s->row_count * used <= STK_PAIRS_SPLIT_MAX)
            cpu->sum_parts(s->part_outputs + pair * STK_EXPERT_PARTS * s->width_padded,
                           s->width_padded, m->width, out);
        outputs[k] = out;
    }
    cpu->combine(s->x + (size_t)row * m->width, outputs, s->chosen_weights + (size_t)row * used,
                 used, m->width);
}
