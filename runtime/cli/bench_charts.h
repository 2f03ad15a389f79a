// cli/bench_charts.h: the charts of a bench's page, each one SVG picture.
#ifndef STK_CLI_BENCH_CHARTS_H
#define STK_CLI_BENCH_CHARTS_H

#include "cli/bench.h"

void stk_bench_chart_roofline(const stk_bench_report *report, FILE *to);
void stk_bench_chart_bytes(const stk_bench_report *report, FILE *to);
void stk_bench_chart_layers(const stk_bench_result *result, FILE *to);  // time stack
void stk_bench_chart_experts(const stk_bench_result *result, FILE *to); // heat map
void stk_bench_chart_neurons(const stk_bench_result *result, FILE *to);
void stk_bench_chart_skew(const stk_bench_result *result, FILE *to);
// Names of the colours s0, s1... of the time stack and of the bytes, NULL past the last.
const char *stk_bench_chart_time_name(unsigned index);

#endif
