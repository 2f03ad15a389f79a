#include "engine/meter.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "engine/chain_gpu.h"
#include "engine/dense_gpu.h"
#include "engine/engine_impl.h"

stk_expert_cost stk_expert_cost_of(const stk_expert_layout *l)
{
    const stk_matrix *down = &l->down;
    stk_expert_cost cost = {
        .gate = stk_dense_bytes(l->gate.type, l->gate.format, l->gate.rows, l->gate.cols)};
    if (l->bundle.group_bytes != 0) {
        cost.up_neuron = l->bundle.up_bytes;
        cost.down_neuron = l->bundle.run_bytes - l->bundle.up_bytes;
        cost.down_group = l->bundle.scales_bytes;
        return cost;
    }
    cost.up_neuron = stk_type_row_bytes(l->up.type, l->up.cols);
    if (down->format == STK_FORMAT_ROWS_T) // a row is a neuron
        cost.down_neuron = stk_type_row_bytes(down->type, down->cols);
    else if (down->type->unpack32 != NULL) // of every output's row, the 32 values of the group
        cost.down_group = (uint64_t)down->rows * down->type->block_bytes * 32 /
                          down->type->block_len;
    else
        cost.down_neuron = down->rows * stk_type_row_bytes(down->type, 1);
    return cost;
}

// Adds a matrix that every forward reads whole and multiplies with every token. Returns its bytes.
static uint64_t add_linear(stk_meter *meter, stk_component component, const stk_linear *linear)
{
    const stk_matrix *w = &linear->matrix;
    uint64_t bytes = stk_dense_bytes(w->type, w->format, w->rows, w->cols);
    meter->forward_bytes[component] += bytes;
    meter->token_operations[component] += 2 * (uint64_t)w->rows * w->cols;
    return bytes;
}

static void sum_fixed_costs(stk_session *s)
{
    stk_meter *meter = s->meter;
    const stk_model *m = &s->engine->model;
    const stk_weights *w = &s->engine->weights;
    const uint64_t norm_bytes = m->width * sizeof(float);
    for (uint32_t i = 0; i < m->layer_count; i++) {
        const stk_layer_weights *layer = &w->layers[i];
        const stk_linear *attention[] = {&layer->q, &layer->k, &layer->v, &layer->output};
        for (size_t j = 0; j < sizeof attention / sizeof *attention; j++)
            meter->attention_bytes[i] += add_linear(meter, STK_COMPONENT_ATTENTION, attention[j]);
        meter->attention_bytes[i] += 2 * norm_bytes;
        meter->forward_bytes[STK_COMPONENT_ATTENTION] += 2 * norm_bytes;
        meter->router_bytes[i] = add_linear(meter, STK_COMPONENT_ROUTER, &layer->router);
        stk_expert_layout layout = stk_expert_layout_of(m, &m->layers[i]);
        meter->costs[i] = stk_expert_cost_of(&layout);
    }
    if (stk_model_has_head(m)) {
        add_linear(meter, STK_COMPONENT_HEAD, &w->head);
        meter->forward_bytes[STK_COMPONENT_HEAD] += norm_bytes;
    }
    meter->token_operations[STK_COMPONENT_GATE] = 2 * (uint64_t)m->layer_count *
                                                  m->expert_used_count * m->ffn_width * m->width;
}

static stk_status take_slots(stk_meter *meter, uint32_t layers)
{
    size_t bytes = meter->worker_count * sizeof *meter->slots;
    meter->slots = aligned_alloc(64, bytes);
    if (!meter->slots)
        return STK_NO_MEMORY;
    memset(meter->slots, 0, bytes);
    meter->gpu_spans = meter->spans_max ? calloc(meter->spans_max, sizeof *meter->gpu_spans) : NULL;
    if (meter->spans_max && !meter->gpu_spans)
        return STK_NO_MEMORY;
    for (uint32_t w = 0; w < meter->worker_count; w++) {
        stk_meter_slot *slot = &meter->slots[w];
        slot->active_neurons = aligned_alloc(64, (layers * sizeof(uint64_t) + 63) / 64 * 64);
        slot->gated_neurons = aligned_alloc(64, (layers * sizeof(uint64_t) + 63) / 64 * 64);
        slot->node_bytes = aligned_alloc(64, (meter->node_count * sizeof(uint64_t) + 63) / 64 * 64);
        slot->spans = meter->spans_max ? calloc(meter->spans_max, sizeof *slot->spans) : NULL;
        if (!slot->active_neurons || !slot->gated_neurons || !slot->node_bytes ||
            (meter->spans_max && !slot->spans))
            return STK_NO_MEMORY;
        memset(slot->active_neurons, 0, layers * sizeof(uint64_t));
        memset(slot->gated_neurons, 0, layers * sizeof(uint64_t));
        memset(slot->node_bytes, 0, meter->node_count * sizeof(uint64_t));
    }
    return STK_OK;
}

stk_status stk_meter_open(stk_session *s, uint32_t trace_forwards)
{
    const stk_model *m = &s->engine->model;
    uint32_t layers = m->layer_count;
    stk_meter *meter = calloc(1, sizeof *meter);
    if (!meter)
        return STK_NO_MEMORY;
    s->meter = meter;
    meter->worker_count = stk_engine_thread_count(s->engine);
    meter->node_count = stk_engine_node_count(s->engine);
    meter->groups = (m->ffn_width + 31) / 32;
    meter->spans_max = trace_forwards * (layers + 1) * STK_PHASE_COUNT;
    meter->costs = calloc(layers, sizeof *meter->costs);
    meter->expert_use = calloc((size_t)layers * m->expert_count, sizeof *meter->expert_use);
    meter->active_neurons = calloc(layers, sizeof *meter->active_neurons);
    meter->gated_neurons = calloc(layers, sizeof *meter->gated_neurons);
    meter->attention_bytes = calloc(layers, sizeof *meter->attention_bytes);
    meter->router_bytes = calloc(layers, sizeof *meter->router_bytes);
    meter->busy_ns = calloc(layers + 1, sizeof *meter->busy_ns);
    meter->wait_ns = calloc(layers + 1, sizeof *meter->wait_ns);
    meter->by_node = calloc(meter->node_count, sizeof *meter->by_node);
    meter->touched = calloc((size_t)m->expert_count * meter->groups, sizeof *meter->touched);
    meter->by_workers = calloc(m->expert_count, sizeof *meter->by_workers);
    if (!meter->costs || !meter->expert_use || !meter->active_neurons || !meter->gated_neurons ||
        !meter->attention_bytes || !meter->router_bytes || !meter->busy_ns || !meter->wait_ns ||
        !meter->by_node || !meter->touched || !meter->by_workers ||
        take_slots(meter, layers) != STK_OK)
        return STK_NO_MEMORY; // the session's close frees what there is
    sum_fixed_costs(s);
    return STK_OK;
}

void stk_meter_close(stk_session *s)
{
    stk_meter *meter = s->meter;
    if (!meter)
        return;
    for (uint32_t w = 0; meter->slots && w < meter->worker_count; w++) {
        free(meter->slots[w].active_neurons);
        free(meter->slots[w].gated_neurons);
        free(meter->slots[w].node_bytes);
        free(meter->slots[w].spans);
    }
    free(meter->slots);
    free(meter->gpu_spans);
    free(meter->by_workers);
    free(meter->touched);
    free(meter->by_node);
    free(meter->wait_ns);
    free(meter->busy_ns);
    free(meter->router_bytes);
    free(meter->attention_bytes);
    free(meter->gated_neurons);
    free(meter->active_neurons);
    free(meter->expert_use);
    free(meter->costs);
    free(meter);
    s->meter = NULL;
}

uint64_t stk_meter_now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * UINT64_C(1000000000) + (uint64_t)t.tv_nsec;
}

void stk_meter_begin(stk_session *s, stk_worker *worker)
{
    if (s->meter->is_timing)
        s->meter->slots[worker->index].last_ns = stk_meter_now_ns();
}

void stk_phase_end(stk_session *s, stk_worker *worker, uint32_t layer, stk_phase phase)
{
    stk_meter *meter = s->meter;
    if (!meter->is_timing) {
        stk_worker_barrier(worker);
        return;
    }
    stk_meter_slot *slot = &meter->slots[worker->index];
    stk_span span = {.begin_ns = slot->last_ns, .layer = layer, .phase = phase};
    span.end_ns = stk_meter_now_ns();
    stk_worker_barrier(worker);
    slot->last_ns = span.released_ns = stk_meter_now_ns();
    if (worker->index == 0) {
        meter->busy_ns[layer][phase] += span.end_ns - span.begin_ns;
        meter->wait_ns[layer][phase] += span.released_ns - span.end_ns;
    }
    if (meter->spans_max)
        slot->spans[slot->span_count++ % meter->spans_max] = span;
}

static void count_read(stk_session *s, const stk_expert_scratch *scratch, uint32_t layer,
                       uint32_t expert, uint64_t bytes)
{
    uint32_t node = stk_expert_store_node(s->engine->store, layer, expert);
    s->meter->slots[scratch - s->workers].node_bytes[node] += bytes;
}

void stk_meter_gate(stk_session *s, const stk_expert_scratch *scratch, uint32_t layer,
                    uint32_t expert, uint32_t groups)
{
    atomic_store_explicit(&s->meter->by_workers[expert], 1, memory_order_relaxed);
    count_read(s, scratch, layer, expert, s->meter->costs[layer].gate * groups / s->meter->groups);
}

uint64_t stk_meter_gpu_begin(const stk_session *s)
{
    return s->meter->is_timing && s->meter->spans_max ? stk_meter_now_ns() : 0;
}

void stk_meter_gpu_end(stk_session *s, stk_gpu_span_kind kind, uint32_t layer, uint64_t begin_ns)
{
    stk_meter *meter = s->meter;
    if (begin_ns != 0 && meter->spans_max)
        meter->gpu_spans[meter->gpu_span_count++ % meter->spans_max] = (stk_gpu_span){
            .begin_ns = begin_ns, .end_ns = stk_meter_now_ns(), .layer = layer, .kind = kind};
}

void stk_meter_active(stk_session *s, const stk_expert_scratch *scratch, uint32_t layer,
                      uint32_t expert, uint32_t begin, uint32_t end)
{
    stk_meter *meter = s->meter;
    const stk_expert_cost *cost = &meter->costs[layer];
    uint64_t bytes = scratch->first[end] * (cost->up_neuron + cost->down_neuron);
    meter->slots[scratch - s->workers].active_neurons[layer] += scratch->first[end];
    meter->slots[scratch - s->workers].gated_neurons[layer] += UINT64_C(32) * (end - begin);
    _Atomic uint32_t *touched = meter->touched + (size_t)expert * meter->groups;
    for (uint32_t g = begin; g < end; g++) {
        uint32_t bits = 0;
        bytes += scratch->first[g] < scratch->first[g + 1] ? cost->down_group : 0;
        for (uint32_t a = scratch->first[g]; a < scratch->first[g + 1]; a++)
            bits |= UINT32_C(1) << (scratch->active[a] - 32 * g);
        if (bits & ~atomic_load_explicit(&touched[g], memory_order_relaxed))
            atomic_fetch_or_explicit(&touched[g], bits, memory_order_relaxed);
    }
    count_read(s, scratch, layer, expert, bytes);
}

void stk_meter_dense(stk_session *s, const stk_expert_scratch *scratch, uint32_t layer,
                     uint32_t expert, uint32_t rows, uint64_t active_count)
{
    stk_meter *meter = s->meter;
    meter->slots[scratch - s->workers].active_neurons[layer] += active_count;
    meter->slots[scratch - s->workers].gated_neurons[layer] += UINT64_C(32) * meter->groups * rows;
    _Atomic uint32_t *touched = meter->touched + (size_t)expert * meter->groups;
    for (uint32_t g = 0; g < meter->groups; g++)
        atomic_store_explicit(&touched[g], UINT32_MAX, memory_order_relaxed);
    const stk_expert_cost *cost = &meter->costs[layer];
    uint64_t group = 32 * (cost->up_neuron + cost->down_neuron) + cost->down_group;
    count_read(s, scratch, layer, expert, meter->groups * group);
}

void stk_meter_layer(stk_session *s, uint32_t layer)
{
    stk_meter *meter = s->meter;
    const stk_model *m = &s->engine->model;
    uint64_t experts = 0, by_gpu = 0, neurons = 0, groups = 0;
    for (uint32_t e = 0; e < m->expert_count; e++) {
        uint32_t rows = s->expert_first[e + 1] - s->expert_first[e];
        if (rows == 0)
            continue;
        experts++;
        by_gpu += atomic_exchange_explicit(&meter->by_workers[e], 0, memory_order_relaxed) == 0;
        meter->expert_use[(size_t)layer * m->expert_count + e] += rows;
        _Atomic uint32_t *touched = meter->touched + (size_t)e * meter->groups;
        for (uint32_t g = 0; g < meter->groups; g++) {
            uint32_t bits = atomic_load_explicit(&touched[g], memory_order_relaxed);
            atomic_store_explicit(&touched[g], 0, memory_order_relaxed);
            neurons += (uint32_t)__builtin_popcount(bits);
            groups += bits != 0;
        }
    }
    const stk_expert_cost *cost = &meter->costs[layer];
    uint64_t *bytes = meter->view.bytes;
    bytes[STK_COMPONENT_GATE] += experts * cost->gate;
    meter->view.gpu_bytes[STK_COMPONENT_GATE] += by_gpu * cost->gate;
    bytes[STK_COMPONENT_UP] += neurons * cost->up_neuron;
    bytes[STK_COMPONENT_DOWN] += neurons * cost->down_neuron + groups * cost->down_group;
}

void stk_meter_abandon(stk_session *s)
{
    size_t words = (size_t)s->engine->model.expert_count * s->meter->groups;
    for (size_t i = 0; i < words; i++)
        atomic_store_explicit(&s->meter->touched[i], 0, memory_order_relaxed);
    for (uint32_t e = 0; e < s->engine->model.expert_count; e++)
        atomic_store_explicit(&s->meter->by_workers[e], 0, memory_order_relaxed);
}

// Positions that one forward's rows see in a layer: each row's, and those of all rows together.
static void count_positions(const stk_session *s, uint32_t window, uint64_t *seen,
                            uint64_t *distinct)
{
    *seen = *distinct = 0;
    for (uint32_t i = 0; i < s->row_count; i++) {
        const stk_row *r = &s->rows[i];
        uint64_t visible = r->position + UINT64_C(1);
        if (window != 0 && visible > window)
            visible = window;
        *seen += visible;
        // A sequence's rows come in order: the first sees what is old, each later one adds itself.
        *distinct += r->position == s->length[r->sequence] ? visible : 1;
    }
}

// What of the weights that every forward reads a GPU has read in this one. In layers that follow
// each other there, the routers too.
static void count_gpu_weights(const stk_session *s)
{
    const stk_meter *meter = s->meter;
    uint64_t *bytes = s->meter->view.gpu_bytes;
    for (uint32_t layer = 0; layer < s->engine->model.layer_count;) {
        uint32_t end = stk_gpu_chain_end(s, layer);
        bool is_chained = end > layer;
        for (end = is_chained ? end : layer + 1; layer < end; layer++) {
            if (!stk_gpu_attends(s, layer))
                continue;
            bytes[STK_COMPONENT_ATTENTION] += meter->attention_bytes[layer];
            bytes[STK_COMPONENT_ROUTER] += is_chained ? meter->router_bytes[layer] : 0;
        }
    }
    if (s->logit_count > 0 && stk_gpu_heads(s))
        bytes[STK_COMPONENT_HEAD] += meter->forward_bytes[STK_COMPONENT_HEAD];
}

void stk_meter_forward(stk_session *s)
{
    stk_meter *meter = s->meter;
    const stk_model *m = &s->engine->model;
    stk_metrics *view = &meter->view;
    view->forwards++;
    view->tokens += s->row_count;
    for (int c = 0; c < STK_COMPONENT_COUNT; c++) {
        uint32_t rows = c == STK_COMPONENT_HEAD ? s->logit_count : s->row_count;
        view->operations[c] += rows * meter->token_operations[c];
        view->bytes[c] += rows ? meter->forward_bytes[c] : 0;
    }
    if (stk_model_has_embedding(m))
        view->bytes[STK_COMPONENT_EMBEDDING] += s->row_count *
                                                stk_type_row_bytes(m->token_embd->type, m->width);
    const uint64_t kv_bytes = UINT64_C(2) * m->kv_head_count * m->head_dim * sizeof(uint16_t);
    const uint64_t kv_operations = UINT64_C(4) * m->head_count * m->head_dim;
    uint64_t seen = 0, distinct = 0;
    count_gpu_weights(s);
    for (uint32_t i = 0; i < m->layer_count; i++) {
        uint32_t window = m->layers[i].window_tokens;
        if (i == 0 || window != m->layers[i - 1].window_tokens)
            count_positions(s, window, &seen, &distinct);
        view->bytes[STK_COMPONENT_KV] += distinct * kv_bytes;
        view->gpu_bytes[STK_COMPONENT_KV] += stk_gpu_attends(s, i) ? distinct * kv_bytes : 0;
        view->operations[STK_COMPONENT_KV] += seen * kv_operations;
    }
}
