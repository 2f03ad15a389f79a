#include "engine/engine_impl.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/pipeline.h"
#include "engine/together.h"
#include "store/sidecar.h"
#include "topology/limits.h"

static stk_status load_model(stk_engine *engine, const stk_engine_options *options)
{
    stk_status status = stk_gguf_open(options->model_path, engine->log, &engine->gguf);
    if (status == STK_OK)
        status = stk_model_load(engine->gguf, engine->log, &engine->model);
    if (options->cluster)
        return status; // the ranks settle who has which layers
    uint32_t total = engine->model.layer_total, first = options->layer_first;
    uint32_t end = options->layer_end ? options->layer_end : total;
    if (status == STK_OK && (first >= end || end > total))
        return stk_fail(engine->log, STK_INVALID, "layers %u to %u of %u: there are none", first,
                        end, total);
    if (status == STK_OK)
        stk_model_cut(&engine->model, first, end);
    return status;
}

enum { GUESS_LAYERS_DEFAULT = 3 };

static stk_status load_dense(stk_engine *engine, const stk_engine_options *options)
{
    stk_weights_options weights = {
        .gguf = engine->gguf,
        .model = &engine->model,
        .cpu = &engine->cpu,
        .team = engine->team,
        .log = engine->log,
        .cancel = options->cancel,
        .direct = engine->memory.reads_direct && !options->buffered_reads,
        .skips_embedding = engine->memory.embedding_on_demand,
    };
    stk_status status = stk_weights_load(&weights, &engine->weights);
    if (status == STK_OK && engine->memory.embedding_on_demand)
        status = stk_model_file_open(engine->gguf, weights.direct, engine->log,
                                     &engine->embedding_file);
    return status;
}

static stk_status open_store(stk_engine *engine, const stk_engine_options *options)
{
    char sidecar[4096], usage[4096 + sizeof "-usage-1024-1024"];
    const char *path = options->sidecar_path, *usage_path = options->usage_path;
    bool has_default = stk_sidecar_default_path(options->model_path, sidecar, sizeof sidecar);
    if (path && !options->ignores_sidecar && access(path, F_OK) != 0)
        stk_warn(engine->log, "%s: %s; experts come from the GGUF", path, strerror(errno));
    if (!path && has_default)
        path = sidecar;
    if (!usage_path && has_default) {
        int length = snprintf(usage, sizeof usage, "%s-usage", sidecar);
        const stk_model *m = &engine->model;
        if (m->layer_count < m->layer_total) // others may write beside this file
            snprintf(usage + length, sizeof usage - (size_t)length, "-%u-%u", m->layer_first,
                     m->layer_first + m->layer_count);
        usage_path = usage;
    }
    if (usage_path && !options->ignores_usage && !(engine->usage_path = strdup(usage_path)))
        return STK_NO_MEMORY;
    stk_expert_store_options store = {
        .gguf = engine->gguf,
        .model = &engine->model,
        .team = engine->team,
        .log = engine->log,
        .cancel = options->cancel,
        .cache_bytes = engine->memory.slots < engine->memory.experts
                           ? engine->memory.slots_max * stk_expert_store_slot_bytes(&engine->model)
                           : 0,
        .policy = options->cache_policy,
        .io = (stk_io_kind)options->io,
        .direct = engine->memory.reads_direct && !options->buffered_reads,
        .sidecar = options->ignores_sidecar ? NULL : path,
        .inflight_max = engine->is_planned ? engine->plan.choices.reads_inflight
                                           : options->reads_inflight_max,
        .usage_path = engine->usage_path,
    };
    engine->pressure = (stk_pressure_governor){
        .slots_max = engine->memory.slots_max,
        .slots_min = stk_expert_store_slots_min(&engine->model),
        .slots = engine->memory.slots_max,
    };
    return stk_expert_store_open(&store, &engine->store);
}

static stk_status choose_kernels(stk_engine *engine)
{
    const stk_model *model = &engine->model;
    engine->expert_kernels = calloc(model->layer_count, sizeof *engine->expert_kernels);
    if (!engine->expert_kernels)
        return STK_NO_MEMORY;
    for (uint32_t i = 0; i < model->layer_count; i++) {
        stk_expert e = stk_expert_store_shape(engine->store, i);
        engine->expert_kernels[i] = (stk_expert_kernels){
            stk_cpu_matmul(&engine->cpu, e.gate.format, e.gate.type),
            stk_cpu_gather(&engine->cpu, e.up.format, e.up.type),
            stk_cpu_down(&engine->cpu, e.down.format, e.down.type),
            stk_cpu_gate(&engine->cpu, e.gate.format, e.gate.type),
            stk_cpu_up_rows(&engine->cpu, e.up.format, e.up.type),
            stk_cpu_down_rows(&engine->cpu, e.down.format, e.down.type),
        };
    }
    return STK_OK;
}

// What the device takes over, as far as it may.
static stk_status open_gpu(stk_engine *engine, const stk_engine_options *options)
{
    stk_status status = STK_OK;
    if (engine->device)
        status = stk_heat_open(engine->usage_path, engine->model.layer_count,
                               engine->model.expert_count, engine->log, &engine->heat);
    stk_gpu_device_go_near(engine->device, engine->team);
    if (status == STK_OK)
        status = stk_gpu_open(engine, options, &engine->gpu);
    stk_gpu_device_come_back(engine->device, engine->team);
    bool may_do_without = options->device && strcmp(options->device, "auto") == 0;
    if (status != STK_UNSUPPORTED || !may_do_without)
        return status;
    stk_gpu_share_close(engine); // it said why
    stk_gpu_device_close(&engine->device);
    return STK_OK;
}

// Every rank comes here, whatever has failed: the others wait for its word.
static stk_status join_ranks(stk_engine *engine, const stk_engine_options *options, stk_status mine)
{
    if (mine == STK_OK)
        mine = stk_pipeline_open(engine, options);
    return stk_together_split(engine, options, mine, &engine->prediction);
}

static stk_status plan_memory(stk_engine *engine, const stk_engine_options *options)
{
    stk_status status = stk_gpu_share_plan(engine, options);
    if (status == STK_OK)
        status = stk_memory_plan_make(engine, options);
    if (!engine->cluster)
        return status;
    uint32_t context = engine->memory.context_tokens, rows = engine->memory.batch_rows;
    status = stk_together_session(engine, status, &context, &rows);
    bool is_agreed = context == engine->memory.context_tokens && rows == engine->memory.batch_rows;
    if (status != STK_OK || is_agreed)
        return status;
    stk_session_options session = {0};
    stk_engine_options all = *options;
    if (options->planned_session)
        session = *options->planned_session;
    session.context_tokens = context;
    if (session.batch_rows_max == 0)
        session.batch_rows_max = rows;
    all.planned_session = &session;
    status = stk_memory_plan_make(engine, &all);
    engine->memory.batch_rows = rows; // what a session without a wish takes
    return status;
}

static stk_status open_team(stk_engine *engine, const stk_engine_options *options, uint32_t count)
{
    stk_limits limits;
    stk_limits_read("", engine->log, &limits);
    // A worker that the quota stops holds up all the others.
    double quota = limits.cpu_quota;
    const stk_team_options team = {
        .worker_count = count,
        .node_count = options->node_count,
        .auto_max = quota <= 0                     ? 0
                    : quota < 1                    ? 1
                    : quota < STK_TEAM_WORKERS_MAX ? (uint32_t)quota
                                                   : STK_TEAM_WORKERS_MAX,
        .pin = true,
        .log = options->log,
    };
    return stk_team_open(&team, &engine->team);
}

// The model's description and the workers; what is open is planned.
stk_status stk_engine_prepare(stk_engine *engine, const stk_engine_options *options)
{
    engine->log = options->log;
    engine->gpu_percent_max = options->gpu_experts_percent < 100 ? options->gpu_experts_percent
                                                                 : 100;
    engine->steal_percent = options->steal_percent < 100 ? options->steal_percent : 100;
    engine->guess_layers = options->guess_layers == UINT32_MAX ? GUESS_LAYERS_DEFAULT
                                                               : options->guess_layers;
    stk_status status = stk_cpu_init(options->cpu_mask, engine->log, &engine->cpu);
    if (status == STK_OK)
        status = load_model(engine, options);
    if (status == STK_OK)
        status = open_team(engine, options, options->thread_count);
    if (status == STK_OK)
        status = stk_gpu_device_open(options, &engine->device);
    if (status == STK_OK && options->machine && options->cluster)
        status = stk_fail(engine->log, STK_INVALID, "ranks measure themselves: no given machine");
    if (status == STK_OK && options->machine)
        status = stk_engine_make_plan(engine, options);
    if (status != STK_OK || !engine->is_planned)
        return status;
    const stk_plan_choices *c = &engine->plan.choices;
    engine->guess_layers = c->guess_layers;
    if (c->worker_count != stk_team_worker_count(engine->team)) {
        stk_team_close(&engine->team);
        status = open_team(engine, options, c->worker_count);
    }
    return status;
}

// One line for each memory node: its workers, and how much of what it holds is really there. Much
// elsewhere means that the node was full.
static void report_nodes(const stk_engine *engine)
{
    const stk_nodes *nodes = stk_team_nodes(engine->team);
    const stk_weights *w = &engine->weights;
    uint32_t count;
    const stk_node *list = stk_nodes_list(nodes, &count);
    for (uint32_t n = 0; n < count && count > 1; n++) {
        uint64_t at = w->node_at[n], end = w->node_at[n + 1];
        stk_nodes_found found = stk_nodes_find(nodes, n, (uint8_t *)w->pages + at, end - at);
        stk_nodes_found slots = stk_expert_store_find(engine->store, nodes, n);
        found.touched += slots.touched;
        found.at_home += slots.at_home;
        char where[64] = "where its pages are is not known";
        if (found.touched > 0)
            snprintf(where, sizeof where, "%.1f %% of its pages are there",
                     100.0 * found.at_home / found.touched);
        bool is_astray = 10 * found.at_home < 9 * found.touched;
        stk_log_write(engine->log, is_astray ? STK_LOG_WARN : STK_LOG_INFO,
                      "node %u: memory %u, %u threads; %s", n, list[n].os_index,
                      list[n].worker_count, where);
    }
}

stk_status stk_engine_open(const stk_engine_options *given, stk_engine **out)
{
    stk_engine *engine = calloc(1, sizeof *engine);
    if (!engine)
        return STK_NO_MEMORY;
    engine->cluster = given->cluster;
    stk_status status = stk_engine_prepare(engine, given);
    const stk_engine_options planned = stk_engine_options_planned(engine, given);
    const stk_engine_options *options = &planned;
    if (engine->cluster)
        status = join_ranks(engine, options, status);
    bool is_joined = engine->cluster && status == STK_OK;
    if (status == STK_OK)
        status = plan_memory(engine, options);
    if (status == STK_OK)
        status = load_dense(engine, options);
    if (status == STK_OK)
        status = stk_gpu_share_open(engine, options);
    if (status == STK_OK)
        status = open_store(engine, options);
    if (status == STK_OK)
        status = choose_kernels(engine);
    if (status == STK_OK)
        status = open_gpu(engine, options);
    if (is_joined)
        status = stk_pipeline_start(engine, status);
    if (status != STK_OK) {
        stk_engine_close(&engine);
        return status;
    }
    stk_info(engine->log,
             "%.*s: %u layers, %u experts, %u used; %.2f GiB of weights; %s kernels, %u threads",
             (int)engine->model.name.len_bytes, engine->model.name.data, engine->model.layer_count,
             engine->model.expert_count, engine->model.expert_used_count,
             (double)stk_engine_weight_bytes(engine) / 0x1p30, engine->cpu.name,
             stk_team_worker_count(engine->team));
    report_nodes(engine);
    *out = engine;
    return STK_OK;
}

void stk_engine_close(stk_engine **engine_pointer)
{
    stk_engine *engine = *engine_pointer;
    if (!engine)
        return;
    stk_pipeline_close(engine);
    stk_gpu_close(&engine->gpu); // it may read the store's memory
    stk_gpu_share_close(engine);
    stk_gpu_device_close(&engine->device);
    stk_expert_store_close(&engine->store);
    stk_heat_close(&engine->heat); // it knows more than the store, so its record is the last
    stk_model_file_close(&engine->embedding_file);
    stk_weights_free(&engine->weights);
    stk_team_close(&engine->team);
    stk_model_free(&engine->model);
    stk_gguf_close(&engine->gguf);
    free(engine->expert_kernels);
    free(engine->usage_path);
    free(engine);
    *engine_pointer = NULL;
}

stk_engine_prediction stk_engine_predicted(const stk_engine *engine)
{
    return engine->prediction;
}

const stk_model *stk_engine_model(const stk_engine *engine)
{
    return &engine->model;
}

const stk_gguf *stk_engine_gguf(const stk_engine *engine)
{
    return engine->gguf;
}

uint32_t stk_engine_thread_count(const stk_engine *engine)
{
    return engine->workers_assumed ? engine->workers_assumed : stk_team_worker_count(engine->team);
}

uint32_t stk_engine_node_count(const stk_engine *engine)
{
    uint32_t count;
    stk_nodes_list(stk_team_nodes(engine->team), &count);
    return count;
}

const char *stk_engine_kernels(const stk_engine *engine)
{
    return engine->cpu.name;
}

uint64_t stk_engine_gpu_moves(const stk_engine *engine)
{
    return stk_gpu_moved_count(engine->gpu);
}

uint64_t stk_engine_weight_bytes(const stk_engine *engine)
{
    return engine->weights.bytes + stk_expert_store_bytes(engine->store);
}

const stk_memory_plan *stk_engine_memory(const stk_engine *engine)
{
    return &engine->memory;
}

const stk_team *stk_engine_team(const stk_engine *engine)
{
    return engine->team;
}

stk_expert_store *stk_engine_store(stk_engine *engine)
{
    return engine->store;
}

uint32_t stk_engine_gpu_experts(const stk_engine *engine)
{
    return stk_gpu_expert_count(engine->gpu);
}

uint32_t stk_engine_gpu_layers(const stk_engine *engine)
{
    return stk_gpu_device_is_lost(engine->device) ? 0 : engine->share.layer_count;
}

bool stk_engine_gpu_has_head(const stk_engine *engine)
{
    return engine->share.has_head && !stk_gpu_device_is_lost(engine->device);
}
