// engine/meter.h: the hooks by which the forward pass feeds a session's metrics. Not for other
// rooms.
#ifndef STK_ENGINE_METER_H
#define STK_ENGINE_METER_H

#include "base/team.h"
#include "engine/metrics.h"
#include "store/expert_layout.h"

struct stk_expert_scratch;

// Bytes of one layer's experts.
typedef struct stk_expert_cost {
    uint64_t gate;        // an expert
    uint64_t up_neuron;   // an active neuron
    uint64_t down_neuron; // likewise
    uint64_t down_group;  // a group of 32 neurons with an active one
} stk_expert_cost;

stk_expert_cost stk_expert_cost_of(const stk_expert_layout *layout);

// What one worker writes.
typedef struct stk_meter_slot {
    _Alignas(64) uint64_t *active_neurons; // [layer]
    uint64_t *gated_neurons;               // [layer]: of the rows and experts it ran
    uint64_t *node_bytes;                  // [node]: of experts that the node holds, read by it
    uint64_t last_ns;                      // end of its last phase
    stk_span *spans;                       // [spans_max], a ring
    uint64_t span_count;                   // ever written
} stk_meter_slot;

typedef struct stk_meter {
    bool is_timing; // changes between forwards only
    uint32_t worker_count, node_count, groups, spans_max;
    uint64_t forward_bytes[STK_COMPONENT_COUNT];    // weights that every forward reads
    uint64_t token_operations[STK_COMPONENT_COUNT]; // dense products of one token
    stk_expert_cost *costs;                         // [layer]
    uint64_t *expert_use;                           // [layer][expert]
    uint64_t *active_neurons, *gated_neurons;       // [layer], summed on read
    uint64_t *attention_bytes, *router_bytes;       // [layer], of forward_bytes
    uint64_t (*busy_ns)[STK_PHASE_COUNT];           // [layer + 1]
    uint64_t (*wait_ns)[STK_PHASE_COUNT];
    // [expert][group]: neurons of this layer that some row left active. Written between the
    // barriers of the experts' phase (relaxed; the barrier orders), read and cleared after it.
    _Atomic uint32_t *touched;
    atomic_uchar *by_workers;  // [expert], likewise: some worker read its gate
    stk_meter_slot *slots;     // [worker]
    stk_gpu_span *gpu_spans;   // [spans_max], a ring; worker 0 and the caller's thread write it
    uint64_t gpu_span_count;   // ever written
    stk_metrics_node *by_node; // [node], summed on read
    stk_metrics view;
} stk_meter;

// STK_NO_MEMORY: not logged.
STK_CHECKED stk_status stk_meter_open(stk_session *session, uint32_t trace_forwards);
void stk_meter_close(stk_session *session);

// Every worker, when a forward begins, and in place of the barrier that ends a phase.
void stk_meter_begin(stk_session *session, stk_worker *worker);
void stk_phase_end(stk_session *session, stk_worker *worker, uint32_t layer, stk_phase phase);

// In the experts' phase: the gate weights of `groups` groups of `expert` were read.
void stk_meter_gate(stk_session *session, const struct stk_expert_scratch *scratch, uint32_t layer,
                    uint32_t expert, uint32_t groups);
uint64_t stk_meter_now_ns(void); // the clock of all this
// The time, or 0 where nothing is traced; and what the GPU did from begin_ns until now.
uint64_t stk_meter_gpu_begin(const stk_session *session);
void stk_meter_gpu_end(stk_session *session, stk_gpu_span_kind kind, uint32_t layer,
                       uint64_t begin_ns);

// In the experts' phase: groups [begin, end) of `expert` were run for one row; scratch lists their
// active neurons.
void stk_meter_active(stk_session *session, const struct stk_expert_scratch *scratch,
                      uint32_t layer, uint32_t expert, uint32_t begin, uint32_t end);
// Likewise where every neuron's weights were read at once for some rows, `active_count` of them for
// a reason.
void stk_meter_dense(stk_session *session, const struct stk_expert_scratch *scratch, uint32_t layer,
                     uint32_t expert, uint32_t rows, uint64_t active_count);
// One worker, after that phase and before the next layer's.
void stk_meter_layer(stk_session *session, uint32_t layer);
// Instead of it, when the forward failed: forgets the layer.
void stk_meter_abandon(stk_session *session);
// The caller's thread, after a forward and before the sequences grow.
void stk_meter_forward(stk_session *session);

#endif
