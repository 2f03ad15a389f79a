#include "engine/chain_gpu.h"

#include <stdlib.h>
#include <string.h>

#include "engine/experts_gpu_impl.h"

uint64_t stk_gpu_chain_bytes(const stk_engine *e)
{
    const stk_model *m = &e->model;
    const stk_expert_layout layout = stk_expert_layout_of(m, &m->layers[0]);
    const stk_vk_experts_options sizes = {
        .bundle = layout.bundle, .layer_count = m->layer_count, .expert_count = m->expert_count};
    return stk_vk_chain_bytes(&sizes, m->expert_used_count);
}

void stk_gpu_chain_open(stk_session *s)
{
    stk_engine *e = s->engine;
    if (!s->stream || !e->gpu || e->share.is_separate)
        return;
    const stk_vk_chain_options options = {.stream = s->stream,
                                          .experts = e->gpu->experts,
                                          .used_count = e->model.expert_used_count,
                                          .is_softmax = e->model.gating == STK_GATING_SOFTMAX};
    stk_status status = stk_vk_chain_open(&options, &s->chain);
    s->chain_end = calloc(e->model.layer_count, sizeof *s->chain_end);
    if (!s->chain_end)
        stk_vk_chain_close(&s->chain);
    if (status == STK_DEVICE_LOST)
        stk_gpu_device_lose(e->device, status);
    else if (!s->chain)
        stk_info(e->log, "every layer comes back from the device: %s", stk_status_name(status));
}

void stk_gpu_chain_close(stk_session *s)
{
    stk_vk_chain_close(&s->chain);
    free(s->chain_end);
    s->chain_end = NULL;
}

void stk_gpu_chain_plan(stk_session *s)
{
    uint32_t layers = s->engine->model.layer_count, end = layers;
    s->uses_chain = s->chain && s->uses_stream && s->row_count <= STK_VK_CHAIN_ROWS &&
                    !stk_gpu_device_is_lost(s->engine->device);
    for (uint32_t i = layers; s->uses_chain && i-- > 0;) {
        bool here = stk_vk_chain_has(s->chain, i);
        end = here ? end : i;
        s->chain_end[i] = end;
    }
}

uint32_t stk_gpu_chain_end(const stk_session *s, uint32_t layer)
{
    return s->uses_chain ? s->chain_end[layer] : layer;
}

bool stk_gpu_chain_heads(const stk_session *s)
{
    uint32_t last = s->engine->model.layer_count - 1;
    return s->logit_count > 0 && stk_gpu_heads(s) && stk_gpu_chain_end(s, last) > last;
}

// What the layers' routers chose, as if they had been here.
static void note_layers(stk_session *s, uint32_t first, uint32_t end)
{
    uint32_t pairs = s->row_count * s->engine->model.expert_used_count;
    for (uint32_t layer = first; layer < end; layer++) {
        const stk_vk_choice *chosen = stk_vk_chain_chosen(s->chain, layer);
        for (uint32_t p = 0; p < pairs; p++) {
            s->chosen[p] = chosen[p].expert;
            s->chosen_weights[p] = chosen[p].weight;
        }
        stk_group_pairs(s);
        stk_experts_note(s, layer);
        stk_meter_layer(s, layer);
    }
}

void stk_gpu_chain_run(stk_session *s, uint32_t first, uint32_t end)
{
    const stk_model *m = &s->engine->model;
    stk_vk_chain_head head = {.rows = s->logit_rows};
    uint64_t begin_ns = stk_meter_gpu_begin(s);
    if (atomic_load_explicit(&s->failure, memory_order_relaxed) != STK_OK)
        return;
    if (end == m->layer_count && stk_gpu_chain_heads(s))
        head.count = s->logit_count;
    for (uint32_t i = 0; i < head.count; i++)
        head.with_logits |= s->rows[s->logit_rows[i]].logits == STK_LOGITS_ALL;
    stk_status status = stk_gpu_device_loses_now(s->engine->device)
                            ? STK_DEVICE_LOST
                            : stk_vk_chain_run(s->chain, first, end, s->x, &head);
    if (status == STK_OK)
        status = stk_gpu_send(s); // an upload goes on its way meanwhile
    if (status == STK_OK)
        status = stk_vk_chain_wait(s->chain);
    stk_meter_gpu_end(s, STK_GPU_SPAN_CHAIN, first, begin_ns);
    stk_gpu_check(s, status);
    if (status != STK_OK)
        return;
    if (head.count == 0)
        memcpy(s->x, stk_vk_chain_x(s->chain), (size_t)s->row_count * m->width * sizeof *s->x);
    note_layers(s, first, end);
}
