// The sizes of a model as the scheduler wants them, and the plan made from them.
#include "engine/engine_impl.h"
#include "engine/product.h"
#include "store/usage_file.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/expert_layout.h"
#include "store/sidecar.h"

enum { ROWS_FEW = 64, ROWS_MANY = 320 };

// Of the uses, the first x of the experts are assumed to take 1 - (1 - x) to this. Replays of
// traces under the default policy (bench/cache-policies.md) give 5 for the synthetic 4B, which
// follows the report's statistics, and 1.7 for the small trained model.
static const double SKEW_POWER = 4;
enum { USAGE_TOKENS_HALF = 64 }; // a record of so many tokens counts as much as that
// Neurons of a chosen expert whose gate is positive when decoding (report, figure 6).
static const double ACTIVE_FRACTION = 0.4;
// What guesses find, measured on the bundled model and the 4B shape (docs/scheduler.md).
static const double RECALL_NEXT = 0.85, RECALL_MOST = 0.96, WASTE_PER_LAYER = 0.006;

static stk_status session_bytes(stk_engine *engine, const stk_session_options *wanted,
                                uint32_t rows, uint32_t workers, uint64_t *out, uint64_t *least)
{
    stk_session_options session = *wanted;
    session.batch_rows_max = rows;
    engine->workers_assumed = workers;
    stk_status status = stk_session_bytes(engine, &session, out, least);
    engine->workers_assumed = 0;
    return status;
}

// KV cache and scratch as a linear function of rows and workers.
static stk_status count_session(stk_engine *engine, const stk_session_options *session,
                                stk_plan_model *m)
{
    uint64_t few, many, another, least, unused;
    stk_status status = session_bytes(engine, session, ROWS_FEW, 1, &few, &least);
    if (status == STK_OK)
        status = session_bytes(engine, session, ROWS_MANY, 1, &many, &unused);
    if (status == STK_OK)
        status = session_bytes(engine, session, ROWS_FEW, 2, &another, &unused);
    if (status != STK_OK)
        return status;
    m->session_row_bytes = (many - few + ROWS_MANY - ROWS_FEW - 1) / (ROWS_MANY - ROWS_FEW);
    m->session_worker_bytes = another - few;
    uint64_t counted = ROWS_FEW * m->session_row_bytes + m->session_worker_bytes;
    m->session_bytes = few > counted ? few - counted : 0;
    m->session_least_bytes = least > m->session_worker_bytes ? least - m->session_worker_bytes : 0;
    return STK_OK;
}

static void mix_add(stk_plan_mix *mix, stk_product product, double macs)
{
    uint32_t i = 0, kernel = stk_product_code(&product);
    while (i < mix->count && mix->kernel[i] != kernel)
        i++;
    if (i == STK_PLAN_MIX_MAX) // more kinds than count: as the last
        i--;
    if (i == mix->count)
        mix->kernel[mix->count++] = kernel;
    mix->share[i] += macs;
}

static void mix_end(stk_plan_mix *mix)
{
    double sum = 0;
    for (uint32_t i = 0; i < mix->count; i++)
        sum += mix->share[i];
    for (uint32_t i = 0; i < mix->count; i++)
        mix->share[i] /= sum;
}

static void count_dense(const stk_engine *engine, stk_plan_model *out)
{
    const stk_model *m = &engine->model;
    uint32_t heads = m->head_count * m->head_dim, kv = m->kv_head_count * m->head_dim;
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < m->layer_count; i++) {
        const stk_layer *l = &m->layers[i];
        const struct {
            const stk_gguf_tensor *tensor;
            uint32_t cols, rows;
        } products[] = {{l->attn_q, m->width, heads},
                        {l->attn_k, m->width, kv},
                        {l->attn_v, m->width, kv},
                        {l->attn_output, heads, m->width}};
        for (size_t k = 0; k < sizeof products / sizeof *products; k++) {
            bytes += products[k].tensor->size_bytes;
            mix_add(&out->attention_mix,
                    stk_product_of_tensor(products[k].tensor, products[k].cols),
                    (double)products[k].cols * products[k].rows);
        }
        bytes += l->router->size_bytes;
    }
    mix_end(&out->attention_mix);
    mix_add(&out->head_mix, stk_product_of_tensor(m->output, m->width), 1);
    out->router_bytes = m->layers[0].router->size_bytes;
    out->attention_bytes = bytes / m->layer_count;
    out->attention_macs = (uint64_t)m->width * (2 * heads + 2 * kv);
    out->attention_rows = heads + 2 * kv;
    out->attend_macs = 2 * (uint64_t)heads;
    out->kv_position_bytes = 2 * kv * (uint32_t)sizeof(uint16_t);
    out->head_bytes = m->output->size_bytes;
    out->head_macs = (uint64_t)m->vocab_size * m->width;
    for (uint32_t i = 0; i < m->layer_count; i++) {
        if (m->layers[i].window_tokens == 0)
            continue;
        out->windowed_layers++;
        out->window_tokens = m->layers[i].window_tokens;
    }
}

// Adds one layer's. Where one computes inactive neurons of many rows, all are taken to.
static void count_layer_experts(const stk_engine *engine, const stk_layer *layer,
                                stk_plan_model *out)
{
    const stk_model *m = &engine->model;
    const stk_expert_layout l = stk_expert_layout_of(m, layer);
    const stk_expert_cost cost = stk_expert_cost_of(&l);
    uint64_t groups = cost.down_group * (m->ffn_width / 32);
    out->gate_bytes += cost.gate;
    out->up_bytes += cost.up_neuron * m->ffn_width;
    out->down_bytes += cost.down_neuron * m->ffn_width + groups;
    out->down_always_bytes += groups;
    out->read_bytes += l.source_bytes;
    for (int i = 0; i < STK_SLICE_COUNT; i++)
        if (!l.in_place[i])
            out->pack_bytes += stk_expert_slice_tensor(layer, (stk_expert_slice)i)->size_bytes /
                               m->expert_count;
    mix_add(&out->gate_mix, stk_product_of_matrix(STK_PRODUCT_DENSE, &l.gate), 1);
    mix_add(&out->up_mix, stk_product_of_matrix(STK_PRODUCT_UP, &l.up), 1);
    mix_add(&out->down_mix, stk_product_of_matrix(STK_PRODUCT_DOWN, &l.down), 1);
    bool has_down = stk_cpu_down_rows(&engine->cpu, l.down.format, l.down.type) != NULL;
    out->down_skips &= !has_down;
    out->up_skips &= !has_down || !stk_cpu_up_rows(&engine->cpu, l.up.format, l.up.type);
}

static void count_experts(const stk_engine *engine, stk_plan_model *out)
{
    const stk_model *m = &engine->model;
    out->down_skips = out->up_skips = true;
    for (uint32_t i = 0; i < m->layer_count; i++)
        count_layer_experts(engine, &m->layers[i], out);
    mix_end(&out->gate_mix);
    mix_end(&out->up_mix);
    mix_end(&out->down_mix);
    uint64_t *const bytes[] = {&out->gate_bytes,        &out->up_bytes,   &out->down_bytes,
                               &out->down_always_bytes, &out->read_bytes, &out->pack_bytes};
    for (size_t i = 0; i < sizeof bytes / sizeof *bytes; i++)
        *bytes[i] /= m->layer_count;
    out->active_fraction = ACTIVE_FRACTION;
    out->slot_bytes = stk_expert_store_slot_bytes(m);
    out->slots_min = stk_expert_store_slots_min(m);
    for (uint32_t d = 0; d <= STK_PLAN_GUESS_MAX; d++) {
        double far = 1 - 1.0 / (1 << (d > 0 ? d - 1 : 0));
        out->guess_recall[d] = d == 0 ? 0 : RECALL_NEXT + (RECALL_MOST - RECALL_NEXT) * far;
        out->guess_waste[d] = WASTE_PER_LAYER * d;
    }
}

// Packed experts are read into their slots as they are.
static bool is_packed(const stk_engine *engine, const stk_engine_options *options)
{
    char path[4096];
    const char *sidecar_path = options->sidecar_path;
    stk_sidecar *sidecar = NULL;
    if (!sidecar_path && stk_sidecar_default_path(options->model_path, path, sizeof path))
        sidecar_path = path;
    if (options->ignores_sidecar || !sidecar_path)
        return false;
    stk_status status = stk_sidecar_open(sidecar_path, engine->gguf, &engine->model, false, NULL,
                                         &sidecar);
    stk_sidecar_close(&sidecar);
    return status == STK_OK;
}

static stk_status count_usage(const stk_engine *engine, const stk_engine_options *options,
                              stk_plan_model *out)
{
    const stk_model *m = &engine->model;
    size_t count = (size_t)m->layer_count * m->expert_count;
    char path[4096 + sizeof "-usage"];
    const char *usage_path = options->usage_path;
    float *rates = calloc(2 * count, sizeof *rates);
    if (!rates)
        return STK_NO_MEMORY;
    if (!usage_path && stk_sidecar_default_path(options->model_path, path, 4096)) {
        snprintf(path + strlen(path), sizeof "-usage", "-usage");
        usage_path = path;
    }
    uint32_t tokens = 0;
    if (usage_path && !options->ignores_usage)
        tokens = stk_usage_read(usage_path, m->layer_count, m->expert_count, NULL, rates);
    stk_skew recorded;
    stk_skew_assume(m->layer_count, m->expert_count, m->expert_used_count, SKEW_POWER, &out->skew);
    if (tokens) {
        stk_skew_of(rates, m->layer_count, m->expert_count, m->expert_used_count, tokens,
                    rates + count, &recorded);
        stk_skew_blend(&out->skew, &recorded, tokens / (tokens + (double)USAGE_TOKENS_HALF));
    }
    out->usage_tokens = tokens;
    out->starts_empty = tokens == 0;
    free(rates);
    return STK_OK;
}

static stk_status count_model(stk_engine *engine, const stk_engine_options *options,
                              const stk_session_options *session, stk_plan_model *out)
{
    const stk_model *m = &engine->model;
    const stk_memory_plan *memory = &engine->memory;
    const stk_nodes *nodes = stk_team_nodes(engine->team);
    *out = (stk_plan_model){
        .layer_count = m->layer_count,
        .width = m->width,
        .ffn_width = m->ffn_width,
        .expert_count = m->expert_count,
        .expert_used_count = m->expert_used_count,
        .program_bytes = memory->program_bytes,
        .dense_bytes = stk_weights_bytes(m, nodes, false),
        .dense_limited_bytes = stk_weights_bytes(m, nodes, m->output != m->token_embd),
        .staging_bytes = stk_expert_store_overhead_bytes(m),
        .context_tokens = memory->context_tokens,
    };
    count_dense(engine, out);
    count_experts(engine, out);
    if (is_packed(engine, options))
        out->pack_bytes = 0;
    stk_status status = count_session(engine, session, out);
    return status == STK_OK ? count_usage(engine, options, out) : status;
}

// The memory plan with the options as they are chooses the context.
static stk_status choose_context(stk_engine *engine, const stk_engine_options *options,
                                 stk_session_options *session)
{
    stk_engine_options trial = *options;
    const stk_log *log = engine->log;
    trial.planned_session = session;
    engine->log = NULL;
    stk_status status = stk_memory_plan_make(engine, &trial);
    engine->log = log;
    if (status == STK_NO_MEMORY) // once more, to say what is needed
        return stk_memory_plan_make(engine, &trial);
    session->context_tokens = engine->memory.context_tokens;
    return status;
}

static uint32_t wish(uint32_t value, uint32_t open)
{
    return value == open ? STK_PLAN_OPEN : value;
}

stk_status stk_engine_make_plan(stk_engine *engine, const stk_engine_options *options)
{
    stk_session_options session = {0};
    if (options->planned_session)
        session = *options->planned_session;
    uint32_t rows = session.batch_rows_max;
    engine->is_planning = true;
    stk_status status = choose_context(engine, options, &session);
    engine->is_planning = false;
    if (status == STK_OK)
        status = count_model(engine, options, &session, &engine->plan_model);
    if (status != STK_OK)
        return status;
    bool has_gpu = options->device && strcmp(options->device, "cpu") != 0;
    const stk_plan_wishes wishes = {
        .memory_bytes = options->memory_bytes ? engine->memory.limit_bytes : 0,
        .worker_count = wish(options->thread_count, 0),
        .batch_rows = wish(rows, 0),
        .guess_layers = wish(options->guess_layers, UINT32_MAX),
        .reads_inflight = wish(options->reads_inflight_max, 0),
        .gpu_count = has_gpu ? 1 : 0,
        .gpu_memory_bytes = options->gpu_memory_bytes,
        .gpu_percent = wish(options->gpu_experts_percent, STK_GPU_EXPERTS_AUTO),
        .gpu_layers = wish(options->gpu_layers, STK_GPU_LAYERS_AUTO),
        .gpu_head = options->gpu_head == STK_GPU_HEAD_AUTO ? STK_PLAN_OPEN
                                                           : options->gpu_head == STK_GPU_HEAD_ON,
    };
    status = stk_plan_make(options->machine, &engine->plan_model, &wishes, &engine->plan);
    if (status == STK_INVALID)
        return stk_fail(engine->log, status, "there is no plan for this machine and model");
    if (status == STK_NO_MEMORY)
        return stk_fail(engine->log, status,
                        "the model does not fit; the least it needs is %" PRIu64 " MiB",
                        stk_memory_plan_named_mib(engine->plan.least_bytes));
    engine->is_planned = true;
    return status;
}

stk_engine_options stk_engine_options_planned(const stk_engine *engine,
                                              const stk_engine_options *options)
{
    stk_engine_options o = *options;
    const stk_plan_choices *c = &engine->plan.choices;
    if (!engine->is_planned || !engine->device)
        return o;
    uint64_t all = (uint64_t)engine->plan_model.layer_count * engine->plan_model.expert_count;
    if (o.gpu_experts_percent == STK_GPU_EXPERTS_AUTO)
        o.gpu_experts_percent = (uint32_t)((c->gpu_experts[0] * 100 + all - 1) / all);
    if (o.gpu_layers == STK_GPU_LAYERS_AUTO)
        o.gpu_layers = c->gpu_layers;
    if (o.gpu_head == STK_GPU_HEAD_AUTO)
        o.gpu_head = c->gpu_head ? STK_GPU_HEAD_ON : STK_GPU_HEAD_OFF;
    if (!c->gpu_experts[0] && !c->gpu_layers && !c->gpu_head)
        stk_info(engine->log,
                 "nothing is planned for %s: the CPU is faster alone (--gpu-experts and "
                 "--gpu-layers decide otherwise)",
                 stk_gpu_device_name(engine->device));
    return o;
}

stk_status stk_engine_plan(const stk_engine_options *options, stk_plan *plan, stk_plan_model *model)
{
    stk_engine *engine = calloc(1, sizeof *engine);
    if (!engine)
        return STK_NO_MEMORY;
    stk_status status = stk_engine_prepare(engine, options);
    if (status == STK_OK) {
        *plan = engine->plan;
        *model = engine->plan_model;
    }
    stk_engine_close(&engine);
    return status;
}

const stk_plan *stk_engine_planned(const stk_engine *engine)
{
    return engine->is_planned ? &engine->plan : NULL;
}

const stk_plan_model *stk_engine_plan_model(const stk_engine *engine)
{
    return engine->is_planned ? &engine->plan_model : NULL;
}
