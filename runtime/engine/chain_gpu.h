// engine/chain_gpu.h: runs of layers that a GPU computes without coming back to the host.
//
// Knows which layers those are in a forward, and does for them on the host what the router's choice
// asks for: use is counted, and whoever listens is told. Invariant: a chain changes no bit.
#ifndef STK_ENGINE_CHAIN_GPU_H
#define STK_ENGINE_CHAIN_GPU_H

#include "engine/engine.h"
#include "engine/session.h"
#include "vulkan/chain.h"

// Device memory of a session's chain, whatever becomes of it.
uint64_t stk_gpu_chain_bytes(const stk_engine *engine);
// session->chain stays NULL where layers come back one by one.
void stk_gpu_chain_open(stk_session *session);
void stk_gpu_chain_close(stk_session *session);

// Before a forward: which layers follow each other on the device. What it says does not change on
// the way.
void stk_gpu_chain_plan(stk_session *session);
// The layer behind the run that begins with `layer`; `layer` itself: none begins there.
uint32_t stk_gpu_chain_end(const stk_session *session, uint32_t layer);
// Whether the last run computes the head too.
bool stk_gpu_chain_heads(const stk_session *session);
// Worker 0: runs layers [first, end) on session->x. A lost device makes the forward fail with
// STK_DEVICE_LOST.
void stk_gpu_chain_run(stk_session *session, uint32_t first, uint32_t end);

#endif
