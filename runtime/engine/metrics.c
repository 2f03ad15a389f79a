#include "engine/metrics.h"

#include <string.h>

#include "engine/engine_impl.h"

const char *stk_component_name(stk_component component)
{
    static const char *const names[STK_COMPONENT_COUNT] = {
        "embedding", "attention", "kv", "router", "gate", "up", "down", "head",
    };
    return component < STK_COMPONENT_COUNT ? names[component] : "unknown";
}

const char *stk_phase_name(stk_phase phase)
{
    static const char *const names[STK_PHASE_COUNT] = {
        "embed", "project", "route",   "attend",    "quantize", "output",
        "norm",  "experts", "combine", "head_norm", "head",     "gpu_layers"};
    return phase < STK_PHASE_COUNT ? names[phase] : "unknown";
}

static uint64_t sum(const uint64_t values[STK_COMPONENT_COUNT])
{
    uint64_t total = 0;
    for (int i = 0; i < STK_COMPONENT_COUNT; i++)
        total += values[i];
    return total;
}

uint64_t stk_metrics_bytes(const stk_metrics *metrics)
{
    return sum(metrics->bytes);
}

uint64_t stk_metrics_gpu_bytes(const stk_metrics *metrics)
{
    return sum(metrics->gpu_bytes);
}

uint64_t stk_metrics_operations(const stk_metrics *metrics)
{
    return sum(metrics->operations);
}

double stk_metrics_own_fraction(const stk_metrics *metrics)
{
    uint64_t own = 0, all = 0;
    for (uint32_t n = 0; n < metrics->node_count; n++) {
        own += metrics->nodes[n].own_bytes;
        all += metrics->nodes[n].own_bytes + metrics->nodes[n].other_bytes;
    }
    return all ? (double)own / (double)all : 1;
}

static void sum_nodes(const stk_session *s)
{
    const stk_meter *meter = s->meter;
    const stk_nodes *nodes = stk_team_nodes(s->engine->team);
    memset(meter->by_node, 0, meter->node_count * sizeof *meter->by_node);
    for (uint32_t w = 0; w < meter->worker_count; w++)
        for (uint32_t n = 0; n < meter->node_count; n++) {
            uint64_t bytes = meter->slots[w].node_bytes[n];
            if (stk_nodes_of_worker(nodes, w) == n)
                meter->by_node[n].own_bytes += bytes;
            else
                meter->by_node[n].other_bytes += bytes;
        }
}

const stk_metrics *stk_session_metrics(stk_session *s)
{
    stk_meter *meter = s->meter;
    const stk_model *m = &s->engine->model;
    stk_metrics *view = &meter->view;
    view->layer_count = m->layer_count;
    view->expert_count = m->expert_count;
    view->expert_used_count = m->expert_used_count;
    view->ffn_width = m->ffn_width;
    view->expert_use = meter->expert_use;
    view->gated_neurons = meter->gated_neurons;
    view->active_neurons = meter->active_neurons;
    view->busy_ns = (const uint64_t(*)[STK_PHASE_COUNT])meter->busy_ns;
    sum_nodes(s);
    view->nodes = meter->by_node;
    view->node_count = meter->node_count;
    view->wait_ns = (const uint64_t(*)[STK_PHASE_COUNT])meter->wait_ns;
    uint64_t active = 0;
    for (uint32_t layer = 0; layer < m->layer_count; layer++) {
        uint64_t in_layer = 0, gated = 0;
        for (uint32_t w = 0; w < meter->worker_count; w++) {
            in_layer += meter->slots[w].active_neurons[layer];
            gated += meter->slots[w].gated_neurons[layer];
        }
        meter->active_neurons[layer] = in_layer;
        meter->gated_neurons[layer] = gated;
        active += in_layer;
    }
    view->operations[STK_COMPONENT_UP] = 2 * active * m->width;
    view->operations[STK_COMPONENT_DOWN] = 2 * active * m->width;
    return view;
}

void stk_session_metrics_reset(stk_session *s)
{
    stk_meter *meter = s->meter;
    const stk_model *m = &s->engine->model;
    memset(&meter->view, 0, sizeof meter->view);
    memset(meter->expert_use, 0,
           (size_t)m->layer_count * m->expert_count * sizeof *meter->expert_use);
    memset(meter->busy_ns, 0, (m->layer_count + 1) * sizeof *meter->busy_ns);
    memset(meter->wait_ns, 0, (m->layer_count + 1) * sizeof *meter->wait_ns);
    meter->gpu_span_count = 0;
    for (uint32_t w = 0; w < meter->worker_count; w++) {
        memset(meter->slots[w].active_neurons, 0, m->layer_count * sizeof(uint64_t));
        memset(meter->slots[w].gated_neurons, 0, m->layer_count * sizeof(uint64_t));
        memset(meter->slots[w].node_bytes, 0, meter->node_count * sizeof(uint64_t));
        meter->slots[w].span_count = 0;
    }
}

void stk_session_set_timing(stk_session *s, bool is_timing)
{
    s->meter->is_timing = is_timing;
}

uint32_t stk_session_spans(const stk_session *s, uint32_t worker, stk_span *out, uint32_t max)
{
    const stk_meter *meter = s->meter;
    if (worker >= meter->worker_count || meter->spans_max == 0)
        return 0;
    const stk_meter_slot *slot = &meter->slots[worker];
    uint64_t count = slot->span_count < meter->spans_max ? slot->span_count : meter->spans_max;
    count = count < max ? count : max;
    for (uint64_t i = 0; i < count; i++)
        out[i] = slot->spans[(slot->span_count - count + i) % meter->spans_max];
    return (uint32_t)count;
}

uint32_t stk_session_gpu_spans(const stk_session *s, stk_gpu_span *out, uint32_t max)
{
    const stk_meter *meter = s->meter;
    uint64_t ever = meter->gpu_span_count;
    uint64_t count = ever < meter->spans_max ? ever : meter->spans_max;
    count = count < max ? count : max;
    for (uint64_t i = 0; i < count; i++)
        out[i] = meter->gpu_spans[(ever - count + i) % meter->spans_max];
    return (uint32_t)count;
}
