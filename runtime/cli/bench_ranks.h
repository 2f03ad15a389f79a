// cli/bench_ranks.h: what each rank did in a bench over several, and what their hops cost.
#ifndef STK_CLI_BENCH_RANKS_H
#define STK_CLI_BENCH_RANKS_H

#include "cluster/cluster.h"
#include "engine/pipeline.h"
#include <stdint.h>

typedef struct stk_bench_rank {
    char host[STK_CLUSTER_HOST_BYTES];
    double idle_fraction; // of the time it computed or waited
    double busy_s_per_token, bytes_per_token, disk_bytes_per_token;
    double sent_bytes_per_token; // to the next rank, or logits to the first
    uint64_t weight_bytes;
} stk_bench_rank;

typedef struct stk_bench_ranks {
    uint32_t count;                  // 1: one process, and nothing else here is filled
    stk_engine_prediction predicted; // of a decoded token
    double overhead_s;               // of a token that waits for its logits: all its hops
    double hop_s;                    // of one of them, mean
    double hop_bytes;                // between neighbours, of a token
    double logits_bytes;             // back to the first
    stk_bench_rank ranks[STK_CLUSTER_RANKS_MAX];
} stk_bench_ranks;

// From now on it counts. STK_OK where there is one rank.
STK_CHECKED stk_status stk_bench_ranks_begin(stk_engine *engine);
// What `tokens` tokens since then took; *out has count 1 where there is one rank.
STK_CHECKED stk_status stk_bench_ranks_take(stk_engine *engine, uint32_t tokens,
                                            stk_bench_ranks *out);

#endif
