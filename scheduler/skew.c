#include "scheduler/skew.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

// Records decay by half in 512 tokens (store/cache_policy.c): no more than so many are left in one.
static const double TOKENS_MAX = 739;

// No expert is used more than once per token; what is cut off goes to the others.
static void normalise(stk_skew *s, double uses_per_token)
{
    double per_bucket = s->experts / STK_SKEW_BUCKETS, all = 0;
    for (int i = 0; i < STK_SKEW_BUCKETS; i++)
        all += s->rate[i];
    for (int i = 0; i < STK_SKEW_BUCKETS; i++)
        s->rate[i] *= uses_per_token / per_bucket / all;
    for (int round = 0; round < 8; round++) {
        double sum = 0, capped = 0;
        for (int i = 0; i < STK_SKEW_BUCKETS; i++) {
            sum += s->rate[i] < 1 ? s->rate[i] : 0;
            capped += s->rate[i] < 1 ? 0 : 1;
        }
        double left = uses_per_token / per_bucket - capped;
        for (int i = 0; i < STK_SKEW_BUCKETS; i++) {
            double scaled = sum > 0 ? s->rate[i] * left / sum : 1;
            s->rate[i] = s->rate[i] < 1 && scaled < 1 ? scaled : 1;
        }
    }
}

void stk_skew_assume(uint32_t layers, uint32_t experts_per_layer, uint32_t used, double power,
                     stk_skew *out)
{
    *out = (stk_skew){.experts = (double)layers * experts_per_layer};
    for (int i = 0; i < STK_SKEW_BUCKETS; i++)
        out->rate[i] = pow(1 - (double)i / STK_SKEW_BUCKETS, power) -
                       pow(1 - (i + 1.0) / STK_SKEW_BUCKETS, power);
    normalise(out, (double)layers * used);
}

void stk_skew_blend(stk_skew *skew, const stk_skew *other, double part)
{
    for (int i = 0; i < STK_SKEW_BUCKETS; i++)
        skew->rate[i] += part * (other->rate[i] - skew->rate[i]);
}

static int falling(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return x < y ? 1 : x > y ? -1 : 0;
}

void stk_skew_of(const float *usage, uint32_t layers, uint32_t experts_per_layer, uint32_t used,
                 uint32_t tokens, float *scratch, stk_skew *out)
{
    size_t count = (size_t)layers * experts_per_layer;
    double sum = 0;
    memcpy(scratch, usage, count * sizeof *scratch);
    qsort(scratch, count, sizeof *scratch, falling);
    for (size_t i = 0; i < count; i++)
        sum += (double)scratch[i];
    if (!(sum > 0)) {
        stk_skew_assume(layers, experts_per_layer, used, 1, out);
        return;
    }
    *out = (stk_skew){.experts = (double)count};
    double mean = sum / (double)count; // of an expert that is used as often as the average one
    double half_a_use = 0.5 * mean * experts_per_layer / used / fmin(fmax(tokens, 1), TOKENS_MAX);
    for (int b = 0; b < STK_SKEW_BUCKETS; b++) {
        // The bucket's share of a step function, so that any count of experts fits.
        double from = (double)b * (double)count / STK_SKEW_BUCKETS;
        double to = (b + 1.0) * (double)count / STK_SKEW_BUCKETS, rate = 0;
        for (size_t i = (size_t)from; i < count && (double)i < to; i++) {
            double begin = (double)i > from ? (double)i : from;
            double end = (double)i + 1 < to ? (double)i + 1 : to;
            rate += (double)scratch[i] * (end - begin);
        }
        out->rate[b] = rate / (to - from) + half_a_use;
    }
    normalise(out, (double)layers * used);
}

// Sum over buckets of value(rate), a bucket cut by [from, to) counting in part.
static double sum_between(const stk_skew *s, double from, double to, uint32_t rows)
{
    double per_bucket = s->experts / STK_SKEW_BUCKETS, sum = 0;
    to = to < s->experts ? to : s->experts;
    if (!(from < to))
        return 0;
    uint32_t last = (uint32_t)ceil(to / per_bucket);
    for (uint32_t b = (uint32_t)(from / per_bucket); b < last && b < STK_SKEW_BUCKETS; b++) {
        double begin = b * per_bucket, end = begin + per_bucket;
        double part = (end < to ? end : to) - (begin > from ? begin : from);
        if (part > 0)
            sum += part * (rows < 2 ? s->rate[b] : 1 - pow(1 - s->rate[b], rows));
    }
    return sum;
}

double stk_skew_share(const stk_skew *s, double from, double to)
{
    double all = sum_between(s, 0, s->experts, 0);
    return all > 0 ? sum_between(s, from, to, 0) / all : 0;
}

double stk_skew_touched(const stk_skew *s, double from, double to, uint32_t rows)
{
    return rows ? sum_between(s, from, to, rows) : 0;
}
