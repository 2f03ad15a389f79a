#include "engine/dense_gpu.h"

#include <stdlib.h>
#include <string.h>

#include "engine/engine_impl.h"

// ---- what goes to the device ----

static stk_matrix shape_of(const stk_gguf_tensor *tensor)
{
    uint32_t cols = (uint32_t)tensor->dims[0], rows = (uint32_t)tensor->dims[1];
    return (stk_matrix){tensor->type, stk_dense_format(tensor->type, cols), rows, cols, NULL};
}

static stk_vk_dense_layer layer_of(const stk_layer *l)
{
    stk_vk_dense_layer layer = {.q = shape_of(l->attn_q),
                                .k = shape_of(l->attn_k),
                                .v = shape_of(l->attn_v),
                                .output = shape_of(l->attn_output),
                                .router = shape_of(l->router),
                                .window_tokens = l->window_tokens,
                                .has_rope = l->has_rope};
    if (!stk_vk_dense_supports(&layer.router))
        layer.router.rows = 0;
    return layer;
}

// The type of a layer's attention for which there is no shader, or NULL.
static const stk_type *unsupported(const stk_vk_dense_layer *l)
{
    const stk_matrix *const all[] = {&l->q, &l->k, &l->v, &l->output};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (!stk_vk_dense_supports(all[i]))
            return all[i]->type;
    return NULL;
}

static stk_vk_dense_options sizes_of(const stk_engine *e, const stk_vk_dense_layer *layers)
{
    const stk_model *m = &e->model;
    return (stk_vk_dense_options){.vk = stk_gpu_device_vk(e->device),
                                  .width = m->width,
                                  .head_dim = m->head_dim,
                                  .head_count = m->head_count,
                                  .kv_head_count = m->kv_head_count,
                                  .rope_dim = m->rope_dim,
                                  .rms_epsilon = m->rms_epsilon,
                                  .layer_count = m->layer_count,
                                  .layers = layers,
                                  .has_head = e->share.has_head,
                                  .head = shape_of(m->output)};
}

static uint32_t wanted_layers(const stk_engine *e, const stk_engine_options *options)
{
    const stk_vk_device_info *info = stk_vk_info(stk_gpu_device_vk(e->device));
    uint32_t most = e->model.layer_count;
    if (options->gpu_layers == STK_GPU_LAYERS_AUTO)
        return info->kind == STK_VK_DISCRETE ? most : 0;
    return options->gpu_layers < most ? options->gpu_layers : most;
}

// Says why, of the last `wanted` layers, not all are on the device. Nothing if that has been said.
static void warn_of_few(const stk_engine *e, uint32_t wanted)
{
    for (uint32_t i = e->model.layer_count - wanted; i < e->model.layer_count; i++) {
        stk_vk_dense_layer layer = layer_of(&e->model.layers[i]);
        const stk_type *type = unsupported(&layer);
        if (type) {
            stk_warn(e->log, "attention of some layers stays on the CPU: there is no shader for %s",
                     type->name);
            return;
        }
    }
    if (e->share.layer_count != 0)
        stk_warn(e->log, "attention of some layers stays on the CPU: no more of them fit");
}

// The last `count` layers, but for those without a shader for their types.
static uint32_t choose_layers(stk_engine *e, stk_vk_dense_layer *layers, uint32_t count)
{
    uint32_t most = e->model.layer_count, chosen = 0;
    for (uint32_t i = 0; i < most; i++) {
        layers[i].here = i >= most - count && !unsupported(&layers[i]);
        e->share.layers[i] = layers[i].here;
        chosen += layers[i].here;
    }
    return chosen;
}

// Whether weights and a session fit beside what is there.
static stk_status count_share(stk_engine *e, const stk_engine_options *options,
                              const stk_vk_dense_layer *layers, uint64_t *bytes)
{
    const stk_session_options none = {0};
    const stk_session_options *session = options->planned_session;
    stk_vk_dense_options sizes = sizes_of(e, layers);
    *bytes = e->share.in_place ? 0 : stk_vk_dense_bytes(&sizes);
    stk_status status = stk_session_stream_bytes(e, session ? session : &none, &sizes,
                                                 &e->share.stream_bytes);
    e->share.stream_bytes += e->share.layer_count != 0 ? stk_gpu_chain_bytes(e) : 0;
    *bytes += e->share.stream_bytes;
    return status;
}

static stk_status fit(stk_engine *e, const stk_engine_options *options, stk_vk_dense_layer *layers)
{
    stk_gpu_share *share = &e->share;
    const stk_vk *vk = stk_gpu_device_vk(e->device);
    uint32_t wanted = wanted_layers(e, options), count = wanted;
    uint64_t room = stk_vk_memory_bytes_max(vk) / 16 * 15, bytes = 0;
    share->has_head = options->gpu_head == STK_GPU_HEAD_ON ||
                      (options->gpu_head == STK_GPU_HEAD_AUTO && wanted == e->model.layer_count);
    stk_matrix head = shape_of(e->model.output); // which every rank's model names
    share->has_head = share->has_head && stk_model_has_head(&e->model) &&
                      stk_vk_dense_supports(&head);
    bool has_head = share->has_head;
    for (;; count--) {
        share->layer_count = choose_layers(e, layers, count);
        stk_status status = count_share(e, options, layers, &bytes);
        if (status != STK_OK || bytes <= room)
            return status;
        if (count == 0 && !share->has_head)
            break;
        if (count == 0) {
            share->has_head = false;
            count = 1;
        }
    }
    if (wanted != 0 || has_head)
        stk_warn(e->log, "attention and head stay on the CPU: %s offers %.1f MiB",
                 stk_gpu_device_name(e->device), (double)room / 0x1p20);
    share->layer_count = 0;
    return STK_OK;
}

stk_status stk_gpu_share_plan(stk_engine *e, const stk_engine_options *options)
{
    stk_gpu_share *share = &e->share;
    const stk_model *m = &e->model;
    // Without embedding, what came from elsewhere could not be computed again after a loss.
    if (!e->device || !stk_model_has_embedding(m) ||
        (wanted_layers(e, options) == 0 && options->gpu_head != STK_GPU_HEAD_ON))
        return STK_OK;
    if (stk_engine_node_count(e) > 1) {
        stk_warn(e->log, "attention and head stay on the CPU: memory nodes divide their weights");
        return STK_OK;
    }
    const stk_vk_device_info *info = stk_vk_info(stk_gpu_device_vk(e->device));
    stk_vk_dense_layer *layers = calloc(m->layer_count, sizeof *layers);
    share->layers = calloc(m->layer_count, sizeof *share->layers);
    share->shares_memory = info->unified;
    share->is_separate = options->gpu_separate;
    share->in_place = info->unified && info->import_align_bytes != 0 && !options->gpu_copies;
    stk_status status = layers && share->layers ? STK_OK : STK_NO_MEMORY;
    for (uint32_t i = 0; i < m->layer_count && status == STK_OK; i++)
        layers[i] = layer_of(&m->layers[i]);
    if (status == STK_OK)
        status = fit(e, options, layers);
    free(layers);
    return status;
}

uint64_t stk_gpu_room_bytes(const stk_engine *e)
{
    const stk_vk *vk = stk_gpu_device_vk(e->device);
    uint64_t most = stk_vk_memory_bytes_max(vk);
    uint64_t used = stk_vk_memory_bytes(vk) + (e->dense ? e->share.stream_bytes : 0);
    return most > used ? most - used : 0;
}

bool stk_gpu_share_has(const stk_gpu_share *share, uint32_t layer)
{
    return share->layers && share->layers[layer];
}

// ---- weights ----

static void give_up(stk_engine *e)
{
    stk_vk_dense_close(&e->dense);
    free(e->share.layers);
    e->share = (stk_gpu_share){0};
}

stk_status stk_gpu_share_open(stk_engine *e, const stk_engine_options *options)
{
    const stk_model *m = &e->model;
    uint32_t wanted = e->share.layers ? wanted_layers(e, options) : 0;
    if (e->share.layer_count < wanted)
        warn_of_few(e, wanted);
    if (e->share.layer_count == 0 && !e->share.has_head) {
        give_up(e);
        return STK_OK;
    }
    stk_vk_dense_layer *layers = calloc(m->layer_count, sizeof *layers);
    if (!layers)
        return STK_NO_MEMORY;
    for (uint32_t i = 0; i < m->layer_count; i++) {
        const stk_layer_weights *w = &e->weights.layers[i];
        layers[i] = layer_of(&m->layers[i]);
        layers[i].here = e->share.layers[i];
        layers[i].attn_norm = w->attn_norm;
        layers[i].ffn_norm = w->ffn_norm;
        layers[i].q = w->q.matrix;
        layers[i].k = w->k.matrix;
        layers[i].v = w->v.matrix;
        layers[i].output = w->output.matrix;
        layers[i].router.data = w->router.matrix.data;
    }
    stk_vk_dense_options o = sizes_of(e, layers);
    o.head_norm = e->weights.output_norm;
    o.head = e->weights.head.matrix;
    o.pages = e->share.in_place ? e->weights.pages : NULL;
    o.pages_bytes = e->weights.bytes;
    stk_status status = stk_vk_dense_open(&o, &e->dense);
    free(layers);
    if (status == STK_NO_MEMORY || status == STK_UNSUPPORTED) {
        stk_warn(e->log, "attention and head stay on the CPU");
        give_up(e);
        return STK_OK;
    }
    if (status != STK_OK)
        return status;
    stk_info(e->log, "attention of %u of %u layers%s on %s%s", e->share.layer_count, m->layer_count,
             e->share.has_head ? " and the head" : "", stk_gpu_device_name(e->device),
             stk_vk_dense_is_in_place(e->dense) ? ", in host memory" : "");
    return STK_OK;
}

void stk_gpu_share_close(stk_engine *e)
{
    give_up(e);
}

// ---- sessions ----

stk_status stk_gpu_stream_open(stk_session *s)
{
    stk_engine *e = s->engine;
    uint32_t capacities[STK_LAYERS_MAX];
    if (!e->dense || stk_gpu_device_is_lost(e->device))
        return STK_OK;
    for (uint32_t i = 0; i < e->model.layer_count; i++)
        capacities[i] = s->kv[i].capacity_tokens;
    stk_vk_stream_options options = {.sequence_count = s->sequence_count,
                                     .rows_max = s->batch_rows_max,
                                     .logit_rows_max = s->logit_rows_max,
                                     .capacity_tokens = capacities};
    s->stream_rows = calloc(s->batch_rows_max, sizeof *s->stream_rows);
    s->tokens = calloc((size_t)s->sequence_count * s->context_tokens, sizeof *s->tokens);
    if (!s->stream_rows || !s->tokens)
        return STK_NO_MEMORY;
    stk_status status = stk_vk_stream_open(e->dense, &options, &s->stream);
    if (status == STK_OK) {
        stk_gpu_chain_open(s);
        return STK_OK;
    }
    if (status == STK_DEVICE_LOST)
        stk_gpu_device_lose(e->device, status);
    if (status == STK_NO_MEMORY && e->memory.limit_bytes != 0)
        return status; // the plan counted on the device
    stk_warn(e->log, "this session's attention stays on the CPU");
    return STK_OK;
}

void stk_gpu_stream_close(stk_session *s)
{
    stk_gpu_chain_close(s);
    stk_vk_stream_close(&s->stream);
    free(s->stream_rows);
    free(s->tokens);
    s->stream_rows = NULL;
    s->tokens = NULL;
}

// ---- the forward pass ----

bool stk_gpu_attends(const stk_session *s, uint32_t layer)
{
    return s->uses_stream && s->engine->share.layers[layer];
}

bool stk_gpu_heads(const stk_session *s)
{
    return s->uses_stream && s->engine->share.has_head;
}

static bool has_failed(const stk_session *s)
{
    return atomic_load_explicit(&s->failure, memory_order_relaxed) != STK_OK;
}

void stk_gpu_check(stk_session *s, stk_status status)
{
    if (status == STK_OK)
        return;
    stk_gpu_device_lose(s->engine->device, status);
    atomic_store(&s->failure, STK_DEVICE_LOST);
}

void stk_gpu_attend_forward(stk_session *s)
{
    if (!s->uses_stream || has_failed(s))
        return;
    for (uint32_t i = 0; i < s->row_count; i++)
        s->stream_rows[i] = (stk_vk_batch_row){s->rows[i].position, s->rows[i].sequence};
    stk_gpu_check(s, stk_gpu_device_loses_now(s->engine->device)
                         ? STK_DEVICE_LOST
                         : stk_vk_stream_begin(s->stream, s->stream_rows, s->row_count, s->rope));
}

void stk_gpu_attend_begin(stk_session *s, uint32_t layer)
{
    s->stream_begin_ns = stk_meter_gpu_begin(s);
    if (!has_failed(s))
        stk_gpu_check(s, stk_gpu_device_loses_now(s->engine->device)
                             ? STK_DEVICE_LOST
                             : stk_vk_stream_attend(s->stream, layer, s->x));
}

void stk_gpu_attend_end(stk_session *s, uint32_t layer)
{
    if (!has_failed(s))
        stk_gpu_check(s, stk_vk_stream_wait(s->stream, &s->stream_output));
    stk_meter_gpu_end(s, STK_GPU_SPAN_ATTEND, layer, s->stream_begin_ns);
}

void stk_gpu_attend_take_row(stk_session *s, uint32_t row)
{
    const stk_vk_attended *from = &s->stream_output;
    size_t width = s->engine->model.width, at = row * width, block = at / 32;
    if (has_failed(s))
        return;
    memcpy(s->x + at, from->x + at, width * sizeof *s->x);
    memcpy(s->normed.x + at, from->y + at, width * sizeof *s->x);
    memcpy(s->normed.q + at, from->q + at, width);
    memcpy(s->normed.d + block, from->d + block, width / 32 * sizeof *from->d);
    memcpy(s->normed.sum + block, from->sum + block, width / 32 * sizeof *from->sum);
}

void stk_gpu_head_run(stk_session *s, uint32_t slot_count)
{
    bool with_logits = false;
    for (uint32_t i = 0; i < slot_count; i++)
        with_logits |= s->rows[s->logit_rows[i]].logits != STK_LOGITS_BEST;
    uint64_t begin_ns = stk_meter_gpu_begin(s);
    if (!has_failed(s))
        stk_gpu_check(
            s, stk_gpu_device_loses_now(s->engine->device)
                   ? STK_DEVICE_LOST
                   : stk_vk_stream_head(s->stream, s->x, s->logit_rows, slot_count, with_logits));
    stk_meter_gpu_end(s, STK_GPU_SPAN_HEAD, s->engine->model.layer_count, begin_ns);
}
