// cli/bench_measure.c: one point of a bench: fill the context, repeat, count, compute the roofline.
//
// Speeds come from untimed passes; where the time of a token goes comes from one more pass with
// the session's clock on. The tokens are real text, because which experts a token wakes decides
// what it costs.
#include "cli/bench.h"
#include "cli/interrupt.h"
#include "store/expert_store.h"
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { WARM_TOKENS = 8, BANDWIDTH_PASSES = 5 };

// From here up a run counts as limited by the memory's bandwidth, by the disk or by waiting at
// barriers.
static const double BANDWIDTH_BOUND = 0.7, DISK_BOUND = 0.3, BARRIER_BOUND = 0.3;

static double now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

// Sequences read the same text from different places.
enum { SEQUENCE_STRIDE = 97 };

static int32_t token_at(const stk_bench_run *run, uint32_t sequence, uint32_t position)
{
    uint64_t at = (uint64_t)position + run->offset + (uint64_t)sequence * SEQUENCE_STRIDE;
    return run->ids[at % run->id_count];
}

static stk_want_logits wanted(const stk_bench_run *run)
{
    return run->sampler ? STK_LOGITS_DRAWN : run->is_greedy ? STK_LOGITS_BEST : STK_LOGITS_ALL;
}

// Appends `count` tokens of the text to a sequence; the last one asks for logits.
static stk_status feed(stk_bench_run *run, uint32_t sequence, uint32_t count)
{
    uint32_t rows_max = stk_session_batch_rows_max(run->session);
    stk_row *rows = calloc(rows_max, sizeof *rows);
    if (!rows)
        return stk_fail(run->log, STK_NO_MEMORY, "no memory for %u rows", rows_max);
    stk_status status = STK_OK;
    for (uint32_t done = 0; done < count && status == STK_OK;) {
        uint32_t length = stk_session_length(run->session, sequence);
        uint32_t n = count - done < rows_max ? count - done : rows_max;
        for (uint32_t i = 0; i < n; i++)
            rows[i] = (stk_row){.sequence = sequence,
                                .position = length + i,
                                .token = token_at(run, sequence, length + i),
                                .logits = done + i + 1 == count ? wanted(run) : STK_LOGITS_NONE};
        done += n;
        status = atomic_load(stk_interrupt_flag()) ? STK_CANCELLED
                                                   : stk_session_forward(run->session, rows, n);
    }
    free(rows);
    return status;
}

// One token of each sequence of the group-th of so many groups.
static stk_status submit_group(stk_bench_run *run, uint32_t group, uint32_t groups)
{
    stk_row rows[STK_BENCH_SEQUENCES_MAX];
    uint32_t first = group * run->sequences / groups, count = 0;
    for (uint32_t q = first; q < (group + 1) * run->sequences / groups; q++) {
        uint32_t length = stk_session_length(run->session, q);
        rows[count++] = (stk_row){q, length, token_at(run, q, length), wanted(run)};
    }
    return atomic_load(stk_interrupt_flag()) ? STK_CANCELLED
                                             : stk_session_submit(run->session, rows, count);
}

static void draw_group(stk_bench_run *run, uint32_t group, uint32_t groups)
{
    uint32_t first = group * run->sequences / groups;
    uint32_t count = (group + 1) * run->sequences / groups - first;
    for (uint32_t i = 0; i < count && run->sampler; i++)
        stk_session_draw(run->session, i, run->sampler);
}

// Decodes `count` tokens of every sequence. As many groups of them as the session lets be under
// way; each waits for its token before it goes on to the next.
static stk_status decode(stk_bench_run *run, uint32_t count)
{
    uint32_t most = stk_session_inflight_max(run->session);
    uint32_t groups = run->sequences < most ? run->sequences : most;
    uint64_t total = (uint64_t)count * groups, out = 0, back = 0;
    stk_status status = STK_OK;
    while (back < total && status == STK_OK) {
        if (out < total && out - back < groups) {
            status = submit_group(run, (uint32_t)(out % groups), groups);
            out += status == STK_OK;
        } else {
            status = stk_session_collect(run->session);
            draw_group(run, (uint32_t)(back++ % groups), groups);
        }
    }
    return status;
}

// Whether sliding windows still hold what is needed so many tokens before the end.
static bool can_go_back(const stk_bench_run *run, uint32_t tokens)
{
    const stk_model *m = stk_engine_model(run->model.engine);
    bool has_windows = false;
    for (uint32_t i = 0; i < m->layer_total; i++)
        has_windows |= m->all_layers[i].window_tokens != 0;
    return !has_windows || tokens <= stk_session_batch_rows_max(run->session);
}

// Makes every sequence `depth` tokens long. What it has of the text is kept where that is possible:
// filling a context is most of the time of a bench with several depths.
static stk_status go_to(stk_bench_run *run, uint32_t depth)
{
    stk_status status = STK_OK;
    for (uint32_t q = 0; q < run->sequences && status == STK_OK; q++) {
        uint32_t length = stk_session_length(run->session, q), kept = length;
        if (length > depth)
            kept = can_go_back(run, length - depth) ? depth : 0;
        if (kept < length)
            status = stk_session_truncate(run->session, q, kept);
        if (status == STK_OK && kept < depth)
            status = feed(run, q, depth - kept);
    }
    return status;
}

static stk_status feed_point(stk_bench_run *run, bool is_prompt, uint32_t tokens)
{
    return is_prompt ? feed(run, 0, tokens) : decode(run, tokens);
}

// Tokens of a point, all sequences together.
static double all_tokens(const stk_bench_run *run, bool is_prompt, uint32_t tokens)
{
    return is_prompt ? tokens : (double)tokens * run->sequences;
}

stk_status stk_bench_once(stk_bench_run *run, bool is_prompt, uint32_t tokens, uint32_t depth,
                          double *tokens_per_s)
{
    stk_status status = go_to(run, depth);
    double begin = now_s();
    if (status == STK_OK)
        status = feed_point(run, is_prompt, tokens);
    *tokens_per_s = all_tokens(run, is_prompt, tokens) / (now_s() - begin);
    return status;
}

static double fraction(uint64_t part, uint64_t all)
{
    return all ? (double)part / (double)all : 0;
}

static void take_counts(stk_bench_run *run, stk_bench_result *r)
{
    const stk_metrics *m = stk_session_metrics(run->session);
    double tokens = (double)m->tokens;
    uint64_t active = 0, gated = 0;
    r->bytes_per_token = (double)stk_metrics_bytes(m) / tokens;
    r->gpu_bytes_per_token = (double)stk_metrics_gpu_bytes(m) / tokens;
    r->operations_per_token = (double)stk_metrics_operations(m) / tokens;
    for (int c = 0; c < STK_COMPONENT_COUNT; c++)
        r->bytes[c] = (double)m->bytes[c] / tokens;
    for (uint32_t i = 0; i < m->layer_count; i++) {
        active += m->active_neurons[i];
        gated += m->gated_neurons[i];
        r->layers[i].active_fraction = fraction(m->active_neurons[i], m->gated_neurons[i]);
    }
    r->active_fraction = fraction(active, gated);
    r->node_count = m->node_count;
    memcpy(r->nodes, m->nodes, m->node_count * sizeof *r->nodes);
    r->node_own_fraction = stk_metrics_own_fraction(m);
    r->expert_tokens = m->tokens;
    memcpy(r->expert_use, m->expert_use,
           (size_t)m->layer_count * m->expert_count * sizeof *r->expert_use);
}

static void take_times(stk_bench_run *run, stk_bench_result *r)
{
    const stk_metrics *m = stk_session_metrics(run->session);
    double busy = 0, wait = 0, scale = 1e-9 / (double)m->forwards;
    for (uint32_t i = 0; i <= m->layer_count; i++) {
        for (int p = 0; p < STK_PHASE_COUNT; p++) {
            busy += r->layers[i].busy_s[p] = (double)m->busy_ns[i][p] * scale;
            wait += r->layers[i].wait_s[p] = (double)m->wait_ns[i][p] * scale;
        }
    }
    r->wait_fraction = busy + wait > 0 ? wait / (busy + wait) : 0;
}

// From the store, about the last pass.
static void take_store(stk_bench_run *run, stk_bench_result *r)
{
    stk_expert_store_stats stats = stk_expert_store_get_stats(stk_engine_store(run->model.engine));
    double tokens = all_tokens(run, r->is_prompt, r->tokens);
    r->memory_limit_bytes = stk_engine_memory(run->model.engine)->limit_bytes;
    r->hit_rate = stats.wanted ? (double)stats.hits / (double)stats.wanted : 1;
    r->disk_bytes_per_token = (double)stats.read_bytes / tokens;
    r->stall_s_per_token = 1e-9 * (double)stats.wait_ns / run->threads / tokens;
}

static stk_status take_arrays(const stk_bench_run *run, stk_bench_result *r)
{
    const stk_model *m = stk_engine_model(run->model.engine);
    r->layer_count = m->layer_count;
    r->expert_count = m->expert_count;
    r->expert_used_count = m->expert_used_count;
    r->expert_use = calloc((size_t)m->layer_count * m->expert_count, sizeof *r->expert_use);
    r->layers = calloc(m->layer_count + 1, sizeof *r->layers);
    return r->expert_use && r->layers ? STK_OK
                                      : stk_fail(run->log, STK_NO_MEMORY, "no memory for a result");
}

// What the other ranks read and hold counts as if it were here.
static stk_status take_ranks(stk_bench_run *run, stk_bench_result *r)
{
    stk_status status = stk_bench_ranks_take(
        run->model.engine, (uint32_t)all_tokens(run, r->is_prompt, r->tokens), &r->ranks);
    for (uint32_t i = 1; i < r->ranks.count && status == STK_OK; i++) {
        r->bytes_per_token += r->ranks.ranks[i].bytes_per_token;
        r->disk_bytes_per_token += r->ranks.ranks[i].disk_bytes_per_token;
        r->weight_bytes += r->ranks.ranks[i].weight_bytes;
    }
    return status;
}

static stk_status repeat(stk_bench_run *run, stk_bench_result *r)
{
    double seconds = 0;
    stk_bench_samples first = {0};
    stk_expert_store *store = stk_engine_store(run->model.engine);
    const bool is_resident = stk_expert_store_is_resident(store);
    uint32_t warm = r->is_prompt || !is_resident || r->tokens < WARM_TOKENS ? r->tokens
                                                                            : WARM_TOKENS;
    if (!r->is_prompt && run->warmup != 0)
        warm = run->warmup;
    stk_status status = go_to(run, r->depth);
    // The first pass pages in what later ones find, and fills the cache of experts.
    if (status == STK_OK)
        status = feed_point(run, r->is_prompt, warm);
    if (!is_resident && warm > r->tokens)
        run->offset += warm - r->tokens;
    stk_bench_peak_rss_reset();
    for (uint32_t i = 0; i < run->reps && status == STK_OK; i++) {
        status = go_to(run, r->depth);
        if (!is_resident) // text that the cache has not just seen
            run->offset += r->tokens;
        stk_session_metrics_reset(run->session); // the last pass is the one reported
        stk_expert_store_reset_stats(store);
        if (status == STK_OK)
            status = stk_bench_ranks_begin(run->model.engine);
        stk_bench_cpu_times before = stk_bench_cpu_times_now(run->machine), after;
        if (status == STK_OK)
            status = feed_point(run, r->is_prompt, r->tokens);
        after = stk_bench_cpu_times_now(run->machine);
        seconds = after.at_s - before.at_s;
        stk_bench_others_add(&r->others, &before, &after);
        stk_bench_samples_add(&r->tokens_per_s, all_tokens(run, r->is_prompt, r->tokens) / seconds);
        stk_bench_samples_add(&first, seconds);
    }
    if (status != STK_OK)
        return status;
    if (r->is_prompt)
        r->first_token_s = stk_bench_samples_median(&first);
    take_counts(run, r);
    take_store(run, r);
    status = take_ranks(run, r);
    if (status != STK_OK)
        return status;
    status = go_to(run, r->depth);
    stk_session_metrics_reset(run->session);
    stk_session_set_timing(run->session, true);
    if (status == STK_OK)
        status = feed_point(run, r->is_prompt, r->tokens);
    stk_session_set_timing(run->session, false);
    if (status == STK_OK)
        take_times(run, r);
    return status;
}

static stk_status measure_bandwidth(stk_bench_run *run)
{
    memset(&run->bandwidth, 0, sizeof run->bandwidth);
    return stk_bench_bandwidth(run->threads, stk_engine_node_count(run->model.engine),
                               run->bandwidth_bytes, BANDWIDTH_PASSES, run->log, &run->bandwidth);
}

static const char *limit_of(const stk_bench_result *r)
{
    if (r->roofline_fraction >= BANDWIDTH_BOUND)
        return r->fits_cache ? "cache" : "bandwidth";
    if (r->stall_s_per_token * stk_bench_samples_median(&r->tokens_per_s) >= DISK_BOUND)
        return "disk";
    return r->wait_fraction >= BARRIER_BOUND ? "barriers" : "compute";
}

stk_status stk_bench_measure(stk_bench_run *run, bool is_prompt, uint32_t tokens, uint32_t depth,
                             stk_bench_result *r)
{
    r->is_prompt = is_prompt;
    r->is_greedy = run->is_greedy;
    r->is_sampled = run->sampler != NULL;
    r->sequences = is_prompt ? 1 : run->sequences;
    r->tokens = tokens;
    r->depth = depth;
    r->threads = run->threads;
    r->load_s = run->load_s;
    r->batch_rows = stk_session_batch_rows_max(run->session);
    r->weight_bytes = stk_engine_weight_bytes(run->model.engine);
    stk_status status = take_arrays(run, r);
    if (status == STK_OK && run->bandwidth.all.count == 0)
        status = measure_bandwidth(run);
    r->bandwidth = run->bandwidth;
    if (status == STK_OK)
        status = repeat(run, r);
    r->peak_rss_bytes = stk_bench_peak_rss_bytes();
    if (run->load_peak_bytes > r->peak_rss_bytes)
        r->peak_rss_bytes = run->load_peak_bytes;
    if (status == STK_OK)
        status = measure_bandwidth(run);
    stk_bench_bandwidths_merge(&r->bandwidth, &run->bandwidth);
    double bandwidth = stk_bench_samples_median(&r->bandwidth.all);
    if (bandwidth > 0)
        r->roofline_fraction = (r->bytes_per_token - r->gpu_bytes_per_token) *
                               stk_bench_samples_median(&r->tokens_per_s) / bandwidth;
    r->limit = limit_of(r);
    return status;
}
