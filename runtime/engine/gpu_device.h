// engine/gpu_device.h: the GPU that an engine uses, and whether it is still there.
//
// Owns the open device; experts_gpu.h and attention_gpu.h put their parts of the model on it.
// Invariant: a device once lost stays lost, and whoever finds that out tells it here.
#ifndef STK_ENGINE_GPU_DEVICE_H
#define STK_ENGINE_GPU_DEVICE_H

#include "base/team.h"
#include "engine/engine.h"
#include "vulkan/device.h"

// Thread-safety: none, but that any worker may ask whether it is lost between the barriers.
typedef struct stk_gpu_device stk_gpu_device;

// Opens options->device. *out stays NULL where the CPU is to do everything, which for "auto"
// includes a machine without a GPU. STK_INVALID: no such device; STK_UNSUPPORTED: no Vulkan, though
// asked for.
STK_CHECKED stk_status stk_gpu_device_open(const stk_engine_options *options, stk_gpu_device **out);
// What is on it must be closed before. Sets it to NULL; NULL is allowed.
void stk_gpu_device_close(stk_gpu_device **device);

stk_vk *stk_gpu_device_vk(const stk_gpu_device *device);
const char *stk_gpu_device_name(const stk_gpu_device *device); // "none" for NULL

// Where the team has several memory nodes: the caller, its opener, goes to the node that the device
// hangs off, or back. What the driver takes of the host's memory meanwhile, and what is copied, is
// the better for it; nothing else depends on it. NULL is allowed.
void stk_gpu_device_go_near(const stk_gpu_device *device, stk_team *team);
void stk_gpu_device_come_back(const stk_gpu_device *device, stk_team *team);

bool stk_gpu_device_is_lost(const stk_gpu_device *device); // NULL: false
// Says so once; the CPU goes on alone.
void stk_gpu_device_lose(stk_gpu_device *device, stk_status why);

// Tests: the next submission fails as if the device were lost.
void stk_gpu_device_inject_loss(stk_gpu_device *device);
bool stk_gpu_device_loses_now(stk_gpu_device *device); // asked before a submission

#endif
