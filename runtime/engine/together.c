#include "engine/together.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/cluster.h"
#include "cluster/message.h"
#include "engine/engine_impl.h"
#include "engine/speed_probe.h"
#include "scheduler/split.h"
#include "store/model_identity.h"

enum { PING_BYTES = 16 << 10, ERROR_BYTES = 256 };

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
    double link_bytes_per_s; // to the next rank
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

static void report_split(const stk_engine *e, const stk_split *split, const facts *all,
                         double hop_s)
{
    uint32_t count = stk_cluster_count(e->cluster);
    for (uint32_t r = 0; r < count; r++) {
        const stk_speed *speed = &all[r].speed;
        char gpu[96] = "";
        if (speed->gpu_memory_bytes > 0)
            snprintf(gpu, sizeof gpu, ", a GPU with %.0f MiB at %.0f GB/s for %.0f %% of them",
                     (double)speed->gpu_memory_bytes / 0x1p20, speed->gpu_bytes_per_s * 1e-9,
                     100 * split->on_gpu[r]);
        stk_info(e->log,
                 "rank %u on %s: layers %u to %u, %.0f %% of their experts fit; %u threads, %.1f "
                 "GB/s of weights, disk %.2f GB/s, %.0f MiB for layers%s; %.2f ms per token "
                 "expected; %.2f GB/s to rank %u",
                 r, stk_cluster_host(e->cluster, r), split->first[r], split->first[r + 1] - 1,
                 100 * split->resident[r], all[r].threads, speed->memory_bytes_per_s * 1e-9,
                 speed->disk_bytes_per_s * 1e-9, (double)all[r].memory_bytes / 0x1p20, gpu,
                 split->stage_s[r] * 1e3, all[r].link_bytes_per_s * 1e-9, (r + 1) % count);
    }
    stk_info(e->log,
             "%.1f tokens/s expected, %.1f with several texts under way; a hop takes %.0f us",
             1 / split->token_s, 1 / split->slowest_s, hop_s * 1e6);
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
            .gpu_memory_bytes = all[r].speed.gpu_memory_bytes,
            .gpu_bytes_per_s = all[r].speed.gpu_bytes_per_s,
            .gpu_layer_s = all[r].speed.gpu_layer_s,
            .link_bytes_per_s = all[r].link_bytes_per_s,
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
        .hop_bytes = m->width * (options->hop == STK_HOP_F16 ? sizeof(uint16_t) : sizeof(float)),
        .answer_bytes = sizeof(int32_t), // sampled; all logits: stk_engine_prediction
    };
    stk_status status;
    if (options->split) {
        status = stk_split_parse(options->split, count, m->layer_total, split->first, error,
                                 sizeof error);
        if (status != STK_OK)
            (void)stk_fail(e->log, status, "--split: %s", error);
        else if (stk_split_judge(&problem, split, &rank) != STK_OK)
            split->token_s = split->slowest_s = 0; // its memory plan will say what is missing
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
    own->speed = stk_speed_probe(e, options, own->memory_bytes / 2);
}

// One after another where they share a machine, or they would measure each other.
static void take_turns(stk_engine *e, const stk_engine_options *options, facts *own, facts *all)
{
    uint32_t last = 0;
    for (uint32_t r = 0; r < stk_cluster_count(e->cluster); r++)
        last = stk_cluster_turn(e->cluster, r) > last ? stk_cluster_turn(e->cluster, r) : last;
    for (uint32_t t = 0; t <= last; t++) {
        if (t == stk_cluster_turn(e->cluster, stk_cluster_rank(e->cluster)))
            take_facts(e, options, own);
        stk_cluster_gather(e->cluster, own, sizeof *own, all);
    }
}

// With data[STK_SPEED_LINK_BYTES] to send about.
static stk_status split_with(stk_engine *e, const stk_engine_options *options, facts own,
                             void *data, stk_engine_prediction *prediction)
{
    facts all[STK_CLUSTER_RANKS_MAX];
    struct {
        uint32_t status;
        stk_split split;
    } result = {0};
    stk_cluster_gather(e->cluster, &own, sizeof own, all);
    stk_status status = compare_models(e, all);
    if (status != STK_OK)
        return status;
    take_turns(e, options, &own, all);
    size_t hop_bytes = e->model.width * sizeof(float);
    double hop_s = stk_speed_hop(e->cluster, hop_bytes < PING_BYTES ? hop_bytes : PING_BYTES);
    own.link_bytes_per_s = stk_speed_link(e->cluster, hop_s, data);
    stk_cluster_gather(e->cluster, &own, sizeof own, all);
    if (stk_cluster_rank(e->cluster) == 0)
        result.status = choose_split(e, options, all, hop_s, &result.split);
    stk_cluster_share(e->cluster, &result, sizeof result);
    if (result.status != STK_OK)
        return (stk_status)result.status;
    const uint32_t *first = &result.split.first[stk_cluster_rank(e->cluster)];
    stk_model_cut(&e->model, first[0], first[1]);
    // Who cuts by hand also knows how much the GPU is to have.
    double on_gpu = result.split.on_gpu[stk_cluster_rank(e->cluster)];
    if (!options->split && on_gpu < e->gpu_percent_max / 100.0)
        e->gpu_percent_max = (uint32_t)ceil(100 * on_gpu);
    double link = all[stk_cluster_count(e->cluster) - 1].link_bytes_per_s;
    *prediction = (stk_engine_prediction){
        .token_s = result.split.token_s,
        .slowest_s = result.split.slowest_s,
        .logits_s = (double)e->model.vocab_size * sizeof(float) / link,
    };
    return STK_OK;
}

stk_status stk_together_split(stk_engine *e, const stk_engine_options *options, stk_status mine,
                              stk_engine_prediction *prediction)
{
    facts own = {0};
    void *data = malloc(STK_SPEED_LINK_BYTES);
    *prediction = (stk_engine_prediction){0};
    if (mine == STK_OK)
        mine = data ? stk_model_identity_read(e->gguf, e->log, &own.model) : STK_NO_MEMORY;
    stk_status status = stk_together_ready(e, mine);
    if (status == STK_OK)
        status = stk_together_ready(e, stk_cluster_reserve(e->cluster, PING_BYTES));
    if (status == STK_OK)
        status = split_with(e, options, own, data, prediction);
    free(data);
    return status;
}
