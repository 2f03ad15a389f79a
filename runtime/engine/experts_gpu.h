// engine/experts_gpu.h: the experts a GPU keeps and computes while the CPU computes the others.
//
// Owns its slots on the device and the jobs in flight. Which experts it has changes with their use,
// at token boundaries only. Invariant: an output is the CPU's to the bit, so the share of the GPU
// never changes a token.
#ifndef STK_ENGINE_EXPERTS_GPU_H
#define STK_ENGINE_EXPERTS_GPU_H

#include "engine/engine.h"
#include "engine/session.h"

// Thread-safety: none; worker 0 between barriers. stk_gpu_has may be called by any worker.
typedef struct stk_gpu stk_gpu;

// Gives the engine's device its share of the experts, after the store has opened. *out stays NULL
// where the CPU is to do everything, also for want of device memory, which is said.
// STK_UNSUPPORTED: the device computes other bits.
STK_CHECKED stk_status stk_gpu_open(stk_engine *engine, const stk_engine_options *options,
                                    stk_gpu **out);
void stk_gpu_close(stk_gpu **gpu); // sets it to NULL; NULL is allowed

// Whether the GPU computes that expert. NULL and a lost device have none.
bool stk_gpu_has(const stk_gpu *gpu, uint32_t layer, uint32_t expert);
uint32_t stk_gpu_expert_count(const stk_gpu *gpu);
// The same, or it has taken that expert for this layer.
bool stk_gpu_computes(const stk_gpu *gpu, uint32_t layer, uint32_t expert);
// Of experts[0..count), which the store was asked for and the GPU does not have, takes those that
// it had better compute in this layer.
void stk_gpu_take(stk_session *session, uint32_t layer, const uint32_t *experts, uint32_t count);
uint64_t stk_gpu_taken_count(const stk_gpu *gpu); // experts it took, since open
// Host memory that jobs take on a device that shares it.
uint64_t stk_gpu_shared_bytes(const stk_engine *engine);

// At a token boundary: experts that have arrived count, others start on their way, and memory is
// given back where other programs need it. Never waits. Without a GPU it does nothing.
void stk_gpu_turn(stk_session *session);
uint64_t stk_gpu_moved_count(const stk_gpu *gpu); // experts that came in since open

// Starts the layer's products with experts the GPU has, from session->normed.
void stk_gpu_begin(stk_session *session, uint32_t layer);
// Waits for them and fills session->expert_outputs. A lost device makes the forward fail with
// STK_DEVICE_LOST, and from then on stk_gpu_has is false.
void stk_gpu_end(stk_session *session, uint32_t layer);

#endif
