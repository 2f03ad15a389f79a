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
    sums *at; // [layer_count + 1]
    // [layer_count + 1] each. best[l]: least time of the ranks so far with layers [0, l); from of
    // rank r (see begins): where it begins then.
    double *best[2];
    uint16_t *from;
} plan;

static uint16_t *begins(const plan *w, uint32_t rank)
{
    return w->from + (size_t)rank * (w->p->layer_count + 1);
}

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
                begins(w, r)[end] = (uint16_t)begin;
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
        first[r] = end = begins(w, r)[end];
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

// One block of memory for all of it; false: there is none.
static bool begin_plan(const stk_split_problem *problem, plan *w)
{
    assert(problem->rank_count >= 1 && problem->rank_count <= STK_SPLIT_RANKS_MAX);
    assert(problem->layer_count >= problem->rank_count);
    assert(problem->layer_count <= STK_SPLIT_LAYERS_MAX);
    size_t ends = problem->layer_count + 1;
    w->p = problem;
    w->at = malloc(ends *
                   (sizeof *w->at + 2 * sizeof **w->best + problem->rank_count * sizeof *w->from));
    if (!w->at)
        return false;
    w->best[0] = (double *)(w->at + ends);
    w->best[1] = w->best[0] + ends;
    w->from = (uint16_t *)(w->best[1] + ends);
    add_up(w);
    return true;
}

// Each round finds a split whose slowest stage is faster, until none is good enough.
static void even_out(plan *w, double least, stk_split *split)
{
    uint32_t rank;
    stk_split next = *split;
    while (least > 0 && solve(w, split->slowest_s * (1 - 1e-9)) <= least * TIE) {
        trace_back(w, next.first);
        if (judge(w, &next, &rank) >= split->slowest_s)
            break;
        *split = next;
    }
}

stk_status stk_split_plan(const stk_split_problem *problem, stk_split *out)
{
    plan w;
    uint32_t rank;
    if (!begin_plan(problem, &w))
        return STK_NO_MEMORY;
    double least = solve(&w, INFINITY);
    if (!isinf(least)) {
        memset(out, 0, sizeof *out);
        trace_back(&w, out->first);
        judge(&w, out, &rank);
        even_out(&w, least, out);
    }
    free(w.at);
    return isinf(least) ? STK_NO_MEMORY : STK_OK;
}

stk_status stk_split_judge(const stk_split_problem *problem, stk_split *split, uint32_t *rank)
{
    plan w;
    *rank = 0;
    if (!begin_plan(problem, &w))
        return STK_NO_MEMORY;
    judge(&w, split, rank);
    free(w.at);
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
