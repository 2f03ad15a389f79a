#include "engine/experts_parts.h"

#include <string.h>

#include "engine/ahead.h"

enum {
    ROWS_PER_STEP = 2,           // of up, between requests for what comes next
    GATE_ASKED_BYTES = 4 * 1024, // the gate's own kernel has asked for so much of the next group
    NEXT_GATE_BYTES = 12 * 1024, // how far memory gets while a group is finished
};

void stk_groups_list(const stk_expert_scratch *w, const float *gate, uint32_t from, uint32_t to)
{
    uint32_t count = 0;
    for (uint32_t g = from; g < to; g++) {
        w->first[g] = count;
        for (uint32_t j = 32 * g; j < 32 * g + 32; j++) {
            w->active[count] = j; // stays only if active: a branch here would be a coin toss
            count += gate[j - 32 * from] > 0;
        }
    }
    w->first[to] = count;
}

void stk_groups_multiply(const stk_session *s, uint32_t layer, const stk_expert *expert,
                         const stk_expert_scratch *w, const stk_act *act, const float *gate,
                         uint32_t from, uint32_t to, stk_ahead *ahead)
{
    const stk_expert_kernels *kernels = &s->engine->expert_kernels[layer];
    uint32_t count = w->first[to], step = ahead ? ROWS_PER_STEP : count;
    for (uint32_t a = 0; a < count; a += step) {
        if (ahead)
            stk_ahead_some(ahead, step);
        kernels->up(&expert->up, w->active + a, count - a < step ? count - a : step, act,
                    w->up + a);
    }
    memset(w->h + 32 * from, 0, (to - from) * 32 * sizeof *w->h);
    for (uint32_t a = 0; a < count; a++) {
        uint32_t j = w->active[a];
        w->h[j] = gate[j - 32 * from] * w->up[a];
    }
    s->engine->cpu.quantize(w->h + 32 * from, (to - from) * 32, w->q + 32 * from, w->d + from,
                            w->sum + from);
}

void stk_groups_down(const stk_session *s, uint32_t layer, const stk_expert *expert,
                     const stk_expert_scratch *w, uint32_t from, uint32_t to, float *y)
{
    stk_neurons n = {w->h, w->q, w->d, w->sum, w->active, w->first};
    s->engine->expert_kernels[layer].down(&expert->down, &n, from, to, y);
}

static const stk_act *act_of(const stk_session *s, const stk_part_task *task)
{
    return &s->normed.rows[task->pair / s->engine->model.expert_used_count];
}

static float *output_of(const stk_session *s, const stk_part_task *task)
{
    return s->part_outputs + ((size_t)task->pair * STK_EXPERT_PARTS + task->part) * s->width_padded;
}

// The gate of a group, while memory brings what is behind.
static void run_gate(const stk_session *s, const stk_expert_scratch *w, const stk_part_task *task,
                     uint32_t group, stk_ahead *ahead)
{
    const stk_expert_kernels *kernels = &s->engine->expert_kernels[task->layer];
    const stk_matrix *gate = &task->expert.gate;
    if (kernels->gate_ahead) {
        kernels->gate_ahead(gate, 32 * group, 32 * group + 32, act_of(s, task), ahead, w->gate);
        return;
    }
    stk_ahead_some(ahead, STK_AHEAD_RUNS_MAX);
    kernels->gate(gate, 32 * group, 32 * group + 32, act_of(s, task), 1, w->gate,
                  s->engine->model.ffn_width);
}

// Where memory should go on while the group behind is finished, `group` of `task` being the one
// whose gate was computed last; it ends at `end`.
static void look_ahead(stk_ahead *ahead, const stk_part_task *task, uint32_t group, uint32_t end)
{
    const stk_matrix *gate = &task->expert.gate;
    const char *from = gate->data;
    if (group + 1 == end) {
        stk_ahead_bytes(ahead, task->next_gate, NEXT_GATE_BYTES);
        return;
    }
    from += stk_dense_bytes(gate->type, gate->format, 32 * (group + 1), gate->cols);
    stk_ahead_bytes(ahead, from + GATE_ASKED_BYTES, NEXT_GATE_BYTES - GATE_ASKED_BYTES);
}

// Runs the group that is behind. True: that was its task's last, *finished says whose.
static bool finish_group(stk_session *s, const stk_expert_scratch *w, stk_parts *parts,
                         stk_ahead *ahead, uint32_t *finished)
{
    const stk_part_task *task = &parts->task;
    if (!parts->is_behind)
        return false;
    uint32_t g = parts->group;
    memcpy(w->active, parts->active, parts->count * sizeof *w->active);
    w->first[g] = 0;
    w->first[g + 1] = parts->count;
    stk_groups_multiply(s, task->layer, &task->expert, w, act_of(s, task), parts->gate, g, g + 1,
                        ahead);
    if (!stk_down_is_in_strips(s, task->layer))
        stk_groups_down(s, task->layer, &task->expert, w, g, g + 1, output_of(s, task));
    else if (parts->is_last) // one strip is read faster than each of its groups
        stk_groups_down(s, task->layer, &task->expert, w,
                        stk_part_begin(s->engine->model.ffn_width / 32, task->part), g + 1,
                        output_of(s, task));
    stk_meter_active(s, w, task->layer, s->chosen[task->pair], g, g + 1);
    parts->is_behind = false;
    *finished = task->index;
    return parts->is_last;
}

bool stk_parts_flush(stk_session *s, const stk_expert_scratch *w, stk_parts *parts,
                     uint32_t *finished)
{
    if (parts->is_behind)
        stk_ahead_some(&parts->ahead, STK_AHEAD_RUNS_MAX);
    return finish_group(s, w, parts, NULL, finished);
}

bool stk_parts_run(stk_session *s, const stk_expert_scratch *w, stk_parts *parts,
                   const stk_part_task *task, uint32_t *finished)
{
    const stk_model *m = &s->engine->model;
    uint32_t groups = m->ffn_width / 32, ended;
    uint32_t begin = stk_part_begin(groups, task->part);
    uint32_t end = stk_part_begin(groups, task->part + 1);
    bool has_ended = false;
    memset(output_of(s, task), 0, s->width_padded * sizeof(float));
    for (uint32_t g = begin; g < end; g++) {
        stk_ahead gates;
        run_gate(s, w, task, g, &parts->ahead);
        look_ahead(&gates, task, g, end);
        if (finish_group(s, w, parts, &gates, &ended)) {
            has_ended = true;
            *finished = ended;
        }
        parts->task = *task;
        parts->is_behind = true;
        parts->is_last = g + 1 == end;
        parts->group = g;
        memcpy(parts->gate, w->gate, sizeof parts->gate);
        stk_groups_list(w, w->gate, g, g + 1);
        parts->count = w->first[g + 1];
        memcpy(parts->active, w->active, parts->count * sizeof *parts->active);
        stk_ahead_neurons(&parts->ahead, &task->expert, g, parts->active, parts->count);
    }
    stk_meter_gate(s, w, task->layer, s->chosen[task->pair], end - begin);
    if (begin < end)
        return has_ended;
    *finished = task->index; // a part may have no groups
    return true;
}
