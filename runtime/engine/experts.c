// The sparse ReGLU experts: gate for every neuron, up and down for those the gate left active.
//
// docs/arithmetic.md section 4 sums an expert in four parts, so a few rows (decode) are shared out
// as (row, expert, part) and many rows (prefill) as whole experts, with the same bits.
#include "engine/ahead.h"
#include "engine/engine_impl.h"
#include "engine/experts_parts.h"

#include <string.h>

enum { ROWS_PER_STEP = 2 }; // of up, between requests for what comes next

// One part of one expert for one row, whose gates of that part are given: y[width padded].
static void run_part(const stk_session *s, uint32_t layer, const stk_expert *expert,
                     const stk_expert_scratch *w, const stk_act *act, const float *gate,
                     uint32_t begin, uint32_t end, float *y)
{
    stk_groups_list(w, gate, begin, end);
    memset(y, 0, s->width_padded * sizeof *y);
    stk_groups_multiply(s, layer, expert, w, act, gate, begin, end, NULL);
    stk_groups_down(s, layer, expert, w, begin, end, y);
}

// The rows of one expert side by side, as kernels for many tokens want them.
static void gather_rows(const stk_session *s, const stk_expert_scratch *w, const uint32_t *pairs,
                        uint32_t count)
{
    size_t width = s->engine->model.width, blocks = width / 32;
    for (uint32_t t = 0; t < count; t++) {
        const stk_act *row = &s->normed.rows[pairs[t] / s->engine->model.expert_used_count];
        memcpy(w->rows_q + t * width, row->q, width);
        memcpy(w->rows_d + t * blocks, row->d, blocks * sizeof *row->d);
        memcpy(w->rows_sum + t * blocks, row->sum, blocks * sizeof *row->sum);
        w->acts[t] = (stk_act){row->x, w->rows_q + t * width, w->rows_d + t * blocks,
                               w->rows_sum + t * blocks};
    }
}

// h of the active neurons of row t, from +0; `up` of the others is not read.
static void multiply_active(const stk_session *s, const stk_expert_scratch *w, uint32_t layer,
                            const stk_expert *expert, uint32_t t, float *h)
{
    uint32_t ffn = s->engine->model.ffn_width, groups = ffn / 32;
    const float *gate = w->gate + (size_t)t * ffn;
    stk_ahead ahead;
    stk_groups_list(w, gate, 0, groups);
    for (uint32_t g = 0; g < groups; g++) {
        uint32_t last = w->first[g + 1];
        stk_ahead_neurons(&ahead, expert, g + 1, w->active + last,
                          t == 0 && g + 1 < groups ? w->first[g + 2] - last : 0);
        for (uint32_t a = w->first[g]; a < last; a += ROWS_PER_STEP) {
            stk_ahead_some(&ahead, ROWS_PER_STEP);
            s->engine->expert_kernels[layer].up(&expert->up, w->active + a,
                                                last - a < ROWS_PER_STEP ? last - a : ROWS_PER_STEP,
                                                &w->acts[t], w->h + a);
        }
    }
    memset(h, 0, ffn * sizeof *h);
    for (uint32_t a = 0; a < w->first[groups]; a++)
        h[w->active[a]] = gate[w->active[a]] * w->h[a];
}

// h of all neurons of row t, from their products with `up`. Returns how many are active.
static uint64_t multiply_all(const stk_expert_scratch *w, size_t ffn, size_t t, float *h)
{
    const float *gate = w->gate + t * ffn;
    uint64_t active = 0;
    for (size_t j = 0; j < ffn; j++) {
        active += gate[j] > 0;
        h[j] = gate[j] > 0 ? gate[j] * h[j] : 0.0f;
    }
    return active;
}

// `down` of all neurons for all rows at once. False, having done nothing that matters, where the
// kernels for that are missing or the rows too few.
static bool run_whole(stk_session *s, const stk_expert_scratch *w, uint32_t layer, uint32_t id,
                      const stk_expert *expert, float *const *outputs, uint32_t count)
{
    const stk_expert_kernels *kernels = &s->engine->expert_kernels[layer];
    size_t ffn = s->engine->model.ffn_width, groups = ffn / 32;
    uint64_t active = 0;
    if (!kernels->down_rows || (kernels->up_rows && count < STK_DENSE_ROWS_MIN))
        return false;
    if (kernels->up_rows)
        kernels->up_rows(&expert->up, 0, (uint32_t)ffn, w->acts, count, w->up, ffn);
    for (uint32_t t = 0; t < count; t++) {
        float *h = w->up + t * ffn;
        if (kernels->up_rows) {
            active += multiply_all(w, ffn, t, h);
        } else {
            multiply_active(s, w, layer, expert, t, h);
            stk_meter_active(s, w, layer, id, 0, (uint32_t)groups);
        }
        w->inner[t] = (stk_act){h, w->q + t * ffn, w->d + t * groups, w->sum + t * groups};
        s->engine->cpu.quantize(h, (uint32_t)ffn, w->q + t * ffn, w->d + t * groups,
                                w->sum + t * groups);
    }
    if (!kernels->down_rows(&expert->down, w->inner, count, outputs))
        return false;
    if (kernels->up_rows)
        stk_meter_dense(s, w, layer, id, count, active);
    return true;
}

// Up to STK_EXPERT_TILE rows of one expert.
static void run_rows(stk_session *s, const stk_expert_scratch *w, uint32_t layer,
                     const stk_expert *expert, const uint32_t *pairs, uint32_t count)
{
    const stk_model *m = &s->engine->model;
    uint32_t groups = m->ffn_width / 32;
    float *outputs[STK_EXPERT_TILE];
    for (uint32_t t = 0; t < count; t++)
        outputs[t] = s->expert_outputs + (size_t)pairs[t] * s->width_padded;
    gather_rows(s, w, pairs, count);
    s->engine->expert_kernels[layer].gate(&expert->gate, 0, m->ffn_width, w->acts, count, w->gate,
                                          m->ffn_width);
    stk_meter_gate(s, w, layer, s->chosen[pairs[0]], groups);
    if (run_whole(s, w, layer, s->chosen[pairs[0]], expert, outputs, count))
        return;
    for (uint32_t t = 0; t < count; t++) {
        for (uint32_t part = 0; part < STK_EXPERT_PARTS; part++) {
            uint32_t begin = stk_part_begin(groups, part), end = stk_part_begin(groups, part + 1);
            run_part(s, layer, expert, w, &w->acts[t],
                     w->gate + (size_t)t * m->ffn_width + 32 * begin, begin, end,
                     w->parts + (size_t)part * s->width_padded);
            stk_meter_active(s, w, layer, s->chosen[pairs[t]], begin, end);
        }
        s->engine->cpu.sum_parts(w->parts, s->width_padded, m->width, outputs[t]);
    }
}

// ---- what a batch asks of a layer's experts ----

// Memory of another node is slow to read, but workers who wait are slower: up to a share of all
// tasks may be taken over. What a layer does not use is kept for the next, up to a few tasks.
static void grant_steals(stk_session *s)
{
    if (stk_engine_node_count(s->engine) == 1)
        return;
    int percent = (int)s->engine->steal_percent, tasks = (int)s->task_count;
    int credit = atomic_load_explicit(&s->steal_credit, memory_order_relaxed) + percent * tasks;
    int most = 100 * STK_EXPERT_PARTS + percent * tasks;
    atomic_store_explicit(&s->steal_credit, credit < most ? credit : most, memory_order_relaxed);
}

void stk_experts_note(stk_session *s, uint32_t layer)
{
    uint32_t pairs = s->row_count * s->engine->model.expert_used_count;
    for (uint32_t p = 0; s->engine->heat && p < pairs; p++)
        stk_heat_touch(s->engine->heat, layer, s->chosen[p]);
    if (s->route_hook)
        s->route_hook(s->route_hook_user, layer, s->row_count, s->chosen, s->chosen_weights);
}

// Lists what the workers have to do with one expert.
static void add_work(stk_session *s, uint32_t layer, uint32_t e)
{
    uint32_t first = s->expert_first[e], count = s->expert_first[e + 1] - first;
    stk_expert_work *w = &s->work[s->work_count++];
    w->expert = e;
    w->node = stk_expert_store_node(s->engine->store, layer, e);
    w->first = first;
    w->count = count;
    w->tasks = s->shares_parts ? count * STK_EXPERT_PARTS
                               : (count + STK_EXPERT_TILE - 1) / STK_EXPERT_TILE;
    atomic_store_explicit(&w->claimed, 0, memory_order_relaxed);
    atomic_store_explicit(&w->done, 0, memory_order_relaxed);
    s->task_count += w->tasks;
}

// Whether experts are shared out part by part: where rows are few. But where a part of `down` is a
// strip of each of its rows, whole experts are read faster, if every worker gets as many.
static bool shares_parts(const stk_session *s, uint32_t layer, uint32_t experts)
{
    uint32_t workers = stk_engine_thread_count(s->engine);
    bool is_even = experts % workers == 0 || experts >= 4 * workers;
    return s->row_count * s->engine->model.expert_used_count <= STK_PAIRS_SPLIT_MAX &&
           !(is_even && stk_down_is_in_strips(s, layer));
}

// Lists the experts this layer uses and tells the store, right after the router. What a GPU takes
// of them is not the workers'.
void stk_experts_announce(stk_session *s, uint32_t layer)
{
    const stk_model *m = &s->engine->model;
    uint32_t wanted = 0;
    stk_group_pairs(s);
    for (uint32_t e = 0; e < m->expert_count; e++) {
        uint32_t first = s->expert_first[e], count = s->expert_first[e + 1] - first;
        if (count == 0 || stk_gpu_has(s->engine->gpu, layer, e))
            continue;
        // Of several rows the first speaks for all.
        s->work_weights[wanted] = s->chosen_weights[s->expert_pairs[first]];
        s->work_rows[wanted] = count;
        s->work_ids[wanted++] = e;
    }
    stk_experts_note(s, layer);
    stk_expert_store_want(s->engine->store, layer, s->work_ids, s->work_weights, s->work_rows,
                          wanted, STK_WANT_EXACT);
    stk_gpu_take(s, layer, s->work_ids, wanted);
    s->work_count = s->task_count = 0;
    s->shares_parts = shares_parts(s, layer, wanted);
    for (uint32_t i = 0; i < wanted; i++)
        if (!stk_gpu_computes(s->engine->gpu, layer, s->work_ids[i]))
            add_work(s, layer, s->work_ids[i]);
    atomic_store_explicit(&s->tasks_claimed, 0, memory_order_relaxed);
    grant_steals(s);
}

// Gives back what a failed forward still holds.
void stk_experts_finish(stk_session *s, uint32_t layer)
{
    for (uint32_t i = 0; i < s->work_count; i++)
        if (atomic_load(&s->work[i].done) < s->work[i].tasks)
            stk_expert_store_release(s->engine->store, layer, s->work[i].expert);
}

// Where the gate rows of the task are that this worker will probably run after task `task` of
// work[index]; NULL if that cannot be said.
static const void *next_gate(const stk_session *s, uint32_t layer, uint32_t index, uint32_t task)
{
    const stk_model *m = &s->engine->model;
    uint32_t workers = stk_engine_thread_count(s->engine);
    uint32_t sharers = workers / s->work_count; // who are at the same expert
    const stk_expert_work *w = &s->work[index];
    task += sharers ? sharers : 1;
    if (task >= w->tasks) {
        w = &s->work[(index + 1) % s->work_count];
        task = atomic_load_explicit(&w->claimed, memory_order_relaxed);
    }
    stk_expert expert;
    if (task >= w->tasks ||
        stk_expert_store_poll(s->engine->store, layer, w->expert, &expert) != STK_OK)
        return NULL;
    const stk_matrix *gate = &expert.gate;
    uint32_t row = 32 * stk_part_begin(m->ffn_width / 32, task % STK_EXPERT_PARTS);
    return (const char *)gate->data + stk_dense_bytes(gate->type, gate->format, row, gate->cols);
}

// Counts a task of an expert as done. Whoever finishes the last one adds up its parts, which are in
// that worker's caches if it has computed most of them, and gives the expert back.
static void end_task(stk_session *s, uint32_t layer, uint32_t index)
{
    stk_expert_work *w = &s->work[index];
    // acq_rel: what every worker wrote is seen here, and everybody has read the expert
    if (atomic_fetch_add_explicit(&w->done, 1, memory_order_acq_rel) + 1 < w->tasks)
        return;
    for (uint32_t p = w->first; s->shares_parts && p < w->first + w->count; p++) {
        size_t pair = s->expert_pairs[p];
        s->engine->cpu.sum_parts(s->part_outputs + pair * STK_EXPERT_PARTS * s->width_padded,
                                 s->width_padded, s->engine->model.width,
                                 s->expert_outputs + pair * s->width_padded);
    }
    stk_expert_store_release(s->engine->store, layer, w->expert);
}

static void run_tile(stk_session *s, const stk_expert_scratch *w, uint32_t layer, uint32_t index,
                     const stk_expert *expert, uint32_t task)
{
    const stk_expert_work *work = &s->work[index];
    uint32_t at = task * STK_EXPERT_TILE, count = work->count - at;
    run_rows(s, w, layer, expert, s->expert_pairs + work->first + at,
             count < STK_EXPERT_TILE ? count : STK_EXPERT_TILE);
    end_task(s, layer, index);
}

static void share_part(stk_session *s, const stk_expert_scratch *w, stk_parts *parts,
                       uint32_t layer, uint32_t index, const stk_expert *expert, uint32_t task)
{
    const stk_part_task t = {
        .layer = layer,
        .index = index,
        .pair = s->expert_pairs[s->work[index].first + task / STK_EXPERT_PARTS],
        .part = task % STK_EXPERT_PARTS,
        .expert = *expert,
        .next_gate = next_gate(s, layer, index, task),
    };
    uint32_t finished;
    if (stk_parts_run(s, w, parts, &t, &finished))
        end_task(s, layer, finished);
}

// Runs what this worker has begun and not finished.
static void flush(stk_session *s, const stk_expert_scratch *w, stk_parts *parts, uint32_t layer)
{
    uint32_t finished;
    if (stk_parts_flush(s, w, parts, &finished))
        end_task(s, layer, finished);
}

// Takes one task of an expert, if there is one left, and runs it. False: none.
static bool run_one(stk_session *s, const stk_expert_scratch *scratch, stk_parts *parts,
                    uint32_t layer, uint32_t index, const stk_expert *expert, stk_status status)
{
    stk_expert_work *w = &s->work[index];
    uint32_t task = atomic_fetch_add_explicit(&w->claimed, 1, memory_order_relaxed);
    if (task >= w->tasks)
        return false;
    atomic_fetch_add_explicit(&s->tasks_claimed, 1, memory_order_relaxed);
    if (status != STK_OK) {
        atomic_store(&s->failure, (int)status);
        end_task(s, layer, index);
    } else if (s->shares_parts) {
        share_part(s, scratch, parts, layer, index, expert, task);
    } else {
        run_tile(s, scratch, layer, index, expert, task);
    }
    return true;
}

typedef enum found { FOUND_NOTHING, FOUND_PENDING, FOUND_WORK } found;

// Runs one task of any expert that is there, of the node's own or of the others'. FOUND_PENDING:
// tasks are left, but of experts that are still being read. Workers begin at different experts, so
// that each streams one after the other.
static found run_something(stk_session *s, const stk_expert_scratch *scratch, stk_parts *parts,
                           uint32_t layer, uint32_t node, bool own)
{
    found result = FOUND_NOTHING;
    uint64_t worker = (uint64_t)(scratch - s->workers);
    uint32_t start = (uint32_t)(worker * s->work_count / stk_engine_thread_count(s->engine));
    for (uint32_t i = 0; i < s->work_count; i++) {
        uint32_t index = (start + i) % s->work_count;
        stk_expert_work *w = &s->work[index];
        if ((w->node == node) != own ||
            atomic_load_explicit(&w->claimed, memory_order_relaxed) >= w->tasks)
            continue;
        stk_expert expert;
        stk_status status = stk_expert_store_poll(s->engine->store, layer, w->expert, &expert);
        if (status == STK_PENDING)
            result = FOUND_PENDING;
        else if (run_one(s, scratch, parts, layer, index, &expert, status))
            return FOUND_WORK;
    }
    return result;
}

// One task of another node's experts, as far as the credit goes.
static found steal(stk_session *s, const stk_expert_scratch *scratch, stk_parts *parts,
                   uint32_t layer, uint32_t node)
{
    if (atomic_load_explicit(&s->steal_credit, memory_order_relaxed) < 100)
        return FOUND_NOTHING;
    if (atomic_fetch_sub_explicit(&s->steal_credit, 100, memory_order_relaxed) >= 100) {
        found result = run_something(s, scratch, parts, layer, node, false);
        if (result == FOUND_WORK)
            return result;
    }
    atomic_fetch_add_explicit(&s->steal_credit, 100, memory_order_relaxed);
    return FOUND_NOTHING;
}

void stk_experts_worker(stk_session *s, stk_worker *worker, uint32_t layer)
{
    stk_expert_store *store = s->engine->store;
    const stk_expert_scratch *scratch = &s->workers[worker->index];
    stk_parts parts;
    parts.is_behind = false;
    stk_ahead_clear(&parts.ahead, 0);
    while (atomic_load_explicit(&s->tasks_claimed, memory_order_relaxed) < s->task_count) {
        if (atomic_load_explicit(&s->failure, memory_order_relaxed) != STK_OK)
            break;
        uint32_t events = stk_expert_store_events(store);
        found result = run_something(s, scratch, &parts, layer, worker->node, true);
        if (result == FOUND_NOTHING)
            result = steal(s, scratch, &parts, layer, worker->node);
        if (result == FOUND_NOTHING) // the rest is in other hands
            break;
        if (result == FOUND_PENDING) {
            flush(s, scratch, &parts, layer);
            stk_expert_store_wait(store, events);
        }
    }
    flush(s, scratch, &parts, layer);
    // Whoever sleeps may wait for experts that nobody needs any more.
    if (!stk_expert_store_is_resident(store))
        stk_expert_store_notify(store);
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
        outputs[k] = s->expert_outputs + pair * s->width_padded;
    }
    cpu->combine(s->x + (size_t)row * m->width, outputs, s->chosen_weights + (size_t)row * used,
                 used, m->width);
}
