// Rotary positions, the KV cache and attention over it.
#include "engine/engine_impl.h"

static uint16_t *kv_at(const stk_session *s, const stk_kv_layer *kv, uint16_t *base,
                       uint32_t sequence, uint32_t head, uint32_t position)
{
    uint32_t at = position % kv->capacity_tokens;
    return base + sequence * kv->sequence_stride + head * kv->head_stride +
           at / STK_SEGMENT_TOKENS * kv->segment_stride +
           at % STK_SEGMENT_TOKENS * (size_t)s->engine->model.head_dim;
}

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
        (void)stk_nodes_place(nodes, node, kv_at(s, kv, base, sequence, head, 0), bytes);
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
        to_half(k + (size_t)h * dim, dim, kv_at(s, kv, kv->k, r->sequence, h, r->position));
        to_half(v + (size_t)h * dim, dim, kv_at(s, kv, kv->v, r->sequence, h, r->position));
    }
}

// The query heads of one KV head in a run of rows of one sequence, over everything they may see.
typedef struct attend_task {
    uint32_t row, row_count;
    uint32_t kv_head;
    uint32_t head, head_count; // of the query heads of this KV head
} attend_task;

// First visible position of a row and the one after the last.
static void visible(const stk_session *s, uint32_t layer, uint32_t row, uint32_t *begin,
                    uint32_t *end)
{
    uint32_t window = s->engine->model.layers[layer].window_tokens;
    *end = s->rows[row].position + 1;
    *begin = window != 0 && *end > window ? *end - window : 0;
}

// Query i of a task is head i % head_count of row i / head_count; where it lies in q and attended.
static size_t query_at(const stk_session *s, const attend_task *t, uint32_t i)
{
    const stk_model *m = &s->engine->model;
    size_t heads = m->head_count / m->kv_head_count;
    size_t head = t->kv_head * heads + t->head + i % t->head_count;
    return ((t->row + i / t->head_count) * (size_t)m->head_count + head) * m->head_dim;
}

// One segment for the rows of the task that see any of it.
static void attend_segment(stk_session *s, const stk_expert_scratch *scratch, uint32_t layer,
                           const attend_task *t, uint32_t segment, stk_attend_state *totals)
{
    const stk_model *m = &s->engine->model;
    const stk_cpu *cpu = &s->engine->cpu;
    const stk_kv_layer *kv = &s->kv[layer];
    stk_attend_query queries[STK_ATTEND_QUERIES_MAX];
    uint32_t owners[STK_ATTEND_QUERIES_MAX], count = 0;
    for (uint32_t i = 0; i < t->row_count * t->head_count; i++) {
        uint32_t begin, end;
        visible(s, layer, t->row + i / t->head_count, &begin, &end);
        if (end <= segment || begin >= segment + STK_SEGMENT_TOKENS)
            continue;
        int is_first = begin >= segment;
        uint32_t last = end - segment;
        queries[count] = (stk_attend_query){
            .q = s->q + query_at(s, t, i),
            .begin = is_first ? begin - segment : 0,
            .end = last < STK_SEGMENT_TOKENS ? last : STK_SEGMENT_TOKENS,
            .state.o = is_first ? totals[i].o : scratch->attend_o + (size_t)count * m->head_dim,
        };
        owners[count++] = i;
    }
    uint32_t sequence = s->rows[t->row].sequence;
    cpu->attend(queries, count, m->head_dim, kv_at(s, kv, kv->k, sequence, t->kv_head, segment),
                kv_at(s, kv, kv->v, sequence, t->kv_head, segment), s->attend_scale);
    for (uint32_t i = 0; i < count; i++) {
        stk_attend_state *total = &totals[owners[i]];
        if (queries[i].state.o == total->o)
            *total = queries[i].state;
        else
            cpu->attend_merge(total, &queries[i].state, m->head_dim);
    }
}

static void attend(stk_session *s, const stk_expert_scratch *scratch, uint32_t layer,
                   const attend_task *t)
{
    uint32_t dim = s->engine->model.head_dim, begin, end, unused;
    stk_attend_state totals[STK_ATTEND_QUERIES_MAX];
    for (uint32_t i = 0; i < t->row_count * t->head_count; i++)
        totals[i].o = s->attended.x + query_at(s, t, i);
    visible(s, layer, t->row, &begin, &unused);
    visible(s, layer, t->row + t->row_count - 1, &unused, &end);
    for (uint32_t at = begin / STK_SEGMENT_TOKENS * STK_SEGMENT_TOKENS; at < end;
         at += STK_SEGMENT_TOKENS)
        attend_segment(s, scratch, layer, t, at, totals);
    for (uint32_t i = 0; i < t->row_count * t->head_count; i++) {
        float inverse = 1.0f / totals[i].l;
        for (uint32_t k = 0; k < dim; k++)
            totals[i].o[k] = totals[i].o[k] * inverse;
    }
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
static void attend_heads(stk_session *s, stk_worker *worker, uint32_t layer, uint32_t node)
{
    const stk_model *m = &s->engine->model;
    uint32_t first = heads_begin(s, node), kv_heads = heads_begin(s, node + 1) - first;
    uint32_t heads = m->head_count / m->kv_head_count, task, unused;
    uint32_t head_count = heads < STK_ATTEND_QUERIES_MAX ? heads : STK_ATTEND_QUERIES_MAX;
    uint32_t rows_max = STK_ATTEND_QUERIES_MAX / head_count;
    uint32_t blocks = (s->row_count + rows_max - 1) / rows_max;
    while (stk_worker_take_from(worker, node, blocks * kv_heads, 1, &task, &unused)) {
        uint32_t row = task / kv_heads * rows_max;
        uint32_t end = s->row_count - row < rows_max ? s->row_count : row + rows_max;
        while (row < end) {
            attend_task t = {.row = row, .kv_head = first + task % kv_heads};
            t.row_count = run_of_sequence(s, row, end);
            for (; t.head < heads; t.head += t.head_count) {
                t.head_count = heads - t.head < head_count ? heads - t.head : head_count;
                attend(s, &s->workers[worker->index], layer, &t);
            }
            row += t.row_count;
        }
    }
}

void stk_attention_worker(stk_session *s, stk_worker *worker, uint32_t layer)
{
    uint32_t node_count = stk_engine_node_count(s->engine);
    attend_heads(s, worker, layer, worker->node);
    if (heads_begin(s, worker->node) != heads_begin(s, worker->node + 1))
        return;
    // More nodes than heads: those without help with prompts. One row is not worth the way.
    for (uint32_t i = 1; i < node_count && s->row_count > STK_ATTEND_QUERIES_MAX; i++)
        attend_heads(s, worker, layer, (worker->node + i) % node_count);
}
