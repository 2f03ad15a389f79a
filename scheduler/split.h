// scheduler/split.h: which rank gets which layers.
//
// Pure: facts in, layers out; no clock, no messages. The unit of time is the second, of memory the
// byte. What is predicted is a decoded token: it visits every rank in turn, so its time is the sum
// of their stages and of the hops between them. Experts that do not fit into a rank's memory are
// read from its disk as often as they are chosen and not there. A rank's GPU computes experts
// beside its cores, as many as keep both busy.
#ifndef STK_SCHEDULER_SPLIT_H
#define STK_SCHEDULER_SPLIT_H

#include "base/status.h"
#include <stddef.h>
#include <stdint.h>

enum {
    STK_SPLIT_RANKS_MAX = 64,
    STK_SPLIT_LAYERS_MAX = 1024,
    STK_SPLIT_TIE_PERCENT = 5, // more than this is not known of a machine at the start
};

typedef struct stk_split_rank {
    uint64_t memory_bytes;     // for layers, after program, scratch and the like
    double memory_bytes_per_s; // weights its cores get through; > 0
    double disk_bytes_per_s;   // > 0
    uint64_t gpu_memory_bytes; // for experts; 0: no GPU
    double gpu_bytes_per_s;    // of its memory, by experts; > 0 with a GPU
    double gpu_layer_s;        // to hand it a layer's work and have its result
    double link_bytes_per_s; // to the next rank, of the last one to the first; 0: only hop_s counts
} stk_split_rank;

typedef struct stk_split_layer {
    uint64_t fixed_bytes;        // held in any case: attention, norms, router, KV cache
    uint64_t experts_bytes;      // held as far as there is room
    uint64_t fixed_token_bytes;  // of fixed_bytes, read for a token
    uint64_t expert_token_bytes; // of experts read for a token, from memory
    double overhead_s;           // of a token, whatever the memory's speed
    uint64_t expert_disk_bytes;  // the chosen experts, whole, as they are read from disk
} stk_split_layer;

typedef struct stk_split_problem {
    const stk_split_rank *ranks; // [rank_count]
    uint32_t rank_count;         // 1..STK_SPLIT_RANKS_MAX, at most layer_count
    const stk_split_layer *layers;
    uint32_t layer_count;         // 1..STK_SPLIT_LAYERS_MAX
    uint64_t last_fixed_bytes;    // of the last rank: the head
    uint64_t last_token_bytes;    // of them, read for a token
    uint64_t experts_least_bytes; // slots without which no rank can work
    double hop_s;                 // of a message, however short
    uint64_t hop_bytes;           // of a token, from rank to rank
    uint64_t answer_bytes;        // of a token, from the last rank to the first
} stk_split_problem;

typedef struct stk_split {
    uint32_t first[STK_SPLIT_RANKS_MAX + 1]; // rank r has layers first[r]..first[r + 1]
    double stage_s[STK_SPLIT_RANKS_MAX];     // predicted, of one token
    double token_s;                          // their sum and the hops, back to the first too
    double slowest_s;                        // of stages: a token's, where others are under way
    double resident[STK_SPLIT_RANKS_MAX];    // share of the rank's experts that fits, GPU included
    double on_gpu[STK_SPLIT_RANKS_MAX];      // share of them that its GPU computes
} stk_split;

// The split with the least time per token; of those within STK_SPLIT_TIE_PERCENT of it the one
// whose slowest stage is fastest, for prompts and several sequences. STK_NO_MEMORY: none fits, or
// there is none to think in; *out is untouched.
STK_CHECKED stk_status stk_split_plan(const stk_split_problem *problem, stk_split *out);

// Fills in what out->first implies. STK_NO_MEMORY: a rank cannot hold its layers; *rank is the
// first such one, and the times are those it would have.
STK_CHECKED stk_status stk_split_judge(const stk_split_problem *problem, stk_split *split,
                                       uint32_t *rank);

// "20,12": layers of each rank, every one at least 1, to first[rank_count + 1]. STK_INVALID: a
// phrase that completes "--split: " in error[size].
STK_CHECKED stk_status stk_split_parse(const char *text, uint32_t rank_count, uint32_t layer_count,
                                       uint32_t *first, char *error, size_t size);

#endif
