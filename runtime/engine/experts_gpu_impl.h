// engine/experts_gpu_impl.h: what the files about the GPU's experts share.
//
//   experts_gpu.c        one layer's jobs
//   experts_gpu_place.c  which experts it starts with, and filling it with them
//   experts_gpu_move.c   which it has later: usage, room, uploads between tokens
//   experts_gpu_take.c   which others it computes in a layer, decided by the router's choice
//   experts_gpu_probe.c  whether it computes the right bits
#ifndef STK_ENGINE_EXPERTS_GPU_IMPL_H
#define STK_ENGINE_EXPERTS_GPU_IMPL_H

#include "engine/engine_impl.h"
#include "scheduler/residency.h"
#include "store/expert_layout.h"
#include "vulkan/experts.h"

enum {
    STK_GPU_JOB_ROWS = 32,
    STK_GPU_JOBS = 8,
    STK_GPU_MOVES = 2,  // uploads on their way, each into a slot of its own
    STK_GPU_STAGES = 4, // slots for experts that are copied when they are chosen
    STK_GPU_STAGES_MAX = 8,
};
#define STK_GPU_NO_SLOT STK_VK_NO_SLOT

// A job in flight: pair i of it is pair pairs[i] of the batch.
typedef struct stk_gpu_job {
    uint32_t number, count;
    uint64_t begin_ns; // of its submission, where it is traced
    uint32_t *pairs;   // [STK_GPU_JOB_ROWS * used]
} stk_gpu_job;

typedef enum stk_gpu_move_state {
    STK_GPU_MOVE_NONE,
    STK_GPU_MOVE_READING, // pinned in the store, perhaps still being read
    STK_GPU_MOVE_COPYING, // on its way to `slot`
} stk_gpu_move_state;

// An expert on its way to the device. Until it is there the one that gives way stays.
typedef struct stk_gpu_move {
    stk_gpu_move_state state;
    uint32_t layer, expert, slot;
    uint32_t victim;   // of the same layer; STK_GPU_NO_SLOT: nobody gives way
    uint64_t begin_ns; // of the copy, where it is traced
} stk_gpu_move;

struct stk_gpu {
    const stk_log *log;
    stk_engine *engine;     // borrowed, as what follows
    stk_gpu_device *device; //
    stk_vk *vk;             // its
    stk_vk_experts *experts;
    stk_expert_layout layout; // what its experts look like; layers of other types stay with the CPU
    uint32_t layer_count, expert_count;
    uint32_t *slot_of; // [layer][expert], STK_GPU_NO_SLOT: the CPU's
    uint32_t *quota;   // [layer]: experts it may have
    uint32_t held;     // experts it has

    uint32_t *free_slots; // [slots], free_count of them
    uint32_t free_count;
    stk_gpu_move moves[STK_GPU_MOVES];
    uint32_t layer_next;  // whose residency is looked at next
    uint64_t turns;       // token boundaries so far
    uint64_t moved_count; // experts that came in after open
    float *usage;         // [expert], scratch
    bool *resident;       // likewise
    bool *fits;           // [layer]: its experts look like `layout`
    bool in_place, churns;

    // What it computes in the layer at hand though it is not there for good (experts_gpu_take.c).
    uint32_t *taken;                 // [expert], the slot; STK_GPU_NO_SLOT: nothing
    const uint8_t *pool;             // slots of the store that it reads in place; NULL: none
    uint32_t pool_slots, pool_first; // how many, and the number of the first
    uint32_t *pins, pin_count;       // [expert]: held in the store until the layer is done
    uint32_t stage_slots[STK_GPU_STAGES_MAX], stage_count;
    uint64_t stage_begin_ns[STK_GPU_STAGES_MAX]; // of the copy, where it is traced
    bool stages_forced;
    uint32_t staged_count; // in this layer
    uint64_t taken_count;  // ever
    uint64_t taken_ns;     // when the choice was known, then when attention was done
    double attention_s, expert_cpu_s, copy_s; // 0: not known

    stk_gpu_job jobs[STK_GPU_JOBS]; // a ring: oldest, and how many
    uint32_t oldest, in_flight;
    uint32_t *pairs;       // of all jobs
    stk_vk_pair *vk_pairs; // [STK_GPU_JOB_ROWS * used]
    stk_vk_row rows[STK_GPU_JOB_ROWS];
};

static inline uint32_t *stk_gpu_slot(const stk_gpu *gpu, uint32_t layer, uint32_t expert)
{
    return &gpu->slot_of[(size_t)layer * gpu->expert_count + expert];
}

// The same, changed: chains learn of it.
static inline void stk_gpu_set_slot(stk_gpu *gpu, uint32_t layer, uint32_t expert, uint32_t slot)
{
    *stk_gpu_slot(gpu, layer, expert) = slot;
    stk_vk_experts_assign(gpu->experts, layer, expert, slot);
}

// Takes the device's memory and fills it with a share of each layer's experts, the most used
// ones if that is known. gpu->held stays 0 where none fits. STK_UNSUPPORTED: other bits;
// STK_NO_MEMORY, STK_DEVICE_LOST.
STK_CHECKED stk_status stk_gpu_place(stk_gpu *gpu, const stk_engine_options *options);

bool stk_gpu_is_nth(const stk_gpu *gpu, uint32_t layer, uint32_t expert); // one of the quota

// experts_gpu_take.c: before the layer's jobs are submitted, when the workers are through with
// their experts, and when the jobs are done.
void stk_gpu_take_begin(stk_session *session, uint32_t layer);
void stk_gpu_take_computed(stk_session *session);
void stk_gpu_take_end(stk_session *session, uint32_t layer);

// After a submission of the layer's jobs: sends experts that have been read. STK_DEVICE_LOST.
STK_CHECKED stk_status stk_gpu_send(stk_session *session);
// Gives back what moves hold in the store.
void stk_gpu_drop_moves(stk_gpu *gpu);

// Computes the expert in `slot` on both sides for a few invented rows; *equal: the same bits.
STK_CHECKED stk_status stk_gpu_probe(stk_engine *engine, stk_vk_experts *experts,
                                     const stk_expert_kernels *kernels, const stk_expert *expert,
                                     uint32_t slot, bool *equal);

#endif
