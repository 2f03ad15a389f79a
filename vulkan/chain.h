// vulkan/chain.h: layers that follow each other on the device. While a few rows pass through them
// the residual stream stays there, and the router's choice with it.
//
// Owns what lies between attention and experts of such layers; the weights are dense.h's, the
// slots experts.h's. Invariant: the bits are those of the same layers one by one, with the router
// and the sum over experts on the CPU.
#ifndef STK_VULKAN_CHAIN_H
#define STK_VULKAN_CHAIN_H

#include "vulkan/dense.h"
#include "vulkan/experts.h"

enum { STK_VK_CHAIN_ROWS = 4 }; // more do not pass

// Thread-safety: none; the device's thread.
typedef struct stk_vk_chain stk_vk_chain;

typedef struct stk_vk_chain_options {
    stk_vk_stream *stream;   // borrowed, must outlive the chain; at most one chain to a stream
    stk_vk_experts *experts; // likewise, opened with the model's layer_count and expert_count
    uint32_t used_count;     // experts of a row, at most 32
    bool is_softmax;         // how they are weighed; else sigmoid
} stk_vk_chain_options;

// Device memory it takes; of `experts` the sizes count.
uint64_t stk_vk_chain_bytes(const stk_vk_experts_options *experts, uint32_t used_count);

// Takes all memory and records all commands. *out is written only on STK_OK. STK_NO_MEMORY,
// STK_UNSUPPORTED (more experts than the shader takes), STK_DEVICE_LOST.
STK_CHECKED stk_status stk_vk_chain_open(const stk_vk_chain_options *options, stk_vk_chain **out);
void stk_vk_chain_close(stk_vk_chain **chain); // before its stream; waits; NULL is allowed

// Whether the layer can be passed: attention and router are on the device, and every expert is
// assigned a slot. Changes with stk_vk_experts_assign only.
bool stk_vk_chain_has(const stk_vk_chain *chain, uint32_t layer);

typedef struct stk_vk_chain_head {
    const uint32_t *rows; // [count] of the batch, count <= logit_rows_max
    uint32_t count;       // 0: no head
    bool with_logits;     // as stk_vk_stream_head
} stk_vk_chain_head;

// Starts layers [first, end) on x[rows of stk_vk_stream_begin][width], at most STK_VK_CHAIN_ROWS,
// and the head, as one submission; returns at once. STK_DEVICE_LOST.
STK_CHECKED stk_status stk_vk_chain_run(stk_vk_chain *chain, uint32_t first, uint32_t end,
                                        const float *x, const stk_vk_chain_head *head);
STK_CHECKED stk_status stk_vk_chain_wait(stk_vk_chain *chain);

// Of the last run, after waiting; borrowed until the next. The residual behind its last layer,
// unless the head was asked for: then stk_vk_stream_best and stk_vk_stream_logits have the result.
const float *stk_vk_chain_x(const stk_vk_chain *chain); // [rows][width]
typedef struct stk_vk_choice {
    uint32_t expert;
    float weight;
} stk_vk_choice;
const stk_vk_choice *stk_vk_chain_chosen(const stk_vk_chain *chain, uint32_t layer); // [rows][used]

#endif
