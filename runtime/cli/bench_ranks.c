#include "cli/bench_ranks.h"

#include <stdio.h>
#include <string.h>

stk_status stk_bench_ranks_begin(stk_engine *engine)
{
    stk_message_stats unused[STK_CLUSTER_RANKS_MAX];
    return stk_engine_rank_count(engine) > 1 ? stk_pipeline_stats(engine, unused) : STK_OK;
}

static stk_bench_rank rank_of(const stk_message_stats *s, const char *host, double tokens)
{
    double busy = (double)s->busy_ns * 1e-9, idle = (double)s->idle_ns * 1e-9;
    stk_bench_rank rank = {
        .idle_fraction = busy + idle > 0 ? idle / (busy + idle) : 0,
        .busy_s_per_token = busy / tokens,
        .bytes_per_token = (double)s->token_bytes / tokens,
        .disk_bytes_per_token = (double)s->disk_bytes / tokens,
        .sent_bytes_per_token = (double)s->hop_bytes / tokens,
        .weight_bytes = s->weight_bytes,
    };
    snprintf(rank.host, sizeof rank.host, "%s", host);
    return rank;
}

stk_status stk_bench_ranks_take(stk_engine *engine, uint32_t tokens, stk_bench_ranks *out)
{
    stk_message_stats all[STK_CLUSTER_RANKS_MAX];
    stk_bench_ranks ranks = {.count = stk_engine_rank_count(engine)};
    stk_status status = STK_OK;
    if (ranks.count > 1) {
        stk_pipeline_hops hops = stk_pipeline_hops_of(engine);
        status = stk_pipeline_stats(engine, all);
        ranks.predicted = stk_engine_predicted(engine);
        ranks.overhead_s = hops.answers ? 1e-9 * (double)hops.ns / (double)hops.answers : 0;
        ranks.hop_s = hops.hops ? 1e-9 * (double)hops.ns / (double)hops.hops : 0;
    }
    for (uint32_t r = 0; r < ranks.count && ranks.count > 1 && status == STK_OK; r++)
        ranks.ranks[r] = rank_of(&all[r], stk_engine_rank_host(engine, r), tokens);
    ranks.hop_bytes = ranks.ranks[0].sent_bytes_per_token;
    ranks.logits_bytes = ranks.ranks[ranks.count - 1].sent_bytes_per_token;
    if (status == STK_OK)
        *out = ranks;
    return status;
}
