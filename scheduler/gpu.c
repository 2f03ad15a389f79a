// GPUs in plans: what they take and how long it takes them. docs/scheduler.md.
#include "scheduler/cost_impl.h"

#include <math.h>

// Attention is computed in floats, one where the integer dot product does four.
static const double FLOAT_SHARE = 0.25;
static const double OPERAND_BYTES = 1.25, RESULT_BYTES = 4; // of a row's element, over the link

// ---- costs ----

stk_plan_gpu_experts_cost stk_plan_gpu_experts(const stk_cost_pass *c)
{
    const stk_plan_model *m = c->model;
    stk_plan_gpu_experts_cost cost = {0};
    for (uint32_t g = 0; g < c->machine->gpu_count; g++) {
        const stk_plan_gpu *gpu = &c->machine->gpus[g];
        double first = cost.count, to = first + c->choices->gpu_experts[g];
        if (c->choices->gpu_experts[g] == 0)
            continue;
        double touched = stk_skew_touched(&m->skew, first, to, (uint32_t)c->rows);
        double pairs = c->rows * m->layer_count * m->expert_used_count *
                       stk_skew_share(&m->skew, first, to);
        double active = c->rows * m->expert_used_count > STK_COST_PAIRS_FEW ? 1
                                                                            : m->active_fraction;
        double bytes = touched *
                       ((double)m->gate_bytes + active * (double)(m->up_bytes + m->down_bytes));
        double macs = pairs * (double)m->ffn_width * m->width * (1 + 2 * active);
        double moved = m->width * (c->rows * m->layer_count * OPERAND_BYTES + pairs * RESULT_BYTES);
        double seconds = fmax(bytes / gpu->read_bytes_per_s, macs / gpu->operations_per_s) +
                         m->layer_count * gpu->submit_s + moved / gpu->link_bytes_per_s;
        cost.stolen_s += gpu->is_software ? seconds : 0;
        cost.seconds = gpu->is_software ? cost.seconds : fmax(cost.seconds, seconds);
        cost.shared_bytes += gpu->is_integrated ? bytes : 0;
        cost.count = to;
    }
    return cost;
}

// Adds the GPU's part of a stage, after the cores' part of it.
static void add(const stk_cost_pass *c, stk_stage stage, double bytes, double macs, double other_s)
{
    const stk_plan_gpu *gpu = &c->machine->gpus[0];
    stk_plan_stage *s = &c->out->stages[stage];
    double seconds = fmax(bytes / gpu->read_bytes_per_s, macs / gpu->operations_per_s) + other_s;
    s->limit = seconds > s->seconds ? STK_LIMIT_GPU : s->limit;
    s->seconds += seconds;
}

void stk_plan_gpu_dense_add(const stk_cost_pass *c, double seen)
{
    const stk_plan_model *m = c->model;
    const stk_plan_gpu *gpu = &c->machine->gpus[0];
    double layers = c->choices->gpu_layers, here = layers / m->layer_count;
    if (layers > 0) {
        // The residual stream goes there and comes back.
        double moved = layers * c->rows * m->width * 2 * RESULT_BYTES;
        add(c, STK_STAGE_PROJECT, layers * (double)m->attention_bytes,
            c->rows * layers * (double)m->attention_macs,
            layers * gpu->submit_s + moved / gpu->link_bytes_per_s);
        add(c, STK_STAGE_ATTEND, here * seen * m->kv_position_bytes,
            c->rows * here * seen * (double)m->attend_macs / FLOAT_SHARE, 0);
    }
    if (c->choices->gpu_head)
        add(c, STK_STAGE_HEAD, (double)m->head_bytes, (double)m->head_macs, gpu->submit_s);
}

// ---- places ----

static bool is_usable(const stk_plan_machine *machine, const stk_plan_wishes *w, uint32_t g)
{
    return g < w->gpu_count && g < machine->gpu_count;
}

static uint64_t memory_of(const stk_plan_machine *machine, const stk_plan_wishes *w, uint32_t g)
{
    uint64_t bytes = machine->gpus[g].memory_bytes;
    return w->gpu_memory_bytes && w->gpu_memory_bytes < bytes ? w->gpu_memory_bytes : bytes;
}

uint64_t stk_plan_gpu_dense_bytes(const stk_plan_model *m, const stk_plan_choices *c)
{
    double keys = stk_cost_positions(m, m->context_tokens) * m->kv_position_bytes;
    uint64_t bytes = c->gpu_layers * (m->attention_bytes + (uint64_t)(keys / m->layer_count)) +
                     (c->gpu_head ? m->head_bytes : 0);
    return bytes ? bytes + c->batch_rows * m->session_row_bytes : 0;
}

uint32_t stk_plan_gpu_dense_steps(const stk_plan_machine *machine, const stk_plan_wishes *w)
{
    return is_usable(machine, w, 0) && w->gpu_layers == STK_PLAN_OPEN ? STK_PLAN_GPU_DENSE_STEPS
                                                                      : 0;
}

uint32_t stk_plan_gpu_expert_steps(const stk_plan_machine *machine, const stk_plan_wishes *w)
{
    return is_usable(machine, w, 0) && w->gpu_percent == STK_PLAN_OPEN ? STK_PLAN_GPU_EXPERT_STEPS
                                                                       : 0;
}

// As many of the wanted layers as fit; the head with all of them, or as is wished.
static void place_dense(const stk_plan_machine *machine, const stk_plan_model *m,
                        const stk_plan_wishes *w, uint32_t step, stk_plan_choices *c)
{
    uint32_t open = m->layer_count * step / STK_PLAN_GPU_DENSE_STEPS;
    uint32_t wanted = w->gpu_layers == STK_PLAN_OPEN ? open : w->gpu_layers;
    uint64_t memory = memory_of(machine, w, 0);
    wanted = wanted < m->layer_count ? wanted : m->layer_count;
    c->gpu_head = w->gpu_head == STK_PLAN_OPEN ? wanted == m->layer_count : w->gpu_head != 0;
    for (c->gpu_layers = wanted; stk_plan_gpu_dense_bytes(m, c) > memory; c->gpu_layers--) {
        if (c->gpu_layers > 0)
            continue;
        c->gpu_head = 0;
        break;
    }
    if (w->gpu_head == STK_PLAN_OPEN && c->gpu_layers < m->layer_count)
        c->gpu_head = 0;
}

void stk_plan_gpu_place(const stk_plan_machine *machine, const stk_plan_model *m,
                        const stk_plan_wishes *w, uint32_t dense_step, uint32_t expert_step,
                        stk_plan_choices *c)
{
    uint32_t all = m->layer_count * m->expert_count, left = all;
    if (is_usable(machine, w, 0))
        place_dense(machine, m, w, dense_step, c);
    for (uint32_t g = 0; g < STK_PLAN_GPUS_MAX; g++) {
        c->gpu_experts[g] = 0;
        if (!is_usable(machine, w, g))
            continue;
        uint64_t taken = g == 0 ? stk_plan_gpu_dense_bytes(m, c) : 0;
        uint64_t room = (memory_of(machine, w, g) - taken) / m->slot_bytes;
        uint64_t wanted = w->gpu_percent == STK_PLAN_OPEN
                              ? (uint64_t)all * expert_step / STK_PLAN_GPU_EXPERT_STEPS
                              : (uint64_t)all * w->gpu_percent / 100;
        uint64_t count = room < wanted ? room : wanted;
        c->gpu_experts[g] = count < left ? (uint32_t)count : left;
        left -= c->gpu_experts[g];
    }
}
