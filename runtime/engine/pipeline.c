#include "engine/pipeline.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/half.h"
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

uint64_t stk_pipeline_session_bytes(const stk_engine *engine, uint32_t batch_rows_max)
{
    const stk_pipeline *p = engine->pipeline;
    uint32_t width = engine->model.width;
    uint64_t halves = p->hop == STK_HOP_F16 ? (uint64_t)batch_rows_max * width * 2 : 0;
    return stk_cluster_reserve_bytes(stk_message_bytes_max(batch_rows_max, width)) + halves +
           batch_rows_max * (sizeof(stk_message_row) + sizeof(stk_row));
}

static void free_rows(stk_pipeline *p)
{
    free(p->rows);
    free(p->rows_in);
    free(p->halves);
    p->rows = NULL;
    p->rows_in = NULL;
    p->halves = NULL;
    p->rows_max = 0;
}

static stk_status take_rows(stk_pipeline *p, const stk_session *s)
{
    uint32_t rows = s->batch_rows_max, width = s->engine->model.width;
    p->rows = malloc(rows * sizeof *p->rows);
    p->rows_in = malloc(rows * sizeof *p->rows_in);
    p->halves = malloc(p->hop == STK_HOP_F16 ? (size_t)rows * width * sizeof *p->halves : 1);
    p->rows_max = rows;
    if (!p->rows || !p->rows_in || !p->halves) {
        free_rows(p);
        return STK_NO_MEMORY;
    }
    return stk_cluster_reserve(p->cluster, stk_message_bytes_max(rows, width));
}

// A reply to rank 0, which logs what it says. STK_PENDING with `waits` false: there is none.
static stk_status take_reply(stk_pipeline *p, bool waits, stk_message_reply *out)
{
    const stk_log *log = p->session->engine->log;
    stk_message message;
    size_t size;
    const void *data = waits ? stk_cluster_receive(p->cluster, &size)
                             : stk_cluster_poll(p->cluster, &size);
    if (!data)
        return STK_PENDING;
    if (stk_message_decode(data, size, 0, &message) != STK_OK ||
        message.type != STK_MESSAGE_REPLY || message.u.reply.rank >= p->count)
        return p->failed = stk_fail(log, STK_FORMAT, "a rank's answer makes no sense");
    *out = message.u.reply;
    if (out->status != STK_OK)
        p->failed = stk_fail(log, (stk_status)out->status, "rank %u on %s: %s", out->rank,
                             stk_cluster_host(p->cluster, out->rank),
                             stk_status_name((stk_status)out->status));
    return (stk_status)out->status;
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
        stk_status answer = take_reply(p, true, &reply);
        status = status == STK_OK ? answer : status;
    }
    return status;
}

void stk_pipeline_session_closed(stk_session *s)
{
    stk_pipeline *p = s->engine->pipeline;
    if (p->session != s)
        return;
    if (p->rank == 0)
        stk_pipeline_send(p, 1, &(stk_message){.type = STK_MESSAGE_CLOSE});
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

// ---- a forward ----

stk_status stk_pipeline_begin(stk_session *s)
{
    stk_pipeline *p = s->engine->pipeline;
    stk_message_reply reply;
    // Forwards without logits are answered only when they fail.
    if (p->rank == 0 && p->failed == STK_OK)
        (void)take_reply(p, false, &reply);
    p->begun_ns = stk_pipeline_now_ns();
    return p->failed;
}

static const void *hidden_to_send(stk_pipeline *p, const stk_session *s)
{
    size_t count = (size_t)s->row_count * s->engine->model.width;
    if (p->hop == STK_HOP_F32)
        return s->x;
    for (size_t i = 0; i < count; i++)
        p->halves[i] = stk_half_from_float(s->x[i]);
    return p->halves;
}

static void send_hidden(stk_pipeline *p, const stk_session *s, uint64_t computed_ns)
{
    for (uint32_t i = 0; i < s->row_count; i++)
        p->rows[i] = (stk_message_row){s->rows[i].sequence, s->rows[i].position, s->rows[i].token,
                                       s->rows[i].logits};
    const stk_message message = {.type = STK_MESSAGE_FORWARD,
                                 .u.forward = {.row_count = s->row_count,
                                               .width = s->engine->model.width,
                                               .hop = p->hop,
                                               .computed_ns = computed_ns,
                                               .rows = p->rows,
                                               .hidden = hidden_to_send(p, s)}};
    p->stats.hop_bytes += stk_message_hidden_bytes(&message.u.forward) +
                          s->row_count * sizeof *p->rows;
    stk_pipeline_send(p, p->rank + 1, &message);
}

// Logits of every row that asked for any, or, where none wants more, only their best tokens.
static bool is_best_enough(const stk_session *s)
{
    for (uint32_t i = 0; i < s->logit_count; i++)
        if (s->rows[s->logit_rows[i]].logits != STK_LOGITS_BEST)
            return false;
    return s->logit_count > 0;
}

static void *answer_data(const stk_session *s)
{
    return is_best_enough(s) ? (void *)s->best : (void *)s->logits;
}

static size_t answer_bytes(const stk_session *s)
{
    return s->logit_count *
           (is_best_enough(s) ? sizeof *s->best : s->vocab_padded * sizeof *s->logits);
}

// The last rank's.
static void prepare_answer(stk_session *s)
{
    bool best = is_best_enough(s);
    for (uint32_t i = 0; i < s->logit_count && best; i++)
        s->best[i] = stk_session_best(s, s->logit_rows[i]);
    for (uint32_t i = 0; i < s->logit_count && !best && stk_gpu_heads(s); i++)
        memcpy(s->logits + i * s->vocab_padded, stk_session_logits(s, s->logit_rows[i]),
               s->engine->model.vocab_size * sizeof *s->logits);
}

static stk_status await_answer(stk_pipeline *p, stk_session *s)
{
    stk_message_reply reply;
    uint64_t begin = stk_pipeline_now_ns();
    stk_status status = take_reply(p, true, &reply);
    if (status == STK_OK && reply.logit_rows != s->logit_count)
        status = p->failed = stk_fail(
            s->engine->log, STK_FORMAT, "rank %u on %s: logits of %u rows, not of %u", reply.rank,
            stk_cluster_host(p->cluster, reply.rank), reply.logit_rows, s->logit_count);
    if (status == STK_OK)
        status = stk_cluster_bulk_arrived(p->cluster, answer_bytes(s));
    stk_cluster_bulk_forget(p->cluster);
    uint64_t waited = stk_pipeline_now_ns() - begin;
    p->stats.idle_ns += waited;
    if (status != STK_OK)
        return status;
    s->has_best = is_best_enough(s);
    p->hops.answers++;
    p->hops.hops += p->count;
    p->hops.ns += waited > reply.computed_ns ? waited - reply.computed_ns : 0;
    return STK_OK;
}

// The last rank's: to rank 0.
static void send_answer(stk_pipeline *p, stk_session *s, uint64_t computed_ns)
{
    if (s->logit_count == 0)
        return;
    stk_pipeline_send(p, 0,
                      &(stk_message){.type = STK_MESSAGE_REPLY,
                                     .u.reply = {.to = STK_MESSAGE_FORWARD,
                                                 .rank = p->rank,
                                                 .logit_rows = s->logit_count,
                                                 .computed_ns = computed_ns}});
    stk_cluster_bulk_send(p->cluster, 0, answer_data(s), answer_bytes(s));
    p->stats.hop_bytes += answer_bytes(s);
}

stk_status stk_pipeline_pass_on(stk_session *s)
{
    stk_pipeline *p = s->engine->pipeline;
    if (p->rank == p->count - 1)
        prepare_answer(s);
    uint64_t busy = stk_pipeline_now_ns() - p->begun_ns;
    p->stats.busy_ns += busy;
    p->stats.forwards++;
    p->stats.rows += s->row_count;
    if (p->rank == p->count - 1) {
        send_answer(p, s, p->computed_ns + busy);
        return STK_OK;
    }
    bool waits = p->rank == 0 && s->logit_count > 0;
    if (waits)
        stk_cluster_bulk_expect(p->cluster, p->count - 1, answer_data(s), answer_bytes(s));
    send_hidden(p, s, p->rank == 0 ? 0 : p->computed_ns + busy);
    return waits ? await_answer(p, s) : STK_OK;
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
    stk_status status = p->failed;
    if (status != STK_OK)
        return status;
    stk_pipeline_send(p, 1, &(stk_message){.type = STK_MESSAGE_STATS});
    all[0] = stk_pipeline_take_stats(p);
    for (uint32_t i = 1; i < p->count && status == STK_OK; i++) {
        stk_message_reply reply;
        status = take_reply(p, true, &reply);
        if (status == STK_OK)
            all[reply.rank] = reply.stats;
    }
    p->hops = (stk_pipeline_hops){0};
    return status;
}
