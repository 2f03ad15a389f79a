// cli/bench_samples.c: medians, and how uneven a router's choices are.
#include "cli/bench.h"
#include <stdlib.h>
#include <string.h>

// Below this rate an expert counts as rare (SmallThinker report, figures 4 and 5).
static const double RARE_RATE = 0.14;

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

void stk_bench_samples_add(stk_bench_samples *s, double value)
{
    if (s->count < sizeof s->values / sizeof *s->values)
        s->values[s->count++] = value;
}

static void add_all(stk_bench_samples *to, const stk_bench_samples *from)
{
    for (uint32_t i = 0; i < from->count; i++)
        stk_bench_samples_add(to, from->values[i]);
}

void stk_bench_bandwidths_merge(stk_bench_bandwidths *to, const stk_bench_bandwidths *from)
{
    to->node_count = from->node_count;
    add_all(&to->all, &from->all);
    for (uint32_t n = 0; n < from->node_count; n++)
        add_all(&to->nodes[n], &from->nodes[n]);
}

double stk_bench_samples_median(const stk_bench_samples *s)
{
    double sorted[sizeof s->values / sizeof *s->values];
    if (s->count == 0)
        return 0;
    memcpy(sorted, s->values, s->count * sizeof *sorted);
    qsort(sorted, s->count, sizeof *sorted, compare);
    return (sorted[s->count / 2] + sorted[(s->count - 1) / 2]) / 2;
}

double stk_bench_samples_min(const stk_bench_samples *s)
{
    double value = s->count ? s->values[0] : 0;
    for (uint32_t i = 1; i < s->count; i++)
        value = s->values[i] < value ? s->values[i] : value;
    return value;
}

double stk_bench_samples_max(const stk_bench_samples *s)
{
    double value = s->count ? s->values[0] : 0;
    for (uint32_t i = 1; i < s->count; i++)
        value = s->values[i] > value ? s->values[i] : value;
    return value;
}

void stk_bench_rates(const stk_bench_result *r, uint32_t layer, double *rates)
{
    for (uint32_t e = 0; e < r->expert_count; e++)
        rates[r->expert_count - 1 - e] =
            (double)r->expert_use[(size_t)layer * r->expert_count + e] / (double)r->expert_tokens;
    qsort(rates, r->expert_count, sizeof *rates, compare);
    for (uint32_t i = 0; i < r->expert_count / 2; i++) { // falling
        double swapped = rates[i];
        rates[i] = rates[r->expert_count - 1 - i];
        rates[r->expert_count - 1 - i] = swapped;
    }
}

stk_bench_skew stk_bench_skew_of(const stk_bench_result *r)
{
    stk_bench_skew skew = {0};
    double rates[STK_EXPERTS_MAX], experts = (double)r->layer_count * r->expert_count;
    for (uint32_t layer = 0; layer < r->layer_count; layer++) {
        double taken = 0;
        stk_bench_rates(r, layer, rates);
        skew.hottest_rate += rates[0] / r->layer_count;
        for (uint32_t e = 0; e < r->expert_count; e++) {
            skew.rare_fraction += rates[e] < RARE_RATE ? 1 / experts : 0;
            skew.half_fraction += taken < 0.5 * r->expert_used_count ? 1 / experts : 0;
            taken += rates[e];
        }
    }
    return skew;
}

void stk_bench_report_free(stk_bench_report *report)
{
    for (uint32_t i = 0; i < report->count; i++) {
        free(report->results[i].expert_use);
        free(report->results[i].layers);
    }
    free(report->results);
    report->results = NULL;
    report->count = report->capacity = 0;
}
