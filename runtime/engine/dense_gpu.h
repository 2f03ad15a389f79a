// engine/dense_gpu.h: attention of some layers, with their KV cache, and the head on a GPU.
//
// Owns their weights on the device, and of each session what it keeps there. The residual stream
// and the router stay with the CPU, so experts are announced while the device computes, but for
// runs of layers that are wholly on the device (chain_gpu.h). Invariant: a lost device loses
// nothing: the session computes its sequences' keys and values again.
#ifndef STK_ENGINE_DENSE_GPU_H
#define STK_ENGINE_DENSE_GPU_H

#include "engine/engine.h"
#include "engine/session.h"
#include "vulkan/dense.h"

// What of the model goes to the device, decided from sizes alone before anything is loaded.
typedef struct stk_gpu_share {
    bool *layers; // [layer]; NULL: none
    uint32_t layer_count;
    bool has_head;
    bool in_place;         // the device reads the weights where they are
    bool is_separate;      // tests and comparisons: layers never follow each other there
    bool shares_memory;    // what the device takes is the host's
    uint64_t stream_bytes; // a session as planned
} stk_gpu_share;

// Fills engine->share. STK_NO_MEMORY: the host's.
STK_CHECKED stk_status stk_gpu_share_plan(stk_engine *engine, const stk_engine_options *options);
// Device memory that is left beside the share and a session as planned.
uint64_t stk_gpu_room_bytes(const stk_engine *engine);
bool stk_gpu_share_has(const stk_gpu_share *share, uint32_t layer);
// Brings the weights to the device; what does not fit after all stays with the CPU, with a message.
STK_CHECKED stk_status stk_gpu_share_open(stk_engine *engine, const stk_engine_options *options);
void stk_gpu_share_close(stk_engine *engine);

// A session's part: session->stream stays NULL where the CPU computes everything.
STK_CHECKED stk_status stk_gpu_stream_open(stk_session *session);
void stk_gpu_stream_close(stk_session *session);

// ---- the forward pass; worker 0, but for take_row ----

// Whether this forward's attention of a layer, and its head, are the device's.
bool stk_gpu_attends(const stk_session *session, uint32_t layer);
bool stk_gpu_heads(const stk_session *session);
// Each of these makes the forward fail with STK_DEVICE_LOST when the device is lost.
void stk_gpu_attend_forward(stk_session *session);               // after the embedding
void stk_gpu_attend_begin(stk_session *session, uint32_t layer); // from session->x
void stk_gpu_attend_end(stk_session *session, uint32_t layer);
void stk_gpu_attend_take_row(stk_session *session, uint32_t row); // then: fills x and normed
void stk_gpu_head_run(stk_session *session, uint32_t slot_count);
// What a failed call to the device means to the forward. STK_OK: nothing.
void stk_gpu_check(stk_session *session, stk_status status);

#endif
