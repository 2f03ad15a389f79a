#include "cli/plan_show.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>

static json_t *json_cost(const stk_plan_cost *c)
{
    json_t *stages = json_object();
    for (int i = 0; i < STK_STAGE_COUNT; i++) {
        const stk_plan_stage *s = &c->stages[i];
        json_object_set_new(stages, stk_stage_name((stk_stage)i),
                            json_pack("{s:f, s:f, s:f, s:s}", "seconds", s->seconds, "bytes",
                                      s->bytes, "multiply_adds", s->macs, "limit",
                                      stk_limit_kind_name(s->limit)));
    }
    return json_pack("{s:I, s:f, s:f, s:f, s:f, s:s, s:o}", "rows", (json_int_t)c->rows, "seconds",
                     c->seconds, "tokens_per_s", c->tokens_per_s, "hit_rate", c->hit_rate,
                     "disk_bytes", c->disk_bytes, "limit", stk_limit_kind_name(c->limit), "stages",
                     stages);
}

static json_t *json_memory(const stk_plan *p)
{
    return json_pack("{s:I, s:b, s:I, s:I, s:I, s:I, s:I, s:I}", "limit_bytes",
                     (json_int_t)p->memory_limit_bytes, "is_limit_lowered", p->is_limit_lowered,
                     "program_bytes", (json_int_t)p->program_bytes, "dense_bytes",
                     (json_int_t)p->dense_bytes, "session_bytes", (json_int_t)p->session_bytes,
                     "staging_bytes", (json_int_t)p->staging_bytes, "cache_bytes",
                     (json_int_t)p->cache_bytes, "total_bytes", (json_int_t)p->total_bytes);
}

static json_t *json_places(const stk_plan_shown *s)
{
    const stk_plan *p = s->plan;
    json_t *nodes = json_array(), *gpus = json_array(), *ranks = json_array();
    for (uint32_t i = 0; i < p->node_count; i++)
        json_array_append_new(nodes,
                              json_pack("{s:I, s:I}", "threads", (json_int_t)p->node_workers[i],
                                        "cache_bytes", (json_int_t)p->node_cache_bytes[i]));
    for (uint32_t g = 0; g < p->gpu_count; g++)
        json_array_append_new(gpus,
                              json_pack("{s:s, s:I, s:I}", "name", s->facts->machine.gpus[g].name,
                                        "experts", (json_int_t)p->choices.gpu_experts[g], "bytes",
                                        (json_int_t)p->gpu_bytes[g]));
    for (uint32_t r = 0; r < p->rank_count; r++)
        json_array_append_new(ranks,
                              json_pack("{s:I, s:I}", "first_layer", (json_int_t)p->ranks[r].first,
                                        "layers", (json_int_t)p->ranks[r].count));
    return json_pack("{s:o, s:o, s:o, s:s, s:I, s:s}", "nodes", nodes, "gpus", gpus, "ranks", ranks,
                     "attention", p->choices.gpu_layers ? "gpu" : "cpu", "attention_gpu_layers",
                     (json_int_t)p->choices.gpu_layers, "head",
                     p->choices.gpu_head ? "gpu" : "cpu");
}

static json_t *json_gains(const stk_plan *p)
{
    json_t *gains = json_pack("{s:f}", "memory", p->gain_memory);
    for (int k = 0; k < STK_LIMIT_KIND_COUNT; k++)
        json_object_set_new(gains, stk_limit_kind_name((stk_limit_kind)k), json_real(p->gain[k]));
    return gains;
}

int stk_plan_print_json(const stk_plan_shown *s)
{
    const stk_plan *p = s->plan;
    const stk_plan_choices *c = &p->choices;
    json_t *root = json_pack(
        "{s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:o, s:o, s:o, s:o, s:o, s:o, s:f, s:b, "
        "s:I, s:b}",
        "model", s->model_name, "threads", (json_int_t)c->worker_count, "batch",
        (json_int_t)c->batch_rows, "guess_layers", (json_int_t)c->guess_layers, "reads_in_flight",
        (json_int_t)c->reads_inflight, "context", (json_int_t)p->context_tokens, "slots",
        (json_int_t)c->slots, "decode_slots", (json_int_t)c->decode_slots, "experts",
        (json_int_t)p->experts, "memory", json_memory(p), "places", json_places(s), "decode",
        json_cost(&p->decode), "prompt", json_cost(&p->prefill), "first_prompt",
        json_cost(&p->first), "gain_of_twice", json_gains(p), "gain_of_packing", p->gain_packed,
        "is_measured", s->facts->has_memory_probe, "tried", (json_int_t)p->tried, "is_exhaustive",
        p->is_exhaustive);
    int rc = root && json_dumpf(root, stdout, JSON_INDENT(1) | JSON_REAL_PRECISION(9)) == 0
                 ? 0
                 : ENOMEM;
    json_decref(root);
    puts("");
    return rc;
}
