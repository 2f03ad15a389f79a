// engine/metrics.h: what a session's forward passes read, computed and waited for.
//
// Owns the counters only. Every worker writes to a slot of its own or to words nobody else writes
// in that phase; reading sums the slots, so nothing locks and nothing is timed unless asked for.
// A byte is counted once per forward pass that touches it, in the layout the kernels read
// (model/matrix.h): what must come from memory when the caches hold nothing from before. Norm
// weights count as attention's, the last one as the head's. Invariant: counting changes no result.
#ifndef STK_ENGINE_METRICS_H
#define STK_ENGINE_METRICS_H

#include "engine/session.h"

typedef enum stk_component {
    STK_COMPONENT_EMBEDDING, // one row per token
    STK_COMPONENT_ATTENTION, // q, k, v and output projections
    STK_COMPONENT_KV,        // keys and values of the visible positions
    STK_COMPONENT_ROUTER,
    STK_COMPONENT_GATE, // every neuron of the chosen experts
    STK_COMPONENT_UP,   // active neurons only
    STK_COMPONENT_DOWN, // active neurons, and the scales of their groups
    STK_COMPONENT_HEAD,
    STK_COMPONENT_COUNT
} stk_component;

// What lies between two barriers. Those from STK_PHASE_PROJECT to STK_PHASE_COMBINE come once per
// layer.
typedef enum stk_phase {
    STK_PHASE_EMBED,
    STK_PHASE_PROJECT, // router, q, k, v
    STK_PHASE_ROUTE,   // choice of experts, rotation, KV append
    STK_PHASE_ATTEND,
    STK_PHASE_QUANTIZE, // attention's result
    STK_PHASE_OUTPUT,   // attention's output projection
    STK_PHASE_NORM,
    STK_PHASE_EXPERTS,
    STK_PHASE_COMBINE,
    STK_PHASE_HEAD_NORM,
    STK_PHASE_HEAD,
    STK_PHASE_CHAIN, // layers that follow each other on a GPU, from the one named on
    STK_PHASE_COUNT
} stk_phase;

// Lowercase names: "attention", "experts". Never NULL.
const char *stk_component_name(stk_component component);
const char *stk_phase_name(stk_phase phase);

// Bytes of experts that a memory node holds, by who read them. Here a byte counts every time that a
// worker reads it.
typedef struct stk_metrics_node {
    uint64_t own_bytes;   // workers of that node
    uint64_t other_bytes; // workers of other nodes
} stk_metrics_node;

// Sums since the session was opened or its metrics were reset.
typedef struct stk_metrics {
    uint64_t forwards;
    uint64_t tokens; // rows of all forwards
    uint64_t bytes[STK_COMPONENT_COUNT];
    uint64_t gpu_bytes[STK_COMPONENT_COUNT];  // of which a GPU read; its up and down in neither
    uint64_t operations[STK_COMPONENT_COUNT]; // multiplications and additions, two per weight
    uint32_t layer_count, expert_count, expert_used_count, ffn_width;
    const uint64_t *expert_use; // [layer][expert]: tokens that chose it
    // [layer]: neurons of the experts that workers computed, over tokens; and those for a reason.
    // What a GPU finds active stays there.
    const uint64_t *gated_neurons, *active_neurons;
    const stk_metrics_node *nodes; // [node_count]
    uint32_t node_count;
    // Worker 0 only, while timing was on: [layer][phase], the phases outside layers in row
    // layer_count. Waiting is for the other workers, at the barrier that ends the phase.
    const uint64_t (*busy_ns)[STK_PHASE_COUNT];
    const uint64_t (*wait_ns)[STK_PHASE_COUNT];
} stk_metrics;

uint64_t stk_metrics_bytes(const stk_metrics *metrics);      // of all components
uint64_t stk_metrics_gpu_bytes(const stk_metrics *metrics);  // likewise, what a GPU read
uint64_t stk_metrics_operations(const stk_metrics *metrics); // of all components
// Of the bytes of experts, those read by workers of the node that holds them; 1 when none were
// read.
double stk_metrics_own_fraction(const stk_metrics *metrics);

// One phase of one worker, on the monotonic clock.
typedef struct stk_span {
    uint64_t begin_ns, end_ns; // of the work
    uint64_t released_ns;      // when the barrier after it let the worker go
    uint32_t layer;            // layer_count outside layers
    stk_phase phase;
} stk_span;

typedef enum stk_gpu_span_kind {
    STK_GPU_SPAN_JOB,    // experts on the GPU: from submission until the host saw them done
    STK_GPU_SPAN_ATTEND, // a layer's norm to router's input, likewise
    STK_GPU_SPAN_HEAD,   // likewise; its layer is the count of layers
    STK_GPU_SPAN_UPLOAD, // an expert on its way to it, likewise
    STK_GPU_SPAN_CHAIN,  // layers from this one on, likewise
    STK_GPU_SPAN_SUBMIT, // worker 0 hands over the layer's experts
    STK_GPU_SPAN_WAIT,   // worker 0 has no more work of its own and waits for them
} stk_gpu_span_kind;

// What the GPU did, or worker 0 for it, on the monotonic clock.
typedef struct stk_gpu_span {
    uint64_t begin_ns, end_ns;
    uint32_t layer;
    stk_gpu_span_kind kind;
} stk_gpu_span;

// Thread-safety of all below: as the session's; not during a forward.

// Borrowed, valid until the next call for this session or its close.
const stk_metrics *stk_session_metrics(stk_session *session);
void stk_session_metrics_reset(stk_session *session); // spans too

// Whether forwards are timed (and traced, when the session has trace_forwards). Off at open; it
// costs two readings of the clock per phase and worker.
void stk_session_set_timing(stk_session *session, bool is_timing);

// Copies the newest spans of a worker to out[max], oldest first, and returns how many. At most
// those of the last trace_forwards forwards are kept.
uint32_t stk_session_spans(const stk_session *session, uint32_t worker, stk_span *out,
                           uint32_t max);
// Likewise what the GPU did, in the order in which it ended.
uint32_t stk_session_gpu_spans(const stk_session *session, stk_gpu_span *out, uint32_t max);

#endif
