// engine/experts_gpu_impl.h: what the files about the GPU's experts share.
#ifndef STK_ENGINE_EXPERTS_GPU_IMPL_H
#define STK_ENGINE_EXPERTS_GPU_IMPL_H

#include "engine/engine_impl.h"
#include "vulkan/experts.h"

// Computes the expert in `slot` on both sides for a few invented rows; *equal: the same bits.
STK_CHECKED stk_status stk_gpu_probe(stk_engine *engine, stk_vk_experts *experts,
                                     const stk_expert_kernels *kernels, const stk_expert *expert,
                                     uint32_t slot, bool *equal);

#endif
