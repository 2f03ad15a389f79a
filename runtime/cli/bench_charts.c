#include "cli/bench_charts.h"

#include "cli/svg.h"
#include <math.h>

enum { WIDTH = 900, ROW = 26 };

static stk_svg plot(FILE *to, double height, double x_max, double y_max)
{
    return (stk_svg){.to = to,
                     .width = WIDTH,
                     .height = height,
                     .left = 60,
                     .top = 14,
                     .right = WIDTH - 14,
                     .bottom = height - 30,
                     .x_max = x_max,
                     .y_max = y_max > 0 ? y_max : 1};
}

static void name_result(const stk_bench_result *r, char *name, size_t size)
{
    snprintf(name, size, "%s %u, depth %u, %u threads", r->is_prompt ? "prompt" : "decode",
             r->tokens, r->depth, r->threads);
}

// A label under every few layers, so that they do not touch.
static void layer_labels(stk_svg *svg, uint32_t layers)
{
    uint32_t every = (layers + 15) / 16;
    for (uint32_t i = 0; i < layers; i += every) {
        char label[16];
        snprintf(label, sizeof label, "%u", i);
        stk_svg_text(svg, stk_svg_x(svg, i + 0.5), svg->bottom + 15, STK_SVG_MIDDLE, label);
    }
    stk_svg_text(svg, (svg->left + svg->right) / 2, svg->height - 2, STK_SVG_MIDDLE, "layer");
}

void stk_bench_chart_roofline(const stk_bench_report *report, FILE *to)
{
    double y_max = report->count, most = 1;
    for (uint32_t i = 0; i < report->count; i++)
        most = fmax(most, report->results[i].roofline_fraction);
    stk_svg svg = plot(to, ROW * y_max + 44, most * 1.12, y_max);
    svg.left = 240;
    stk_svg_begin(&svg, "share of the memory's bandwidth that each run used");
    for (uint32_t i = 0; i < report->count; i++) {
        const stk_bench_result *r = &report->results[i];
        char name[96], value[96];
        double y = report->count - i - 1, middle = stk_svg_y(&svg, y + 0.5) + 4;
        name_result(r, name, sizeof name);
        snprintf(value, sizeof value, "%.0f %% (%.1f tok/s)", 100 * r->roofline_fraction,
                 stk_bench_samples_median(&r->tokens_per_s));
        stk_svg_bar(&svg, 0, most, y + 0.15, y + 0.85, "back", 1, "the bandwidth measured");
        stk_svg_bar(&svg, 0, r->roofline_fraction, y + 0.15, y + 0.85, r->is_prompt ? "s1" : "s0",
                    1, value);
        stk_svg_text(&svg, svg.left - 8, middle, STK_SVG_END, name);
        stk_svg_text(&svg, stk_svg_x(&svg, r->roofline_fraction) + 6, middle, STK_SVG_START, value);
    }
    const double x[] = {1, 1}, y[] = {0, y_max};
    stk_svg_line(&svg, x, y, 2, "mark");
    stk_svg_text(&svg, stk_svg_x(&svg, 1), svg.bottom + 16, STK_SVG_MIDDLE,
                 "100 % of the bandwidth");
    stk_svg_end(&svg);
}

void stk_bench_chart_bytes(const stk_bench_report *report, FILE *to)
{
    double most = 0, rows = report->count;
    for (uint32_t i = 0; i < report->count; i++)
        most = fmax(most, report->results[i].bytes_per_token);
    stk_svg svg = plot(to, ROW * rows + 44, most > 0 ? most * 1.14 : 1, rows);
    svg.left = 240;
    stk_svg_begin(&svg, "bytes read per token by component");
    for (uint32_t i = 0; i < report->count; i++) {
        const stk_bench_result *r = &report->results[i];
        char text[96], css_class[8];
        double y = report->count - i - 1, at = 0;
        for (int c = 0; c < STK_COMPONENT_COUNT; c++) {
            snprintf(text, sizeof text, "%s: %.3f MB", stk_component_name((stk_component)c),
                     r->bytes[c] * 1e-6);
            snprintf(css_class, sizeof css_class, "s%d", c);
            stk_svg_bar(&svg, at, at + r->bytes[c], y + 0.15, y + 0.85, css_class, 1, text);
            at += r->bytes[c];
        }
        name_result(r, text, sizeof text);
        stk_svg_text(&svg, svg.left - 8, stk_svg_y(&svg, y + 0.5) + 4, STK_SVG_END, text);
        snprintf(text, sizeof text, "%.3g MB", r->bytes_per_token * 1e-6);
        stk_svg_text(&svg, stk_svg_x(&svg, at) + 6, stk_svg_y(&svg, y + 0.5) + 4, STK_SVG_START,
                     text);
    }
    stk_svg_end(&svg);
}

// The phases of a layer, as the time stack groups them; waiting comes last.
static const char *const time_names[] = {
    "router, q, k, v", "attention", "output projection", "experts", "norms, sums, quantising",
    "waiting",         NULL};
enum { TIME_WAITING = 5, TIME_COUNT = 6 };

const char *stk_bench_chart_time_name(unsigned index)
{
    return index < TIME_COUNT ? time_names[index] : NULL;
}

static unsigned time_group(stk_phase phase)
{
    switch (phase) {
    case STK_PHASE_PROJECT:
        return 0;
    case STK_PHASE_ATTEND:
        return 1;
    case STK_PHASE_OUTPUT:
        return 2;
    case STK_PHASE_EXPERTS:
        return 3;
    default:
        return 4;
    }
}

static double group_layer(const stk_bench_layer *layer, double seconds[TIME_COUNT])
{
    double total = 0;
    for (int g = 0; g < TIME_COUNT; g++)
        seconds[g] = 0;
    for (int p = 0; p < STK_PHASE_COUNT; p++) {
        seconds[time_group((stk_phase)p)] += layer->busy_s[p];
        seconds[TIME_WAITING] += layer->wait_s[p];
        total += layer->busy_s[p] + layer->wait_s[p];
    }
    return total;
}

void stk_bench_chart_layers(const stk_bench_result *r, FILE *to)
{
    double seconds[TIME_COUNT], most = 0;
    for (uint32_t i = 0; i < r->layer_count; i++)
        most = fmax(most, group_layer(&r->layers[i], seconds));
    stk_svg svg = plot(to, 260, r->layer_count, most);
    stk_svg_begin(&svg, "microseconds per layer and forward pass");
    stk_svg_grid(&svg, "%.0f us", 1e6);
    for (uint32_t i = 0; i < r->layer_count; i++) {
        double at = 0;
        group_layer(&r->layers[i], seconds);
        for (int g = 0; g < TIME_COUNT; g++) {
            char tip[96], css_class[8];
            snprintf(tip, sizeof tip, "layer %u, %s: %.1f us", i, time_names[g], seconds[g] * 1e6);
            snprintf(css_class, sizeof css_class, "s%d", g);
            stk_svg_bar(&svg, i + 0.1, i + 0.9, at, at + seconds[g], css_class, 1, tip);
            at += seconds[g];
        }
    }
    layer_labels(&svg, r->layer_count);
    stk_svg_end(&svg);
}

void stk_bench_chart_experts(const stk_bench_result *r, FILE *to)
{
    double cell = fmin(16, 420.0 / r->expert_count);
    stk_svg svg = plot(to, cell * r->expert_count + 44, r->layer_count, r->expert_count);
    stk_svg_begin(&svg, "how often each expert of each layer is chosen");
    for (uint32_t i = 0; i < r->layer_count; i++) {
        for (uint32_t e = 0; e < r->expert_count; e++) {
            char tip[64];
            double rate = (double)r->expert_use[(size_t)i * r->expert_count + e] /
                          (double)r->expert_tokens;
            snprintf(tip, sizeof tip, "layer %u, expert %u: %.2f", i, e, rate);
            stk_svg_bar(&svg, i + 0.03, i + 0.97, e + 0.05, e + 0.95, "s0", sqrt(fmin(rate, 1)),
                        tip);
        }
    }
    layer_labels(&svg, r->layer_count);
    stk_svg_text(&svg, svg.left - 6, svg.bottom, STK_SVG_END, "expert 0");
    stk_svg_end(&svg);
}

void stk_bench_chart_neurons(const stk_bench_result *r, FILE *to)
{
    stk_svg svg = plot(to, 200, r->layer_count, 1);
    stk_svg_begin(&svg, "active neurons of the chosen experts per layer");
    stk_svg_grid(&svg, "%.0f %%", 100);
    for (uint32_t i = 0; i < r->layer_count; i++) {
        char tip[64];
        double fraction = r->layers[i].active_fraction;
        snprintf(tip, sizeof tip, "layer %u: %.1f %%", i, 100 * fraction);
        stk_svg_bar(&svg, i + 0.1, i + 0.9, 0, fraction, "s3", 1, tip);
    }
    layer_labels(&svg, r->layer_count);
    stk_svg_end(&svg);
}

void stk_bench_chart_skew(const stk_bench_result *r, FILE *to)
{
    double rates[STK_EXPERTS_MAX], mean[STK_EXPERTS_MAX] = {0}, x[STK_EXPERTS_MAX];
    stk_svg svg = plot(to, 220, r->expert_count, 1);
    stk_svg_begin(&svg, "firing rate of experts, most used first");
    stk_svg_grid(&svg, "%.1f", 1);
    for (uint32_t e = 0; e < r->expert_count; e++)
        x[e] = e + 0.5;
    for (uint32_t i = 0; i < r->layer_count; i++) {
        stk_bench_rates(r, i, rates);
        for (uint32_t e = 0; e < r->expert_count; e++)
            mean[e] += rates[e] / r->layer_count;
        stk_svg_line(&svg, x, rates, r->expert_count, "thin");
    }
    stk_svg_line(&svg, x, mean, r->expert_count, "strong");
    double even = (double)r->expert_used_count / r->expert_count;
    const double ends[] = {0, r->expert_count}, level[] = {even, even};
    stk_svg_line(&svg, ends, level, 2, "mark");
    stk_svg_text(&svg, svg.right, stk_svg_y(&svg, even) - 5, STK_SVG_END, "all alike");
    stk_svg_text(&svg, (svg.left + svg.right) / 2, svg.height - 8, STK_SVG_MIDDLE,
                 "experts of a layer, most used first");
    stk_svg_end(&svg);
}
