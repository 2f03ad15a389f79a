#include "engine/engine_impl.h"

#include <stdlib.h>

static stk_status load_model(stk_engine *engine, const stk_engine_options *options)
{
    stk_status status = stk_gguf_open(options->model_path, engine->log, &engine->gguf);
    if (status == STK_OK)
        status = stk_model_load(engine->gguf, engine->log, &engine->model);
    return status;
}

static stk_status load_weights(stk_engine *engine)
{
    const stk_model *model = &engine->model;
    stk_status status = stk_weights_load(engine->gguf, model, &engine->cpu, engine->team,
                                         engine->log, &engine->weights);
    if (status == STK_OK)
        status = stk_expert_store_open(engine->gguf, model, engine->team, engine->log,
                                       &engine->store);
    if (status != STK_OK)
        return status;
    engine->expert_kernels = calloc(model->layer_count, sizeof *engine->expert_kernels);
    if (!engine->expert_kernels)
        return STK_NO_MEMORY;
    for (uint32_t i = 0; i < model->layer_count; i++) {
        stk_expert e = stk_expert_store_get(engine->store, i, 0);
        engine->expert_kernels[i] = (stk_expert_kernels){
            stk_cpu_matmul(&engine->cpu, e.gate.format, e.gate.type),
            stk_cpu_gather(&engine->cpu, e.up.format, e.up.type),
            stk_cpu_down(&engine->cpu, e.down.format, e.down.type),
        };
    }
    return STK_OK;
}

stk_status stk_engine_open(const stk_engine_options *options, stk_engine **out)
{
    stk_engine *engine = calloc(1, sizeof *engine);
    if (!engine)
        return STK_NO_MEMORY;
    engine->log = options->log;
    stk_team_options team = {
        .worker_count = options->thread_count, .pin = true, .log = options->log};
    stk_status status = stk_cpu_init(options->cpu_mask, engine->log, &engine->cpu);
    if (status == STK_OK)
        status = load_model(engine, options);
    if (status == STK_OK)
        status = stk_team_open(&team, &engine->team);
    if (status == STK_OK)
        status = load_weights(engine);
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
    *out = engine;
    return STK_OK;
}

void stk_engine_close(stk_engine **engine_pointer)
{
    stk_engine *engine = *engine_pointer;
    if (!engine)
        return;
    stk_expert_store_close(&engine->store);
    stk_weights_free(&engine->weights);
    stk_team_close(&engine->team);
    stk_model_free(&engine->model);
    stk_gguf_close(&engine->gguf);
    free(engine->expert_kernels);
    free(engine);
    *engine_pointer = NULL;
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
    return stk_team_worker_count(engine->team);
}

const char *stk_engine_kernels(const stk_engine *engine)
{
    return engine->cpu.name;
}

uint64_t stk_engine_weight_bytes(const stk_engine *engine)
{
    return engine->weights.bytes + stk_expert_store_bytes(engine->store);
}
