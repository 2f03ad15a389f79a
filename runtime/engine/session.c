#include "engine/engine_impl.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/pages.h"
#include "cluster/cluster.h"
#include "engine/pipeline.h"

enum {
    LOGIT_ROWS_DEFAULT = 16,
    BATCH_ROWS_DEFAULT = 512,
    BATCH_ROWS_MAX = 1 << 16,
    SEQUENCES_MAX = 1 << 16,
    TRACE_FORWARDS_MAX = 1024,
    INFLIGHT_MAX = STK_CLUSTER_BULKS_MAX,
};

// Hands out 64-byte aligned pieces; run once without memory to count, once to place.
typedef struct carver {
    uint8_t *base;
    uint64_t at;
} carver;

static void *carve(carver *c, uint64_t count, size_t size)
{
    void *p = c->base ? c->base + c->at : NULL;
    c->at += (count * size + 63) / 64 * 64;
    return p;
}

static void *carve_pages(carver *c, uint64_t bytes)
{
    c->at = (c->at + STK_DIRECT_ALIGN - 1) / STK_DIRECT_ALIGN * STK_DIRECT_ALIGN;
    return carve(c, bytes, 1);
}

static void carve_acts(carver *c, stk_acts *acts, uint32_t rows, uint32_t n)
{
    acts->n = n;
    acts->x = carve(c, (uint64_t)rows * n, sizeof *acts->x);
    acts->q = carve(c, (uint64_t)rows * n, sizeof *acts->q);
    acts->d = carve(c, (uint64_t)rows * (n / 32), sizeof *acts->d);
    acts->sum = carve(c, (uint64_t)rows * (n / 32), sizeof *acts->sum);
    acts->rows = carve(c, rows, sizeof *acts->rows);
    for (uint32_t i = 0; i < rows && c->base; i++)
        acts->rows[i] = (stk_act){acts->x + (size_t)i * n, acts->q + (size_t)i * n,
                                  acts->d + (size_t)i * (n / 32), acts->sum + (size_t)i * (n / 32)};
}

static void carve_worker(carver *c, stk_expert_scratch *w, const stk_session *s)
{
    const stk_model *m = &s->engine->model;
    uint32_t ffn = m->ffn_width;
    uint64_t row_bytes = m->token_embd ? stk_type_row_bytes(m->token_embd->type, m->width) : 0;
    stk_expert_scratch piece = {
        .gate = carve(c, (uint64_t)STK_EXPERT_TILE * ffn, sizeof *piece.gate),
        .h = carve(c, ffn, sizeof *piece.h),
        .up = carve(c, (uint64_t)STK_EXPERT_TILE * ffn, sizeof *piece.up),
        .q = carve(c, (uint64_t)STK_EXPERT_TILE * ffn, sizeof *piece.q),
        .d = carve(c, (uint64_t)STK_EXPERT_TILE * (ffn / 32), sizeof *piece.d),
        .sum = carve(c, (uint64_t)STK_EXPERT_TILE * (ffn / 32), sizeof *piece.sum),
        .inner = carve(c, STK_EXPERT_TILE, sizeof *piece.inner),
        .rows_q = carve(c, (uint64_t)STK_EXPERT_TILE * m->width, sizeof *piece.rows_q),
        .rows_d = carve(c, (uint64_t)STK_EXPERT_TILE * (m->width / 32), sizeof *piece.rows_d),
        .rows_sum = carve(c, (uint64_t)STK_EXPERT_TILE * (m->width / 32), sizeof *piece.rows_sum),
        .active = carve(c, ffn, sizeof *piece.active),
        .first = carve(c, ffn / 32 + 1, sizeof *piece.first),
        .parts = carve(c, (uint64_t)STK_EXPERT_PARTS * s->width_padded, sizeof *piece.parts),
        .acts = carve(c, STK_EXPERT_TILE, sizeof *piece.acts),
        .attend_o = carve(c, (uint64_t)STK_ATTEND_QUERIES_MAX * m->head_dim,
                          sizeof *piece.attend_o),
        .embedding = carve_pages(c, stk_model_file_view_bytes(row_bytes)),
    };
    if (c->base)
        *w = piece;
}

// First what does not depend on the rows, so that it stays where it is when they change.
static void carve_scratch(carver *c, stk_session *s, uint32_t row_count, uint32_t logit_count)
{
    const stk_model *m = &s->engine->model;
    uint64_t rows = row_count, pairs = rows * m->expert_used_count;
    uint32_t heads_width = m->head_count * m->head_dim, kv_width = m->kv_head_count * m->head_dim;
    uint32_t workers = stk_engine_thread_count(s->engine);
    s->length = carve(c, s->sequence_count, sizeof *s->length);
    s->highest = carve(c, s->sequence_count, sizeof *s->highest);
    s->touched = carve(c, s->sequence_count, sizeof *s->touched);
    s->expert_first = carve(c, m->expert_count + 1, sizeof *s->expert_first);
    s->work = carve(c, m->expert_count, sizeof *s->work);
    s->work_ids = carve(c, 2 * (uint64_t)m->expert_count, sizeof *s->work_ids);
    s->work_weights = carve(c, m->expert_count, sizeof *s->work_weights);
    s->work_rows = carve(c, m->expert_count, sizeof *s->work_rows);
    s->guess_marks = carve(c, m->expert_count, sizeof *s->guess_marks);
    s->guess_logits = carve(c, (m->expert_count + 15) / 16 * 16, sizeof *s->guess_logits);
    s->part_outputs = carve(c, (uint64_t)STK_PAIRS_SPLIT_MAX * STK_EXPERT_PARTS * s->width_padded,
                            sizeof *s->part_outputs);
    s->attend_states_max = stk_attention_states(s);
    s->attend_states = carve(c, s->attend_states_max, sizeof *s->attend_states);
    s->attend_sums = carve(c, (uint64_t)s->attend_states_max * m->head_dim, sizeof *s->attend_sums);
    s->workers = carve(c, workers, sizeof *s->workers);
    for (uint32_t i = 0; i < workers; i++)
        carve_worker(c, c->base ? &s->workers[i] : NULL, s);
    s->x = carve(c, rows * m->width, sizeof *s->x);
    s->logit_rows = carve(c, rows, sizeof *s->logit_rows);
    s->logit_slot = carve(c, rows, sizeof *s->logit_slot);
    s->x_acts = carve(c, rows, sizeof *s->x_acts);
    s->rope = carve(c, rows * m->rope_dim, sizeof *s->rope);
    carve_acts(c, &s->normed, row_count, m->width);
    carve_acts(c, &s->attended, row_count, heads_width);
    s->q = carve(c, rows * heads_width, sizeof *s->q);
    s->k = carve(c, rows * kv_width, sizeof *s->k);
    s->v = carve(c, rows * kv_width, sizeof *s->v);
    s->projected = carve(c, rows * m->width + STK_ROW_PAD, sizeof *s->projected);
    s->router_logits = carve(c, rows * ((m->expert_count + 15) / 16 * 16),
                             sizeof *s->router_logits);
    s->chosen = carve(c, pairs, sizeof *s->chosen);
    s->chosen_weights = carve(c, pairs, sizeof *s->chosen_weights);
    s->expert_pairs = carve(c, pairs, sizeof *s->expert_pairs);
    s->expert_outputs = carve(c, pairs * s->width_padded, sizeof *s->expert_outputs);
    s->logits = carve(c, stk_model_has_head(m) ? logit_count * s->vocab_padded : 0,
                      sizeof *s->logits);
    s->picked = carve(c, s->engine->pipeline ? logit_count : 0, sizeof *s->picked);
    for (uint32_t i = 0; i < row_count && c->base; i++)
        s->x_acts[i] = (stk_act){s->x + (size_t)i * m->width, NULL, NULL, NULL};
}

uint64_t stk_session_scratch_bytes(const stk_session *s, uint32_t rows, uint32_t logit_rows)
{
    stk_session copy = *s;
    carver count = {NULL, 0};
    carve_scratch(&count, &copy, rows, logit_rows);
    return (count.at + STK_DIRECT_ALIGN - 1) / STK_DIRECT_ALIGN * STK_DIRECT_ALIGN;
}

void stk_session_place(stk_session *s, uint32_t rows, uint32_t logit_rows)
{
    carver place = {s->scratch_pages, 0};
    carve_scratch(&place, s, rows, logit_rows);
}

void *stk_session_take_pages(const stk_session *s, uint64_t bytes)
{
    return stk_expert_store_is_resident(s->engine->store) ? stk_pages_alloc(bytes)
                                                          : stk_pages_alloc_small(bytes);
}

static stk_status take_scratch(stk_session *s)
{
    s->scratch_bytes = stk_session_scratch_bytes(s, s->batch_rows_max, s->logit_rows_max);
    s->scratch_pages = stk_session_take_pages(s, s->scratch_bytes);
    if (!s->scratch_pages)
        return stk_fail(s->engine->log, STK_NO_MEMORY, "cannot reserve %.1f MiB of scratch",
                        (double)s->scratch_bytes / 0x1p20);
    bool resident = stk_expert_store_is_resident(s->engine->store);
    stk_session_place(s, resident ? s->batch_rows_max : 1, resident ? s->logit_rows_max : 1);
    return STK_OK;
}

static uint32_t inflight_of(const stk_engine *engine, const stk_session_options *options)
{
    uint32_t wanted = options->inflight_max, ranks = 1;
    if (engine->cluster)
        ranks = stk_cluster_count(engine->cluster);
    if (ranks == 1 || wanted == 0)
        return 1;
    if (wanted == STK_INFLIGHT_AUTO)
        return ranks + 1; // one more than can be computed at once: it is on its way
    return wanted < INFLIGHT_MAX ? wanted : INFLIGHT_MAX;
}

// Fills in what the options leave open.
static stk_status set_sizes(stk_session *s, stk_engine *engine, const stk_session_options *options)
{
    const stk_model *m = &engine->model;
    uint32_t planned = engine->memory.context_tokens, planned_rows = engine->memory.batch_rows;
    s->engine = engine;
    s->full_kv = options->full_kv;
    s->sequence_count = options->sequence_count ? options->sequence_count : 1;
    s->batch_rows_max = options->batch_rows_max ? options->batch_rows_max
                        : planned_rows          ? planned_rows
                                                : BATCH_ROWS_DEFAULT;
    s->context_tokens = options->context_tokens ? options->context_tokens
                        : planned               ? planned
                                                : m->context_tokens;
    s->logit_rows_max = options->logit_rows_max ? options->logit_rows_max : LOGIT_ROWS_DEFAULT;
    if (s->logit_rows_max > s->batch_rows_max)
        s->logit_rows_max = s->batch_rows_max;
    s->inflight_max = inflight_of(engine, options);
    if (s->sequence_count > SEQUENCES_MAX || s->batch_rows_max > BATCH_ROWS_MAX ||
        s->context_tokens > 1u << 30 || options->trace_forwards > TRACE_FORWARDS_MAX)
        return stk_fail(engine->log, STK_INVALID,
                        "%u sequences, %u rows per batch or a context of %u tokens is too much",
                        s->sequence_count, s->batch_rows_max, s->context_tokens);
    s->attend_scale = 1.0f / sqrtf((float)m->head_dim);
    s->width_padded = (m->width + STK_OUTPUT_PAD - 1) / STK_OUTPUT_PAD * STK_OUTPUT_PAD;
    s->vocab_padded = (m->vocab_size + STK_ROW_PAD - 1) / STK_ROW_PAD * STK_ROW_PAD;
    return STK_OK;
}

stk_status stk_session_bytes(stk_engine *engine, const stk_session_options *options, uint64_t *out,
                             uint64_t *least)
{
    stk_session s = {0};
    stk_status status = set_sizes(&s, engine, options);
    if (status != STK_OK)
        return status;
    uint64_t on_device = engine->share.shares_memory ? engine->share.stream_bytes : 0;
    *least = stk_session_scratch_bytes(&s, 1, 1) + on_device;
    *out = stk_session_scratch_bytes(&s, s.batch_rows_max, s.logit_rows_max) + on_device;
    for (uint32_t i = 0; i < engine->model.layer_count; i++)
        if (!stk_gpu_share_has(&engine->share, i))
            *out += stk_session_kv_layer_bytes(&s, &engine->model.layers[i]);
    uint64_t messages = engine->pipeline ? stk_pipeline_session_bytes(&s) : 0;
    *out += messages;
    *least += messages;
    return STK_OK;
}

stk_status stk_session_stream_bytes(stk_engine *engine, const stk_session_options *options,
                                    const stk_vk_dense_options *dense, uint64_t *out)
{
    stk_session s = {0};
    uint32_t capacities[STK_LAYERS_MAX];
    stk_status status = set_sizes(&s, engine, options);
    if (status != STK_OK)
        return status;
    for (uint32_t i = 0; i < engine->model.layer_count; i++)
        capacities[i] = stk_session_kv_capacity(&s, &engine->model.layers[i]);
    const stk_vk_stream_options stream = {.sequence_count = s.sequence_count,
                                          .rows_max = s.batch_rows_max,
                                          .logit_rows_max = s.logit_rows_max,
                                          .capacity_tokens = capacities};
    *out = stk_vk_stream_bytes(dense, &stream);
    return STK_OK;
}

uint64_t stk_session_kv_bytes_of(stk_engine *engine, const stk_session_options *options,
                                 uint32_t layer)
{
    stk_session s = {0};
    if (set_sizes(&s, engine, options) != STK_OK)
        return 0;
    return stk_session_kv_layer_bytes(&s, &engine->model.all_layers[layer]);
}

stk_status stk_session_open(stk_engine *engine, const stk_session_options *options,
                            stk_session **out)
{
    uint64_t bytes, least;
    stk_status status = stk_session_bytes(engine, options, &bytes, &least);
    if (status != STK_OK)
        return status;
    if (engine->memory.limit_bytes != 0 && bytes > engine->memory.session_bytes)
        return stk_fail(engine->log, STK_NO_MEMORY,
                        "the session needs %.1f MiB, the memory plan left %.1f MiB for it",
                        (double)bytes / 0x1p20, (double)engine->memory.session_bytes / 0x1p20);
    stk_session *s = calloc(1, sizeof *s);
    if (!s)
        return STK_NO_MEMORY;
    status = set_sizes(s, engine, options);
    if (s->context_tokens > engine->model.context_tokens)
        stk_warn(engine->log, "a context of %u tokens is longer than the model was made for (%u)",
                 s->context_tokens, engine->model.context_tokens);
    if (status == STK_OK)
        status = stk_session_take_kv_table(s);
    if (status == STK_OK)
        status = stk_gpu_stream_open(s);
    if (status == STK_OK)
        status = stk_session_take_kv_pages(s, &s->kv_pages);
    if (status == STK_OK)
        status = take_scratch(s);
    if (status == STK_OK)
        status = stk_meter_open(s, options->trace_forwards);
    if (status == STK_OK && engine->pipeline)
        status = stk_pipeline_session_opened(s);
    if (status != STK_OK) {
        stk_session_close(&s);
        return status;
    }
    *out = s;
    return STK_OK;
}

void stk_session_close(stk_session **session)
{
    stk_session *s = *session;
    if (!s)
        return;
    if (s->engine->pipeline)
        stk_pipeline_session_closed(s);
    stk_spare_return(s);
    stk_meter_close(s);
    stk_gpu_stream_close(s);
    stk_pages_free(s->kv_pages.start, s->kv_pages.bytes);
    stk_pages_free(s->kv_again.start, s->kv_again.bytes);
    stk_pages_free(s->scratch_pages, s->scratch_bytes);
    free(s->kv);
    free(s);
    *session = NULL;
}

float *stk_session_hidden(stk_session *s)
{
    return s->x;
}

uint32_t stk_session_length(const stk_session *s, uint32_t sequence)
{
    return sequence < s->sequence_count ? s->length[sequence] : 0;
}

stk_status stk_session_truncate(stk_session *s, uint32_t sequence, uint32_t length_tokens)
{
    if (sequence >= s->sequence_count || length_tokens > s->length[sequence])
        return stk_fail(s->engine->log, STK_INVALID, "cannot cut sequence %u to %u tokens",
                        sequence, length_tokens);
    const stk_model *m = &s->engine->model;
    for (uint32_t i = 0; i < m->layer_total && length_tokens > 0; i++) { // also those elsewhere
        uint32_t window = m->all_layers[i].window_tokens;
        uint32_t capacity = stk_session_kv_capacity(s, &m->all_layers[i]);
        uint32_t oldest_needed = window != 0 && length_tokens >= window ? length_tokens - window + 1
                                                                        : 0;
        uint32_t oldest_held = s->highest[sequence] > capacity ? s->highest[sequence] - capacity
                                                               : 0;
        if (oldest_needed < oldest_held)
            return stk_fail(
                s->engine->log, STK_INVALID,
                "sequence %u cannot go back to %u tokens: the window of layer %u has moved on",
                sequence, length_tokens, i);
    }
    if (s->engine->pipeline)
        stk_pipeline_truncate(s, sequence, length_tokens);
    s->length[sequence] = length_tokens;
    if (length_tokens == 0) {
        s->highest[sequence] = 0;
        stk_spare_forget(s, sequence);
    }
    return STK_OK;
}

void stk_session_set_route_hook(stk_session *s, stk_route_hook hook, void *user)
{
    s->route_hook = hook;
    s->route_hook_user = user;
}

uint32_t stk_session_context_tokens(const stk_session *s)
{
    return s->context_tokens;
}

uint32_t stk_session_batch_rows_max(const stk_session *s)
{
    return s->batch_rows_max;
}

uint32_t stk_session_logit_rows_max(const stk_session *s)
{
    return s->logit_rows_max;
}

uint32_t stk_session_inflight_max(const stk_session *s)
{
    return s->inflight_max;
}

uint64_t stk_session_kv_bytes(const stk_session *s)
{
    return s->kv_bytes;
}
