// vulkan/experts.h: experts that live in device memory, or in host memory the device reads in
// place, and the products with them, in flight while the CPU does others.
//
// Knows slots by number and bytes; which expert is in which slot is the caller's business.
// Invariant: an output equals the CPU's to the bit (docs/arithmetic.md, section 4), so where an
// expert lives never changes a token.
#ifndef STK_VULKAN_EXPERTS_H
#define STK_VULKAN_EXPERTS_H

#include "model/matrix.h"
#include "vulkan/device.h"

// Thread-safety: none; the device's thread.
typedef struct stk_vk_experts stk_vk_experts;

typedef struct stk_vk_experts_options {
    stk_vk *vk;          // borrowed, must outlive the experts
    stk_bundle bundle;   // up and down, Q4_0; its width and ffn_width are the model's
    uint64_t bundle_at;  // bytes from a slot's start, a multiple of 64; the gate, X16 Q4_0, is at 0
    uint64_t slot_bytes; // a multiple of 4096
    uint32_t resident_slots; // in device memory, numbers 0 to resident_slots-1
    uint32_t imported_slots; // room for host memory used in place, numbers from resident_slots on
    uint32_t rows_max;       // activation rows of one job
    uint32_t pairs_max;      // (row, slot) pairs of one job, at most 65535
    uint32_t jobs_max;       // jobs in flight, 1 to 8
    // For chains (chain.h): of each layer and expert, which slot has it. 0: none.
    uint32_t layer_count, expert_count;
} stk_vk_experts_options;

// Device memory the options take, to fit resident_slots into a budget.
uint64_t stk_vk_experts_bytes(const stk_vk_experts_options *options);

// Takes all memory and compiles the shaders; later calls do not allocate. Where memory ends among
// the resident slots, there are fewer (stk_vk_experts_resident_slots). *out is written only on
// STK_OK. STK_INVALID: sizes beyond the above; STK_NO_MEMORY: none for the jobs.
STK_CHECKED stk_status stk_vk_experts_open(const stk_vk_experts_options *options,
                                           stk_vk_experts **out);
void stk_vk_experts_close(stk_vk_experts **experts); // waits for the jobs; NULL is allowed

uint32_t stk_vk_experts_resident_slots(const stk_vk_experts *experts);
// Keeps the resident slots 0 to slots-1 and gives the memory of the others back, as far as whole
// allocations become free. No job and no upload may use those.
void stk_vk_experts_shrink(stk_vk_experts *experts, uint32_t slots);

// Copies slot_bytes at `from` (free for reuse on return) into resident slot `slot`, after the jobs
// that use it. Later jobs with the slot wait for the copy, the caller does not, unless four earlier
// ones are still under way. STK_DEVICE_LOST.
STK_CHECKED stk_status stk_vk_experts_upload(stk_vk_experts *experts, uint32_t slot,
                                             const void *from);
// Says to chains where an expert is from now on; STK_VK_NO_SLOT: nowhere. No chain may be under
// way.
#define STK_VK_NO_SLOT UINT32_MAX
void stk_vk_experts_assign(stk_vk_experts *experts, uint32_t layer, uint32_t expert, uint32_t slot);
// Whether an upload that starts now would not wait for earlier ones.
bool stk_vk_experts_can_upload(stk_vk_experts *experts);
STK_CHECKED stk_status stk_vk_experts_upload_wait(stk_vk_experts *experts, uint32_t slot);
// STK_OK: the slot's upload has arrived, or there was none; STK_PENDING; STK_DEVICE_LOST.
STK_CHECKED stk_status stk_vk_experts_upload_poll(stk_vk_experts *experts, uint32_t slot);

// Lets the device read `count` slots at `host` in place, without a copy: for unified memory. They
// get the numbers *out_first to *out_first+count-1. host is borrowed until close, and what a job in
// flight uses must not be written. STK_UNSUPPORTED: not on this device, or not with this address
// (it and slot_bytes must be multiples of the device's import_align_bytes); STK_BUSY:
// imported_slots are used.
STK_CHECKED stk_status stk_vk_experts_import(stk_vk_experts *experts, void *host, uint32_t count,
                                             uint32_t *out_first);

// A row of quantised activations, as stk_act: q[width], d[width/32], sum[width/32]. Borrowed.
typedef struct stk_vk_row {
    const int8_t *q;
    const float *d;
    const int32_t *sum;
} stk_vk_row;

typedef struct stk_vk_pair {
    uint32_t row; // of the job's rows
    uint32_t slot;
} stk_vk_pair;

// Starts the product of every pair and returns at once; everything given is free for reuse. Of many
// rows those with the same slot should be neighbours: its weights are read once for four of them.
// STK_BUSY: jobs_max are in flight; STK_INVALID: a number is out of range; STK_DEVICE_LOST.
STK_CHECKED stk_status stk_vk_experts_submit(stk_vk_experts *experts, const stk_vk_row *rows,
                                             uint32_t row_count, const stk_vk_pair *pairs,
                                             uint32_t pair_count, uint32_t *out_job);
// STK_PENDING: not yet done. STK_DEVICE_LOST.
STK_CHECKED stk_status stk_vk_experts_poll(stk_vk_experts *experts, uint32_t job);
STK_CHECKED stk_status stk_vk_experts_wait(stk_vk_experts *experts, uint32_t job);

// y[width] of a pair of a finished job. Borrowed, valid until the job is given back.
const float *stk_vk_experts_output(const stk_vk_experts *experts, uint32_t job, uint32_t pair);
// The job's number and outputs may be reused. A job must be finished before.
void stk_vk_experts_release(stk_vk_experts *experts, uint32_t job);

#endif
