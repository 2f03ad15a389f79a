// vulkan/experts_impl.h: what experts.c and experts_slots.c share.
#ifndef STK_VULKAN_EXPERTS_IMPL_H
#define STK_VULKAN_EXPERTS_IMPL_H

#include "vulkan/experts.h"
#include "vulkan/impl.h"

enum { JOBS_MAX = 8, STAGES = 4, COPIES = 2 };

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

    // Of each layer and expert its slot, and where chains read the slots' addresses.
    uint32_t *assigned, *assigned_count; // the latter of each layer
    stk_vk_buffer table, table_in;       // the same where the CPU can write it
    VkCommandBuffer table_copy;
    bool table_changed;    // since it was copied
    uint64_t table_filled; // of the copier: chains wait for that
    uint64_t chain_value;  // of the compute queue: the newest chain
};

// Where the inputs, inner vectors and outputs of some pairs are.
typedef struct expert_places {
    VkDeviceAddress pairs, tiles; // tiles 0: pair by pair
    VkDeviceAddress q, d, sum;    // [rows]
    VkDeviceAddress h, hq, hd;    // [pairs]
    VkDeviceAddress y;            // [pairs][width]
} expert_places;

// Workgroups of the two shaders for so many pairs, or tiles.
typedef struct expert_sizes {
    VkDispatchIndirectCommand inner, down;
} expert_sizes;

// experts_bind.c
expert_sizes stk_vk_experts_sizes(const stk_vk_experts_options *options, uint32_t high);
uint64_t stk_vk_experts_inner_bytes(const stk_vk_experts_options *options, uint32_t pairs);
// Fills h, hq and hd from one buffer of that size.
void stk_vk_experts_place_inner(const stk_vk_experts_options *options, uint32_t pairs,
                                VkDeviceAddress address, expert_places *places);
// A dispatch of the size above follows; between the two a barrier.
STK_CHECKED stk_status stk_vk_experts_bind_inner(stk_vk_experts *e, VkCommandBuffer commands,
                                                 const expert_places *places);
STK_CHECKED stk_status stk_vk_experts_bind_down(stk_vk_experts *e, VkCommandBuffer commands,
                                                const expert_places *places);

STK_CHECKED stk_status stk_vk_experts_open_slots(stk_vk_experts *e);
void stk_vk_experts_close_slots(stk_vk_experts *e);
// experts_table.c
STK_CHECKED stk_status stk_vk_experts_open_table(stk_vk_experts *e);
void stk_vk_experts_close_table(stk_vk_experts *e);
uint64_t stk_vk_experts_table_bytes(const stk_vk_experts_options *options);
VkDeviceAddress stk_vk_experts_table_of(const stk_vk_experts *e, uint32_t layer);

#endif
