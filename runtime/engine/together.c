#include "engine/together.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cluster/cluster.h"
#include "engine/engine_impl.h"
#include "engine/speed_probe.h"
#include "scheduler/split.h"
#include "store/model_identity.h"

enum { PING_BYTES = 16 << 10, PINGS = 12, ERROR_BYTES = 256 };

// Of the neurons of a chosen expert, those computed; models differ, and so do texts.
static const double ACTIVE_SHARE = 0.35;
// What many small products reach of the speed of one large one, and what a layer costs besides
// (attention, norms, barriers); measured, bench/2026-11-22-cluster.md.
static const double EFFICIENCY = 0.72, LAYER_OVERHEAD_S = 45e-6;

typedef struct facts {
    uint32_t threads;
    stk_model_identity model;
    uint64_t memory_bytes; // for layers
    stk_speed speed;
} facts;

stk_status stk_together_session(stk_engine *e, stk_status mine, uint32_t *context_tokens,
                                uint32_t *batch_rows)
{
    struct {
        uint32_t status, context_tokens, batch_rows;
    } own = {mine, *context_tokens, *batch_rows}, all[STK_CLUSTER_RANKS_MAX];
    stk_cluster_gather(e->cluster, &own, sizeof own, all);
    stk_status status = STK_OK;
    for (uint32_t r = 0; r < stk_cluster_count(e->cluster); r++) {
        if (all[r].context_tokens < *context_tokens)
            *context_tokens = all[r].context_tokens;
        if (all[r].batch_rows < *batch_rows)
            *batch_rows = all[r].batch_rows;
        if (all[r].status == STK_OK)
            continue;
        if (stk_cluster_rank(e->cluster) == 0)
            stk_error(e->log, "rank %u on %s: %s", r, stk_cluster_host(e->cluster, r),
                      stk_status_name((stk_status)all[r].status));
        status = status == STK_OK ? (stk_status)all[r].status : status;
    }
    return status;
}

stk_status stk_together_ready(stk_engine *e, stk_status mine)
{
    uint32_t context_tokens = 0, batch_rows = 0;
    return stk_together_session(e, mine, &context_tokens, &batch_rows);
}

// ---- is it the same model? ----

static stk_status compare_models(const stk_engine *e, const facts *all)
{
    stk_status status = STK_OK;
    uint32_t here = stk_cluster_rank(e->cluster);
    for (uint32_t r = 1; r < stk_cluster_count(e->cluster); r++) {
        if (all[r].model.hash == all[0].model.hash &&
            all[r].model.size_bytes == all[0].model.size_bytes)
            continue;
        status = STK_INVALID;
        if (here == 0)
            stk_error(e->log,
                      "rank 0 on %s has another model than rank %u on %s: hash %016" PRIx64
                      ", %" PRIu64 " bytes, against hash %016" PRIx64 ", %" PRIu64 " bytes",
                      stk_cluster_host(e->cluster, 0), r, stk_cluster_host(e->cluster, r),
                      all[0].model.hash, all[0].model.size_bytes, all[r].model.hash,
                      all[r].model.size_bytes);
    }
    return status;
}

// ---- who has which layers? ----

// The model with one layer and neither embedding nor head.
static stk_model single_layer(const stk_model *model, uint32_t layer)
{
    stk_model one = *model;
    one.layers = model->all_layers + layer;
    one.layer_count = 1;
    one.layer_first = 1;
    one.layer_total = 3;
    return one;
}

static void cost_layers(stk_engine *e, const stk_session_options *session, stk_split_layer *layers)
{
    const stk_nodes *nodes = stk_team_nodes(e->team);
    for (uint32_t i = 0; i < e->model.layer_total; i++) {
        const stk_model one = single_layer(&e->model, i);
        uint64_t dense = stk_weights_bytes(&one, nodes, true),
                 slot = stk_expert_store_slot_bytes(&one);
        layers[i] = (stk_split_layer){
            .fixed_bytes = dense + stk_session_kv_bytes_of(e, session, i),
            .experts_bytes = slot * one.expert_count,
            .fixed_token_bytes = dense,
            .expert_token_bytes = (uint64_t)((double)(slot * one.expert_used_count) *
                                             (1 + 2 * ACTIVE_SHARE) / 3),
            .expert_disk_bytes = slot * one.expert_used_count,
            .overhead_s = LAYER_OVERHEAD_S,
        };
    }
}

// What of a rank's memory is left for its layers.
static uint64_t memory_for_layers(stk_engine *e, const stk_engine_options *options,
                                  const stk_session_options *session)
{
    uint64_t bytes, least, kv = 0;
    if (stk_session_bytes(e, session, &bytes, &least) != STK_OK)
        return 0;
    for (uint32_t i = 0; i < e->model.layer_total; i++)
        kv += stk_session_kv_bytes_of(e, session, i);
    uint64_t used = bytes - kv + stk_memory_plan_program_bytes(e);
    uint64_t limit = options->memory_bytes ? options->memory_bytes
                                           : stk_memory_plan_available_bytes(e) / 100 * 85;
    return limit > used ? limit - used : 0;
}

// A small message once around all ranks, the best of some: seconds per hop.
static double measure_hop(stk_engine *e)
{
    stk_cluster *c = e->cluster;
    uint32_t rank = stk_cluster_rank(c), count = stk_cluster_count(c);
    size_t bytes = e->model.width * sizeof(float), size;
    bytes = bytes < PING_BYTES ? bytes : PING_BYTES;
    uint64_t best = UINT64_MAX;
    for (int i = 0; i < PINGS; i++) {
        struct timespec a, b;
        clock_gettime(CLOCK_MONOTONIC, &a);
        if (rank > 0)
            stk_cluster_receive(c, &size);
        memset(stk_cluster_send_begin(c), 0, bytes);
        stk_cluster_send_end(c, (rank + 1) % count, bytes);
        if (rank == 0)
            stk_cluster_receive(c, &size);
        clock_gettime(CLOCK_MONOTONIC, &b);
        uint64_t ns = (uint64_t)(b.tv_sec - a.tv_sec) * 1000000000u + (uint64_t)b.tv_nsec -
                      (uint64_t)a.tv_nsec;
        best = ns < best ? ns : best;
    }
    return (double)best * 1e-9 / count;
}

static void report_split(const stk_engine *e, const stk_split *split, const facts *all,
                         double hop_s)
{
    for (uint32_t r = 0; r < stk_cluster_count(e->cluster); r++)
        stk_info(e->log,
                 "rank %u on %s: layers %u to %u, %.0f %% of their experts fit; %u threads, %.1f "
                 "GB/s of weights, disk %.2f GB/s, %.0f MiB for layers; %.2f ms per token expected",
                 r, stk_cluster_host(e->cluster, r), split->first[r], split->first[r + 1] - 1,
                 100 * split->resident[r], all[r].threads, all[r].speed.memory_bytes_per_s * 1e-9,
                 all[r].speed.disk_bytes_per_s * 1e-9, (double)all[r].memory_bytes / 0x1p20,
                 split->stage_s[r] * 1e3);
    stk_info(e->log, "%.1f tokens/s expected; a hop takes %.0f us", 1 / split->token_s,
             hop_s * 1e6);
}

static stk_status choose_split(stk_engine *e, const stk_engine_options *options, const facts *all,
                               double hop_s, stk_split *split)
{
    const stk_session_options none = {0}, *session = options->planned_session;
    const stk_model *m = &e->model;
    uint32_t count = stk_cluster_count(e->cluster), rank;
    char error[ERROR_BYTES];
    if (count > m->layer_total)
        return stk_fail(e->log, STK_INVALID, "%u ranks for the model's %u layers: start fewer",
                        count, m->layer_total);
    stk_split_rank ranks[STK_CLUSTER_RANKS_MAX];
    stk_split_layer *layers = calloc(m->layer_total, sizeof *layers);
    if (!layers)
        return STK_NO_MEMORY;
    cost_layers(e, session ? session : &none, layers);
    for (uint32_t r = 0; r < count; r++)
        ranks[r] = (stk_split_rank){
            .memory_bytes = all[r].memory_bytes,
            .memory_bytes_per_s = all[r].speed.memory_bytes_per_s * EFFICIENCY,
            .disk_bytes_per_s = all[r].speed.disk_bytes_per_s,
        };
    uint64_t head = stk_dense_bytes(m->output->type, stk_dense_format(m->output->type, m->width),
                                    m->vocab_size, m->width);
    const stk_split_problem problem = {
        .ranks = ranks,
        .rank_count = count,
        .layers = layers,
        .layer_count = m->layer_total,
        .last_fixed_bytes = head,
        .last_token_bytes = head,
        .experts_least_bytes = stk_expert_store_slot_bytes(m) * stk_expert_store_slots_min(m),
        .hop_s = hop_s,
    };
    stk_status status;
    if (options->split) {
        status = stk_split_parse(options->split, count, m->layer_total, split->first, error,
                                 sizeof error);
        if (status != STK_OK)
            (void)stk_fail(e->log, status, "--split: %s", error);
        else if (stk_split_judge(&problem, split, &rank) != STK_OK)
            split->token_s = 0; // its memory plan will say what is missing
    } else {
        status = stk_split_plan(&problem, split);
        if (status != STK_OK)
            (void)stk_fail(e->log, status,
                           "the model does not fit into the memory of %u ranks together", count);
    }
    free(layers);
    if (status == STK_OK)
        report_split(e, split, all, hop_s);
    return status;
}

static void take_facts(stk_engine *e, const stk_engine_options *options, facts *own)
{
    const stk_session_options none = {0}, *session = options->planned_session;
    own->threads = stk_team_worker_count(e->team);
    own->memory_bytes = memory_for_layers(e, options, session ? session : &none);
    own->speed = stk_speed_probe(e, own->memory_bytes / 2);
}

stk_status stk_together_split(stk_engine *e, const stk_engine_options *options, stk_status mine,
                              double *prediction_s)
{
    facts own = {0}, all[STK_CLUSTER_RANKS_MAX];
    struct {
        uint32_t status;
        stk_split split;
    } result = {0};
    *prediction_s = 0;
    if (mine == STK_OK)
        mine = stk_model_identity_read(e->gguf, e->log, &own.model);
    stk_status status = stk_together_ready(e, mine);
    if (status != STK_OK)
        return status;
    status = stk_together_ready(e, stk_cluster_reserve(e->cluster, PING_BYTES));
    if (status != STK_OK)
        return status;
    stk_cluster_gather(e->cluster, &own, sizeof own, all);
    status = compare_models(e, all);
    if (status != STK_OK)
        return status;
    // One after another where they share a machine, or they would measure each other.
    uint32_t last = 0;
    for (uint32_t r = 0; r < stk_cluster_count(e->cluster); r++)
        last = stk_cluster_turn(e->cluster, r) > last ? stk_cluster_turn(e->cluster, r) : last;
    for (uint32_t t = 0; t <= last; t++) {
        if (t == stk_cluster_turn(e->cluster, stk_cluster_rank(e->cluster)))
            take_facts(e, options, &own);
        stk_cluster_gather(e->cluster, &own, sizeof own, all);
    }
    double hop_s = measure_hop(e);
    if (stk_cluster_rank(e->cluster) == 0)
        result.status = choose_split(e, options, all, hop_s, &result.split);
    stk_cluster_share(e->cluster, &result, sizeof result);
    if (result.status != STK_OK)
        return (stk_status)result.status;
    const uint32_t *first = &result.split.first[stk_cluster_rank(e->cluster)];
    stk_model_cut(&e->model, first[0], first[1]);
    *prediction_s = result.split.token_s;
    return STK_OK;
}
