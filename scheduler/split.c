#include "scheduler/split.h"

#include <assert.h>
#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const double TIE = 1 + STK_SPLIT_TIE_PERCENT / 100.0;

// Sums over layers [0, i), so that any range costs two look-ups.
typedef struct sums {
    double fixed, experts, fixed_token, expert_token, expert_disk, overhead;
} sums;

typedef struct plan {
    const stk_split_problem *p;
    sums at[STK_SPLIT_LAYERS_MAX + 1];
    // best[l]: least time of the ranks so far with layers [0, l); from[r][l]: where rank r begins.
    double best[2][STK_SPLIT_LAYERS_MAX + 1];
    uint16_t from[STK_SPLIT_RANKS_MAX][STK_SPLIT_LAYERS_MAX + 1];
} plan;

static void add_up(plan *w)
{
    w->at[0] = (sums){0};
    for (uint32_t i = 0; i < w->p->layer_count; i++) {
        const stk_split_layer *l = &w->p->layers[i];
        const sums *s = &w->at[i];
        w->at[i + 1] = (sums){s->fixed + (double)l->fixed_bytes,
                              s->experts + (double)l->experts_bytes,
                              s->fixed_token + (double)l->fixed_token_bytes,
                              s->expert_token + (double)l->expert_token_bytes,
                              s->expert_disk + (double)l->expert_disk_bytes,
                              s->overhead + l->overhead_s};
    }
}

typedef struct shares {
    double resident, on_gpu; // of a rank's experts
} shares;

// Of `experts` bytes, the share whose computing on the GPU ends with the cores' part of `token`
// bytes, or less where the GPU has no room.
static double gpu_share(const stk_split_rank *rank, double experts, double token, uint32_t layers)
{
    if (rank->gpu_memory_bytes == 0 || experts <= 0 || token <= 0)
        return 0;
    double cores_s = token / rank->memory_bytes_per_s, gpu_s = token / rank->gpu_bytes_per_s;
    double even = (cores_s - layers * rank->gpu_layer_s) / (cores_s + gpu_s);
    return fmax(fmin(even, (double)rank->gpu_memory_bytes / experts), 0);
}

// Seconds rank r takes for one token through layers [begin, end); INFINITY where they do not fit.
static double stage(const plan *w, uint32_t r, uint32_t begin, uint32_t end, shares *out)
{
    const stk_split_problem *p = w->p;
    const stk_split_rank *rank = &p->ranks[r];
    const sums *a = &w->at[begin], *b = &w->at[end];
    double fixed = b->fixed - a->fixed, experts = b->experts - a->experts;
    double token = b->fixed_token - a->fixed_token, chosen = b->expert_token - a->expert_token;
    if (r == 0)
        fixed += (double)p->first_fixed_bytes;
    if (r == p->rank_count - 1) {
        fixed += (double)p->last_fixed_bytes;
        token += (double)p->last_token_bytes;
    }
    double left = (double)rank->memory_bytes - fixed, share = 1;
    double least = fmin((double)p->experts_least_bytes, experts);
    double on_gpu = gpu_share(rank, experts, chosen, end - begin);
    if (experts > 0 && left < experts * (1 - on_gpu))
        share = fmax(left, 0) / experts + on_gpu;
    *out = (shares){share, on_gpu};
    // Never less than the GPU's own time: see gpu_share.
    token += chosen * (1 - on_gpu);
    double time = token / rank->memory_bytes_per_s + b->overhead - a->overhead +
                  (1 - share) * (b->expert_disk - a->expert_disk) / rank->disk_bytes_per_s;
    return left < least ? INFINITY : time;
}

// Least time per token over all splits without a stage slower than stage_max; fills from.
static double solve(plan *w, double stage_max)
{
    const stk_split_problem *p = w->p;
    uint32_t layers = p->layer_count, ranks = p->rank_count;
    shares unused;
    for (uint32_t l = 0; l <= layers; l++)
        w->best[0][l] = l == 0 ? 0 : INFINITY;
    for (uint32_t r = 0; r < ranks; r++) {
        const double *before = w->best[r & 1];
        double *best = w->best[(r + 1) & 1];
        for (uint32_t end = 0; end <= layers; end++) {
            best[end] = INFINITY;
            // Ranks before this one need a layer each, and so do those after it.
            for (uint32_t begin = r; begin < end && end + (ranks - 1 - r) <= layers; begin++) {
                double time = isinf(before[begin]) ? INFINITY : stage(w, r, begin, end, &unused);
                if (time > stage_max || before[begin] + time >= best[end])
                    continue;
                best[end] = before[begin] + time;
                w->from[r][end] = (uint16_t)begin;
            }
        }
    }
    return w->best[ranks & 1][layers];
}

static void trace_back(const plan *w, uint32_t *first)
{
    uint32_t end = w->p->layer_count;
    first[w->p->rank_count] = end;
    for (uint32_t r = w->p->rank_count; r-- > 0;)
        first[r] = end = w->from[r][end];
}

static double judge(const plan *w, stk_split *split, uint32_t *rank)
{
    const stk_split_problem *p = w->p;
    double slowest = 0;
    split->token_s = p->rank_count > 1 ? p->rank_count * p->hop_s : 0;
    *rank = p->rank_count;
    for (uint32_t r = p->rank_count; r-- > 0;) {
        shares share;
        split->stage_s[r] = stage(w, r, split->first[r], split->first[r + 1], &share);
        split->resident[r] = share.resident;
        split->on_gpu[r] = share.on_gpu;
        uint64_t bytes = r + 1 < p->rank_count ? p->hop_bytes : p->answer_bytes;
        if (p->rank_count > 1 && p->ranks[r].link_bytes_per_s > 0)
            split->token_s += (double)bytes / p->ranks[r].link_bytes_per_s;
        split->token_s += split->stage_s[r];
        slowest = fmax(slowest, split->stage_s[r]);
        if (isinf(split->stage_s[r]))
            *rank = r;
    }
    return split->slowest_s = slowest;
}

static void begin_plan(const stk_split_problem *problem, plan *w)
{
    assert(problem->rank_count >= 1 && problem->rank_count <= STK_SPLIT_RANKS_MAX);
    assert(problem->layer_count >= problem->rank_count);
    assert(problem->layer_count <= STK_SPLIT_LAYERS_MAX);
    w->p = problem;
    add_up(w);
}

stk_status stk_split_plan(const stk_split_problem *problem, stk_split *out)
{
    plan w; // 200 KB
    stk_split split, next;
    begin_plan(problem, &w);
    memset(&split, 0, sizeof split);
    uint32_t rank;
    double least = solve(&w, INFINITY);
    if (isinf(least))
        return STK_NO_MEMORY;
    trace_back(&w, split.first);
    double slowest = judge(&w, &split, &rank);
    // Each round finds a split whose slowest stage is faster, until none is good enough.
    for (next = split; least > 0;) {
        if (solve(&w, slowest * (1 - 1e-9)) > least * TIE)
            break;
        trace_back(&w, next.first);
        double now = judge(&w, &next, &rank);
        if (now >= slowest)
            break;
        slowest = now;
        split = next;
    }
    *out = split;
    return STK_OK;
}

stk_status stk_split_judge(const stk_split_problem *problem, stk_split *split, uint32_t *rank)
{
    plan w;
    begin_plan(problem, &w);
    judge(&w, split, rank);
    return *rank < problem->rank_count ? STK_NO_MEMORY : STK_OK;
}

stk_status stk_split_parse(const char *text, uint32_t rank_count, uint32_t layer_count,
                           uint32_t *first, char *error, size_t size)
{
    uint32_t parsed[STK_SPLIT_RANKS_MAX + 1] = {0}, count = 0;
    uint64_t sum = 0;
    for (const char *at = text;; at++) {
        char *end = NULL;
        errno = 0;
        unsigned long value = *at >= '0' && *at <= '9' ? strtoul(at, &end, 10) : 0;
        if (value == 0 || value > STK_SPLIT_LAYERS_MAX || errno != 0 ||
            (*end != ',' && *end != '\0')) {
            snprintf(error, size, "'%.64s' is not a list of layer counts like 20,12", text);
            return STK_INVALID;
        }
        sum += value;
        if (count < STK_SPLIT_RANKS_MAX)
            parsed[count + 1] = (uint32_t)sum;
        count++;
        at = end;
        if (*at == '\0')
            break;
    }
    if (count != rank_count)
        snprintf(error, size, "'%.64s' is for %u ranks, there are %u", text, count, rank_count);
    else if (sum != layer_count)
        snprintf(error, size, "'%.64s' is %llu layers, the model has %u", text,
                 (unsigned long long)sum, layer_count);
    else
        memcpy(first, parsed, (rank_count + 1) * sizeof *first);
    return count == rank_count && sum == layer_count ? STK_OK : STK_INVALID;
}
