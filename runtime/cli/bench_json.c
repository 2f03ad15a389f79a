// cli/bench_json.c: a bench for programs: an object with `machine` and the list `results`.
#include "cli/bench.h"
#include <jansson.h>
#include <stdlib.h>

static json_t *json_bytes(uint64_t value)
{
    return json_integer((json_int_t)value);
}

static json_t *json_samples(const stk_bench_samples *s)
{
    json_t *array = json_array();
    for (uint32_t i = 0; i < s->count; i++)
        if (json_array_append_new(array, json_real(s->values[i])) != 0)
            break;
    return array;
}

static json_t *json_machine(const stk_bench_report *report)
{
    const stk_bench_machine *m = &report->machine;
    return json_pack("{s:s, s:i, s:i, s:o, s:o, s:s, s:s, s:s, s:s, s:f}", "cpu", m->cpu, "cores",
                     (int)m->cores, "threads", (int)m->threads, "memory_bytes",
                     json_bytes(m->memory_bytes), "llc_bytes", json_bytes(m->llc_bytes), "kernels",
                     report->kernels, "commit", m->commit, "version", m->version, "date", m->date,
                     "load_average", m->load_average);
}

static json_t *json_phases(const double seconds[STK_PHASE_COUNT])
{
    json_t *object = json_object();
    for (int p = 0; p < STK_PHASE_COUNT; p++)
        if (seconds[p] > 0)
            json_object_set_new(object, stk_phase_name((stk_phase)p), json_real(seconds[p] * 1e6));
    return object;
}

// The last one, without experts, is what is outside layers.
static json_t *json_layers(const stk_bench_result *r)
{
    json_t *array = json_array();
    for (uint32_t i = 0; i <= r->layer_count; i++) {
        json_t *layer = json_pack("{s:o, s:o}", "busy_us", json_phases(r->layers[i].busy_s),
                                  "wait_us", json_phases(r->layers[i].wait_s));
        if (i < r->layer_count) {
            json_t *use = json_array();
            for (uint32_t e = 0; e < r->expert_count; e++)
                json_array_append_new(use,
                                      json_bytes(r->expert_use[(size_t)i * r->expert_count + e]));
            json_object_set_new(layer, "active_fraction", json_real(r->layers[i].active_fraction));
            json_object_set_new(layer, "expert_use", use);
        }
        json_array_append_new(array, layer);
    }
    return array;
}

// Bytes of experts by the memory node that holds them, and how fast its own threads read it.
static json_t *json_nodes(const stk_bench_result *r)
{
    json_t *array = json_array();
    for (uint32_t i = 0; i < r->node_count; i++)
        json_array_append_new(array, json_pack("{s:o, s:o, s:f}", "own_bytes",
                                               json_bytes(r->nodes[i].own_bytes), "other_bytes",
                                               json_bytes(r->nodes[i].other_bytes),
                                               "bandwidth_bytes_per_s",
                                               stk_bench_samples_median(&r->bandwidth.nodes[i])));
    return array;
}

static json_t *json_components(const double values[STK_COMPONENT_COUNT])
{
    json_t *object = json_object();
    for (int c = 0; c < STK_COMPONENT_COUNT; c++)
        json_object_set_new(object, stk_component_name((stk_component)c), json_real(values[c]));
    return object;
}

// Per token, by where they were read from: experts that came from disk are also read from memory.
static json_t *json_tiers(const stk_bench_result *r)
{
    return json_pack("{s:f, s:f, s:f}", "memory", r->bytes_per_token - r->gpu_bytes_per_token,
                     "gpu", r->gpu_bytes_per_token, "disk", r->disk_bytes_per_token);
}

static json_t *json_ranks(const stk_bench_ranks *all)
{
    json_t *ranks = json_array();
    for (uint32_t i = 0; i < all->count; i++) {
        const stk_bench_rank *r = &all->ranks[i];
        json_array_append_new(
            ranks, json_pack("{s:s, s:f, s:f, s:f, s:f, s:o}", "host", r->host, "idle_fraction",
                             r->idle_fraction, "busy_s_per_token", r->busy_s_per_token,
                             "bytes_per_token", r->bytes_per_token, "disk_bytes_per_token",
                             r->disk_bytes_per_token, "weight_bytes", json_bytes(r->weight_bytes)));
    }
    return json_pack("{s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:o}", "predicted_s_per_token",
                     all->predicted.token_s, "predicted_slowest_s", all->predicted.slowest_s,
                     "predicted_logits_s", all->predicted.logits_s, "hop_s", all->hop_s,
                     "hops_s_per_answer", all->overhead_s, "hop_bytes_per_token", all->hop_bytes,
                     "logits_bytes_per_token", all->logits_bytes, "ranks", ranks);
}

static json_t *json_result(const stk_bench_report *report, const stk_bench_result *r)
{
    stk_bench_skew skew = stk_bench_skew_of(r);
    double speed = stk_bench_samples_median(&r->tokens_per_s);
    json_t *object = json_pack(
        "{s:s, s:b, s:i, s:i, s:i, s:i, s:f, s:f, s:f, s:o, s:f, s:o, s:f, s:f, s:o, s:o}", "kind",
        r->is_prompt ? "prompt" : "decode", "is_greedy", r->is_greedy, "tokens", (int)r->tokens,
        "depth", (int)r->depth, "threads", (int)r->threads, "batch_rows", (int)r->batch_rows,
        "tokens_per_s_median", speed, "tokens_per_s_min", stk_bench_samples_min(&r->tokens_per_s),
        "tokens_per_s_max", stk_bench_samples_max(&r->tokens_per_s), "samples",
        json_samples(&r->tokens_per_s), "bytes_per_token", r->bytes_per_token, "bytes_by_component",
        json_components(r->bytes), "operations_per_token", r->operations_per_token,
        "operations_per_s", r->operations_per_token * speed, "weight_bytes",
        json_bytes(r->weight_bytes), "peak_rss_bytes", json_bytes(r->peak_rss_bytes));
    json_t *more = json_pack(
        "{s:f, s:o, s:f, s:s, s:f, s:b, s:f, s:f, s:{s:f, s:f, s:f}, s:o}", "bandwidth_bytes_per_s",
        stk_bench_samples_median(&r->bandwidth.all), "bandwidth_samples",
        json_samples(&r->bandwidth.all), "roofline_fraction", r->roofline_fraction, "limit",
        r->limit, "wait_fraction", r->wait_fraction, "noisy", (int)stk_bench_is_noisy(report, r),
        "load_s", r->load_s, "active_fraction", r->active_fraction, "expert_skew", "hottest_rate",
        skew.hottest_rate, "rare_fraction", skew.rare_fraction, "half_fraction", skew.half_fraction,
        "layers", json_layers(r));
    json_t *store = json_pack("{s:o, s:f, s:f, s:f}", "memory_limit_bytes",
                              json_bytes(r->memory_limit_bytes), "hit_rate", r->hit_rate,
                              "disk_bytes_per_token", r->disk_bytes_per_token, "stall_s_per_token",
                              r->stall_s_per_token);
    if (object) {
        json_object_set(object, "store", store);
        json_object_set_new(object, "bytes_by_tier", json_tiers(r));
        json_object_set_new(object, "nodes", json_nodes(r));
        json_object_set_new(object, "node_own_fraction", json_real(r->node_own_fraction));
        json_object_set_new(object, "sequences", json_integer(r->sequences));
        json_object_set_new(object, "is_sampled", json_boolean(r->is_sampled));
    }
    json_decref(store);
    if (object && r->others.is_known)
        json_object_set_new(
            object, "others_fraction",
            json_real(stk_bench_others_fraction(&r->others, report->machine.threads)));
    if (r->ranks.count > 1 && object)
        json_object_set_new(object, "cluster", json_ranks(&r->ranks));
    if (r->is_prompt && object)
        json_object_set_new(object, "first_token_s", json_real(r->first_token_s));
    if (!object || !more || json_object_update(object, more) != 0) {
        json_decref(object);
        object = NULL;
    }
    json_decref(more);
    return object;
}

static json_t *json_peer(const stk_bench_peer *p)
{
    double ours = stk_bench_samples_median(&p->ours), theirs = stk_bench_samples_median(&p->theirs);
    return json_pack("{s:s, s:s, s:i, s:i, s:i, s:f, s:o, s:f, s:o, s:f}", "command", p->command,
                     "kind", p->is_prompt ? "prompt" : "decode", "tokens", (int)p->tokens, "depth",
                     (int)p->depth, "threads", (int)p->threads, "tokens_per_s_median", theirs,
                     "samples", json_samples(&p->theirs), "stoker_tokens_per_s_median", ours,
                     "stoker_samples", json_samples(&p->ours), "ratio", ours / theirs);
}

static json_t *json_draft(const stk_bench_draft *d)
{
    return json_pack("{s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:f, s:o, s:f, s:o}", "tokens",
                     (int)d->tokens, "prompt_tokens", (int)d->prompt_tokens, "threads",
                     (int)d->threads, "draft_tokens_max", (int)d->options.tokens_max, "passes",
                     (int)d->passes, "drafted_tokens", (int)d->drafted_tokens, "accepted_tokens",
                     (int)d->accepted_tokens, "tokens_per_s_median",
                     stk_bench_samples_median(&d->drafted), "samples", json_samples(&d->drafted),
                     "plain_tokens_per_s_median", stk_bench_samples_median(&d->plain),
                     "plain_samples", json_samples(&d->plain));
}

bool stk_bench_write_json(const stk_bench_report *report, FILE *to)
{
    json_t *results = json_array();
    bool ok = results != NULL;
    for (uint32_t i = 0; i < report->count; i++)
        ok &= json_array_append_new(results, json_result(report, &report->results[i])) == 0;
    json_t *root = json_pack("{s:o, s:{s:s, s:s}, s:o}", "machine", json_machine(report), "model",
                             "file", report->model_file, "name", report->model_name, "results",
                             results);
    if (root && report->peer.command)
        ok &= json_object_set_new(root, "compare", json_peer(&report->peer)) == 0;
    if (root && report->draft.drafted.count > 0)
        ok &= json_object_set_new(root, "draft", json_draft(&report->draft)) == 0;
    char *text = root && ok ? json_dumps(root, JSON_INDENT(1) | JSON_REAL_PRECISION(10)) : NULL;
    json_decref(root);
    if (!text)
        return false;
    fputs(text, to);
    fputc('\n', to);
    free(text);
    return true;
}
