// vulkan/experts_impl.h: what experts.c and experts_slots.c share.
#ifndef STK_VULKAN_EXPERTS_IMPL_H
#define STK_VULKAN_EXPERTS_IMPL_H

#include "vulkan/experts.h"
#include "vulkan/impl.h"

enum { JOBS_MAX = 8, STAGES = 2, COPIES = 2 };

typedef struct expert_slot {
    VkDeviceAddress address;
    stk_vk_buffer buffer;  // of a resident slot, or of the first slot of an import
    uint64_t used_value;   // of the compute queue: the newest job that reads it
    uint64_t filled_value; // of the copier: jobs with it wait for that
} expert_slot;

// Where a job's input is, relative to its start:
//   dispatch counts of the two shaders | pairs | tiles | q | d | sum
// A tile is up to four neighbouring pairs with the same slot, which read its weights once.
typedef struct job_layout {
    uint64_t pairs_at, tiles_at, q_at, d_at, sum_at, bytes;
} job_layout;

typedef struct expert_job {
    stk_vk_buffer input;              // written by the CPU
    stk_vk_buffer local;              // where the device reads it; the same where memory is shared
    stk_vk_buffer inner;              // h, q and d of the inner vectors
    stk_vk_buffer output;             // [pairs][width]
    VkCommandBuffer commands[COPIES]; // recorded once: for a few rows, and for all
    uint64_t value;                   // of the compute queue, when done
    bool taken;
} expert_job;

// A copy on its way to device memory.
typedef struct expert_stage {
    stk_vk_buffer buffer;
    VkCommandBuffer commands;
    uint64_t value; // of the queue that copies
} expert_stage;

struct stk_vk_experts {
    stk_vk *vk;
    stk_vk_experts_options options;
    job_layout layout;
    expert_slot *slots; // [resident + imported]
    uint32_t imported_count;
    stk_vk_queue *copier; // the transfer queue, or the compute queue
    expert_stage stages[STAGES];
    uint32_t next_stage;
    expert_job jobs[JOBS_MAX];
};

STK_CHECKED stk_status stk_vk_experts_open_slots(stk_vk_experts *e);
void stk_vk_experts_close_slots(stk_vk_experts *e);

#endif
