// Rotary positions, the KV cache and attention over it.
#include "engine/engine_impl.h"

#include <string.h>

// The KV heads whose keys and values a memory node holds.
static uint32_t heads_begin(const stk_session *s, uint32_t node)
{
    return stk_nodes_share_begin(stk_team_nodes(s->engine->team), node,
                                 s->engine->model.kv_head_count);
}

// Asks for each node's part of the cache, before it is touched.
void stk_attention_place(stk_session *s)
{
    enum { AREAS_MAX = 8192 }; // the system allows a process some 65000
    const stk_model *m = &s->engine->model;
    stk_nodes *nodes = stk_team_nodes(s->engine->team);
    uint32_t node_count = stk_engine_node_count(s->engine);
    uint64_t areas = UINT64_C(2) * m->layer_count * s->sequence_count * node_count;
    if (node_count == 1)
        return;
    if (areas > AREAS_MAX) {
        stk_info(s->engine->log, "keys and values of %u sequences are left where they fall",
                 s->sequence_count);
        return;
    }
    for (uint32_t i = 0; i < areas; i++) {
        uint32_t node = i % node_count, sequence = i / node_count % s->sequence_count;
        const stk_kv_layer *kv = &s->kv[i / node_count / s->sequence_count / 2];
        uint32_t head = heads_begin(s, node), count = heads_begin(s, node + 1) - head;
        uint16_t *base = i / node_count / s->sequence_count % 2 ? kv->v : kv->k;
        if (!base)
            continue; // on a device
        size_t bytes = (size_t)count * kv->capacity_tokens * m->head_dim * sizeof *base;
        (void)stk_nodes_place(nodes, node, stk_session_kv_at(s, kv, base, sequence, head, 0),
                              bytes);
    }
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
        to_half(k + (size_t)h * dim, dim,
                stk_session_kv_at(s, kv, kv->k, r->sequence, h, r->position));
        to_half(v + (size_t)h * dim, dim,
                stk_session_kv_at(s, kv, kv->v, r->sequence, h, r->position));
    }
}

// The query heads of one KV head in a run of rows of one sequence, over everything they may see or
// a piece of it.
typedef struct attend_task {
    uint32_t row, row_count;
    uint32_t kv_head;
    uint32_t head, head_count; // of the query heads of this KV head
    uint32_t piece;
} attend_task;

// How a batch is handed out, the same for every worker.
typedef struct attend_sharing {
    uint32_t head_count, row_count; // of a task, at most
    uint32_t blocks;                // of rows
    uint32_t pieces;                // of a task's segments; 1: who takes it finishes it
    uint32_t segment_count;         // that a row sees, at most; told only if there are pieces
} attend_sharing;

// First visible position of a row and the one after the last.
static void visible(const stk_session *s, uint32_t layer, uint32_t row, uint32_t *begin,
                    uint32_t *end)
{
    uint32_t window = s->engine->model.layers[layer].window_tokens;
    *end = s->rows[row].position + 1;
    *begin = window != 0 && *end > window ? *end - window : 0;
}

// The segments of rows [row, row + count), the first of which sees furthest back.
static void visible_segments(const stk_session *s, uint32_t layer, uint32_t row, uint32_t count,
                             uint32_t *first, uint32_t *segment_count)
{
    uint32_t begin, end, unused;
    visible(s, layer, row, &begin, &unused);
    visible(s, layer, row + count - 1, &unused, &end);
    *first = begin / STK_SEGMENT_TOKENS;
    *segment_count = (end - 1) / STK_SEGMENT_TOKENS - *first + 1;
}

// A head's sums are quantised by who finishes it, if blocks do not straddle heads.
static bool finishes_heads(const stk_session *s)
{
    return s->engine->model.head_dim % 32 == 0;
}

// Into how many pieces the tasks of a node are cut that has so many workers. Pieces cost a phase,
// so not where the tasks can be shared evenly or are many.
static uint32_t pieces_wanted(uint32_t tasks, uint32_t workers)
{
    enum { PIECES_PER_WORKER = 4 };
    return tasks % workers == 0 ? 1 : (PIECES_PER_WORKER * workers + tasks - 1) / tasks;
}

static attend_sharing share_out(const stk_session *s, uint32_t layer)
{
    const stk_model *m = &s->engine->model;
    uint32_t heads = m->head_count / m->kv_head_count, first, count, node_count;
    attend_sharing how = {.pieces = 1, .segment_count = 1};
    how.head_count = heads < STK_ATTEND_QUERIES_MAX ? heads : STK_ATTEND_QUERIES_MAX;
    how.row_count = STK_ATTEND_QUERIES_MAX / how.head_count;
    how.blocks = (s->row_count + how.row_count - 1) / how.row_count;
    if (s->row_count * m->head_count > s->attend_states_max)
        return how;
    for (uint32_t row = 0; row < s->row_count; row++) {
        visible_segments(s, layer, row, 1, &first, &count);
        how.segment_count = count > how.segment_count ? count : how.segment_count;
    }
    if ((uint64_t)how.segment_count * s->row_count * m->head_count > s->attend_states_max)
        return how;
    const stk_node *nodes = stk_nodes_list(stk_team_nodes(s->engine->team), &node_count);
    for (uint32_t n = 0; n < node_count; n++) {
        uint32_t tasks = how.blocks * (heads_begin(s, n + 1) - heads_begin(s, n));
        uint32_t pieces = tasks == 0 ? 1 : pieces_wanted(tasks, nodes[n].worker_count);
        how.pieces = pieces > how.pieces ? pieces : how.pieces;
    }
    how.pieces = how.pieces < how.segment_count ? how.pieces : how.segment_count;
    return how;
}

uint32_t stk_attention_states(const stk_session *s)
{
    uint32_t heads = s->engine->model.head_count;
    return finishes_heads(s) ? heads * (s->context_tokens / STK_SEGMENT_TOKENS + 1) : 0;
}

// Query i of a task is head i % head_count of row i / head_count; which of the model's heads.
static uint32_t head_of(const stk_session *s, const attend_task *t, uint32_t i)
{
    const stk_model *m = &s->engine->model;
    return t->kv_head * (m->head_count / m->kv_head_count) + t->head + i % t->head_count;
}

// Where a head of a row lies in q and attended.
static size_t head_at(const stk_session *s, uint32_t row, uint32_t head)
{
    const stk_model *m = &s->engine->model;
    return ((size_t)row * m->head_count + head) * m->head_dim;
}

// What pieces leave of a head of a row: the states of the segments it sees, in order.
static stk_attend_state *states_of(stk_session *s, const attend_sharing *how, uint32_t row,
                                   uint32_t head)
{
    const stk_model *m = &s->engine->model;
    return s->attend_states + ((size_t)row * m->head_count + head) * how->segment_count;
}

// Where segment `segment` of query i is to be summed up: its state if the task is one of pieces,
// else its total if that is the first, else nowhere that lasts.
static stk_attend_state *state_for(stk_session *s, uint32_t layer, const attend_sharing *how,
                                   const attend_task *t, uint32_t i, uint32_t segment,
                                   stk_attend_state *totals)
{
    uint32_t row = t->row + i / t->head_count, first, unused;
    visible_segments(s, layer, row, 1, &first, &unused);
    if (how->pieces > 1) {
        stk_attend_state *state = states_of(s, how, row, head_of(s, t, i)) + (segment - first);
        state->o = s->attend_sums + (size_t)(state - s->attend_states) * s->engine->model.head_dim;
        return state;
    }
    return segment == first ? &totals[i] : NULL;
}

// One segment for the rows of the task that see any of it; `is_last`: of this task.
static void attend_segment(stk_session *s, const stk_expert_scratch *scratch, uint32_t layer,
                           const attend_sharing *how, const attend_task *t, uint32_t segment,
                           bool is_last, stk_attend_state *totals)
{
    const stk_model *m = &s->engine->model;
    const stk_cpu *cpu = &s->engine->cpu;
    const stk_kv_layer *kv = &s->kv[layer];
    stk_attend_query queries[STK_ATTEND_QUERIES_MAX];
    stk_attend_state *states[STK_ATTEND_QUERIES_MAX];
    uint32_t owners[STK_ATTEND_QUERIES_MAX], count = 0, at = segment * STK_SEGMENT_TOKENS;
    for (uint32_t i = 0; i < t->row_count * t->head_count; i++) {
        uint32_t begin, end, row = t->row + i / t->head_count;
        visible(s, layer, row, &begin, &end);
        if (end <= at || begin >= at + STK_SEGMENT_TOKENS)
            continue;
        states[count] = state_for(s, layer, how, t, i, segment, totals);
        queries[count] = (stk_attend_query){
            .q = s->q + head_at(s, row, head_of(s, t, i)),
            .begin = begin > at ? begin - at : 0,
            .end = end - at < STK_SEGMENT_TOKENS ? end - at : STK_SEGMENT_TOKENS,
            .state.o = states[count] ? states[count]->o
                                     : scratch->attend_o + (size_t)count * m->head_dim,
        };
        owners[count++] = i;
    }
    uint32_t sequence = s->rows[t->row].sequence, next = at + STK_SEGMENT_TOKENS;
    const stk_attend_segment read = {
        .k = stk_session_kv_at(s, kv, kv->k, sequence, t->kv_head, at),
        .v = stk_session_kv_at(s, kv, kv->v, sequence, t->kv_head, at),
        .next_k = is_last ? NULL : stk_session_kv_at(s, kv, kv->k, sequence, t->kv_head, next)};
    cpu->attend(queries, count, m->head_dim, &read, s->attend_scale);
    for (uint32_t i = 0; i < count; i++) {
        if (states[i])
            *states[i] = queries[i].state;
        else
            cpu->attend_merge(&totals[owners[i]], &queries[i].state, m->head_dim);
    }
}

// The result of a head of a row, of which `total` says everything.
static void finish_head(stk_session *s, uint32_t row, uint32_t head, const stk_attend_state *total)
{
    uint32_t dim = s->engine->model.head_dim;
    float inverse = 1.0f / total->l;
    for (uint32_t k = 0; k < dim; k++)
        total->o[k] = total->o[k] * inverse;
    if (finishes_heads(s))
        stk_acts_quantize(s, &s->attended, row, head * dim, dim);
}

static void attend(stk_session *s, const stk_expert_scratch *scratch, uint32_t layer,
                   const attend_sharing *how, const attend_task *t)
{
    stk_attend_state totals[STK_ATTEND_QUERIES_MAX];
    uint32_t count = t->row_count * t->head_count, first, segments;
    for (uint32_t i = 0; i < count; i++)
        totals[i].o = s->attended.x + head_at(s, t->row + i / t->head_count, head_of(s, t, i));
    visible_segments(s, layer, t->row, t->row_count, &first, &segments);
    uint32_t end = first + segments * (t->piece + 1) / how->pieces;
    for (uint32_t at = first + segments * t->piece / how->pieces; at < end; at++)
        attend_segment(s, scratch, layer, how, t, at, at + 1 == end, totals);
    for (uint32_t i = 0; i < count && how->pieces == 1; i++)
        finish_head(s, t->row + i / t->head_count, head_of(s, t, i), &totals[i]);
}

// Merges what the pieces have left of a head of a row, in the order of its segments.
static void merge_pieces(stk_session *s, uint32_t layer, const attend_sharing *how, uint32_t row,
                         uint32_t head)
{
    uint32_t dim = s->engine->model.head_dim, first, count;
    const stk_attend_state *states = states_of(s, how, row, head);
    stk_attend_state total = states[0];
    visible_segments(s, layer, row, 1, &first, &count);
    total.o = s->attended.x + head_at(s, row, head);
    memcpy(total.o, states[0].o, dim * sizeof *total.o);
    for (uint32_t i = 1; i < count; i++)
        s->engine->cpu.attend_merge(&total, &states[i], dim);
    finish_head(s, row, head, &total);
}

// The part of rows [begin, end) that belongs to one sequence.
static uint32_t run_of_sequence(const stk_session *s, uint32_t begin, uint32_t end)
{
    uint32_t count = 1;
    while (begin + count < end && s->rows[begin + count].sequence == s->rows[begin].sequence)
        count++;
    return count;
}

// Shares of the heads that a node holds, for its workers and those who help them.
static void attend_heads(stk_session *s, stk_worker *worker, uint32_t layer,
                         const attend_sharing *how, uint32_t node)
{
    const stk_model *m = &s->engine->model;
    uint32_t first = heads_begin(s, node), kv_heads = heads_begin(s, node + 1) - first;
    uint32_t heads = m->head_count / m->kv_head_count, total = how->blocks * kv_heads * how->pieces;
    uint32_t unit, unused;
    while (stk_worker_take_from(worker, node, total, 1, &unit, &unused)) {
        uint32_t task = unit / how->pieces, row = task / kv_heads * how->row_count;
        uint32_t end = s->row_count - row < how->row_count ? s->row_count : row + how->row_count;
        while (row < end) {
            attend_task t = {
                .row = row, .kv_head = first + task % kv_heads, .piece = unit % how->pieces};
            t.row_count = run_of_sequence(s, row, end);
            for (; t.head < heads; t.head += t.head_count) {
                t.head_count = heads - t.head < how->head_count ? heads - t.head : how->head_count;
                attend(s, &s->workers[worker->index], layer, how, &t);
            }
            row += t.row_count;
        }
    }
}

void stk_attention_worker(stk_session *s, stk_worker *worker, uint32_t layer)
{
    const stk_model *m = &s->engine->model;
    const attend_sharing how = share_out(s, layer);
    uint32_t node_count = stk_engine_node_count(s->engine), index, end;
    attend_heads(s, worker, layer, &how, worker->node);
    if (heads_begin(s, worker->node) == heads_begin(s, worker->node + 1)) {
        // More nodes than heads: those without help with prompts. One row is not worth the way.
        for (uint32_t i = 1; i < node_count && s->row_count > STK_ATTEND_QUERIES_MAX; i++)
            attend_heads(s, worker, layer, &how, (worker->node + i) % node_count);
    }
    stk_phase_end(s, worker, layer, STK_PHASE_ATTEND);
    if (how.pieces > 1) {
        while (stk_worker_take(worker, s->row_count * m->head_count, 1, &index, &end))
            merge_pieces(s, layer, &how, index / m->head_count, index % m->head_count);
    } else if (!finishes_heads(s)) {
        while (stk_worker_take(worker, s->row_count, 1, &index, &end))
            stk_acts_quantize(s, &s->attended, index, 0, s->attended.n);
    } else {
        return;
    }
    stk_phase_end(s, worker, layer, STK_PHASE_QUANTIZE);
}
