#include "engine/pipeline.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/pages.h"
#include "engine/metrics.h"
#include "engine/pipeline_impl.h"
#include "engine/together.h"

uint64_t stk_pipeline_now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

stk_status stk_pipeline_open(stk_engine *engine, const stk_engine_options *options)
{
    stk_pipeline *p = calloc(1, sizeof *p);
    if (!p)
        return STK_NO_MEMORY;
    p->cluster = engine->cluster;
    p->rank = stk_cluster_rank(p->cluster);
    p->count = stk_cluster_count(p->cluster);
    p->hop = (stk_hop)options->hop;
    engine->pipeline = p;
    return STK_OK;
}

stk_status stk_pipeline_start(stk_engine *engine, stk_status mine)
{
    stk_status status = stk_together_ready(engine, mine);
    engine->pipeline->is_started = status == STK_OK;
    return status;
}

void stk_pipeline_send(stk_pipeline *p, uint32_t to, const stk_message *message)
{
    uint64_t begin = stk_pipeline_now_ns();
    void *data = stk_cluster_send_begin(p->cluster);
    p->stats.idle_ns += stk_pipeline_now_ns() - begin;
    stk_cluster_send_end(p->cluster, to, stk_message_encode(message, data, SIZE_MAX));
}

void stk_pipeline_close(stk_engine *engine)
{
    stk_pipeline *p = engine->pipeline;
    if (!p)
        return;
    if (p->rank == 0 && p->is_started)
        stk_pipeline_send(p, 1, &(stk_message){.type = STK_MESSAGE_QUIT});
    free(p);
    engine->pipeline = NULL;
}

bool stk_pipeline_is_first(const stk_engine *engine)
{
    return engine->pipeline && engine->pipeline->rank == 0;
}

uint32_t stk_engine_rank_count(const stk_engine *engine)
{
    return engine->pipeline ? engine->pipeline->count : 1;
}

const char *stk_engine_rank_host(const stk_engine *engine, uint32_t rank)
{
    return engine->cluster ? stk_cluster_host(engine->cluster, rank) : "";
}

stk_pipeline_hops stk_pipeline_hops_of(const stk_engine *engine)
{
    return engine->pipeline->hops;
}

// ---- sessions ----

// What came back of one forward: slots of its rows, and of each slot a token or logits.
static uint64_t flight_bytes(const stk_session *s)
{
    return s->batch_rows_max * sizeof(uint32_t) +
           s->logit_rows_max * (sizeof(int32_t) + (uint64_t)s->vocab_padded * sizeof(float));
}

uint64_t stk_pipeline_session_bytes(const stk_session *s)
{
    const stk_pipeline *p = s->engine->pipeline;
    uint32_t width = s->engine->model.width, rows = s->batch_rows_max;
    uint64_t halves = p->hop == STK_HOP_F16 ? (uint64_t)rows * width * 2 : 0;
    uint64_t flights = p->rank == 0 ? s->inflight_max * (flight_bytes(s) + sizeof(stk_flight)) : 0;
    uint64_t sampler = p->rank == p->count - 1 ? stk_sampler_bytes(s->engine->model.vocab_size) : 0;
    return stk_cluster_reserve_bytes(stk_message_bytes_max(rows, width)) + halves + flights +
           sampler + rows * (sizeof(stk_message_row) + sizeof(stk_row));
}

static void free_rows(stk_pipeline *p)
{
    free(p->rows);
    free(p->rows_in);
    free(p->halves);
    free(p->flights);
    stk_pages_free(p->flight_pages, p->flight_pages_bytes);
    stk_sampler_close(&p->sampler);
    p->rows = NULL;
    p->rows_in = NULL;
    p->halves = NULL;
    p->flights = NULL;
    p->flight_pages = NULL;
    p->rows_max = 0;
}

static stk_status take_flights(stk_pipeline *p, const stk_session *s)
{
    p->flights_max = s->inflight_max;
    p->flight_first = p->flight_count = 0;
    p->flights = calloc(p->flights_max, sizeof *p->flights);
    p->flight_pages_bytes = p->flights_max * flight_bytes(s);
    p->flight_pages = stk_session_take_pages(s, p->flight_pages_bytes);
    if (!p->flights || !p->flight_pages)
        return STK_NO_MEMORY;
    float *logits = p->flight_pages; // first: they have the largest alignment
    int32_t *picked = (int32_t *)(void *)(logits + (size_t)p->flights_max * s->logit_rows_max *
                                                       s->vocab_padded);
    uint32_t *slots = (uint32_t *)(void *)(picked + (size_t)p->flights_max * s->logit_rows_max);
    for (uint32_t i = 0; i < p->flights_max; i++)
        p->flights[i] = (stk_flight){
            .logits = logits + (size_t)i * s->logit_rows_max * s->vocab_padded,
            .picked = picked + (size_t)i * s->logit_rows_max,
            .slot = slots + (size_t)i * s->batch_rows_max,
        };
    return STK_OK;
}

// Its options come with each forward that draws.
static stk_status take_sampler(stk_pipeline *p, const stk_session *s)
{
    const stk_sampler_options options = {
        .top_p = 1, .repeat_penalty = 1, .repeat_last = STK_SAMPLER_WINDOW_MAX};
    return stk_sampler_open(&options, s->engine->model.vocab_size, &p->sampler);
}

static stk_status take_rows(stk_pipeline *p, const stk_session *s)
{
    uint32_t rows = s->batch_rows_max, width = s->engine->model.width;
    p->rows = malloc(rows * sizeof *p->rows);
    p->rows_in = malloc(rows * sizeof *p->rows_in);
    p->halves = malloc(p->hop == STK_HOP_F16 ? (size_t)rows * width * sizeof *p->halves : 1);
    p->rows_max = rows;
    stk_status status = p->rows && p->rows_in && p->halves ? STK_OK : STK_NO_MEMORY;
    if (status == STK_OK && p->rank == 0)
        status = take_flights(p, s);
    if (status == STK_OK && p->rank == p->count - 1)
        status = take_sampler(p, s);
    if (status == STK_OK)
        status = stk_cluster_reserve(p->cluster, stk_message_bytes_max(rows, width));
    if (status != STK_OK)
        free_rows(p);
    return status;
}

stk_status stk_pipeline_session_opened(stk_session *s)
{
    stk_pipeline *p = s->engine->pipeline;
    if (p->session)
        return stk_fail(s->engine->log, STK_BUSY, "ranks run one session at a time");
    stk_status status = take_rows(p, s);
    if (status != STK_OK)
        return status;
    p->session = s;
    memset(&p->stats, 0, sizeof p->stats);
    if (p->rank > 0)
        return STK_OK;
    p->failed = STK_OK;
    stk_pipeline_send(p, 1,
                      &(stk_message){.type = STK_MESSAGE_OPEN,
                                     .u.open = {s->context_tokens, s->sequence_count,
                                                s->batch_rows_max, s->logit_rows_max, s->full_kv}});
    for (uint32_t i = 1; i < p->count; i++) {
        stk_message_reply reply;
        stk_status answer = stk_pipeline_await(p, STK_MESSAGE_OPEN, &reply);
        status = status == STK_OK ? answer : status;
    }
    return p->failed = status;
}

void stk_pipeline_session_closed(stk_session *s)
{
    stk_pipeline *p = s->engine->pipeline;
    if (p->session != s)
        return;
    if (p->rank == 0) {
        stk_pipeline_land(p);
        stk_pipeline_send(p, 1, &(stk_message){.type = STK_MESSAGE_CLOSE});
    }
    p->session = NULL;
    free_rows(p);
}

void stk_pipeline_truncate(stk_session *s, uint32_t sequence, uint32_t length_tokens)
{
    stk_pipeline *p = s->engine->pipeline;
    if (p->rank == 0)
        stk_pipeline_send(
            p, 1,
            &(stk_message){.type = STK_MESSAGE_TRUNCATE, .u.truncate = {sequence, length_tokens}});
}

// ---- figures ----

// Of a counter that somebody else may have set to zero in between.
static uint64_t since(uint64_t now, uint64_t *before)
{
    uint64_t more = now >= *before ? now - *before : now;
    *before = now;
    return more;
}

stk_message_stats stk_pipeline_take_stats(stk_pipeline *p)
{
    stk_engine *e = p->session->engine;
    stk_message_stats stats = p->stats;
    stk_expert_store_stats store = stk_expert_store_get_stats(e->store);
    uint64_t bytes = stk_metrics_bytes(stk_session_metrics(p->session));
    stats.weight_bytes = stk_engine_weight_bytes(e);
    stats.token_bytes = since(bytes, &p->reported_bytes);
    stats.disk_bytes = since(store.read_bytes, &p->reported_disk_bytes);
    stats.experts_wanted = since(store.wanted, &p->reported_wanted);
    stats.experts_hit = since(store.hits, &p->reported_hits);
    memset(&p->stats, 0, sizeof p->stats);
    return stats;
}

stk_status stk_pipeline_stats(stk_engine *engine, stk_message_stats *all)
{
    stk_pipeline *p = engine->pipeline;
    stk_status status = p->flight_count > 0 ? STK_BUSY : p->failed;
    if (status != STK_OK)
        return status;
    stk_pipeline_send(p, 1, &(stk_message){.type = STK_MESSAGE_STATS});
    all[0] = stk_pipeline_take_stats(p);
    for (uint32_t i = 1; i < p->count && status == STK_OK; i++) {
        stk_message_reply reply;
        status = stk_pipeline_await(p, STK_MESSAGE_STATS, &reply);
        if (status == STK_OK)
            all[reply.rank] = reply.stats;
    }
    p->hops = (stk_pipeline_hops){0};
    return status;
}
