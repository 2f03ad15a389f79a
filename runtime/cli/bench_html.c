// cli/bench_html.c: a bench as one page that needs nothing else: no script, no font, no request.
#include "cli/bench_charts.h"
#include "cli/svg.h"

static const char style[] =
    ":root{color-scheme:light dark;--ink:#1d2329;--dim:#5d6771;--page:#fbfbfa;--line:#dde1e5;"
    "--c0:#2563a8;--c1:#c2571a;--c2:#3d8b58;--c3:#8a4fa3;--c4:#a08617;--c5:#8b95a0;"
    "--c6:#1c8f9c;--c7:#b83a5c}\n"
    "@media(prefers-color-scheme:dark){:root{--ink:#e3e7ea;--dim:#98a2ac;--page:#15191d;"
    "--line:#343c44;--c0:#6ca6e8;--c1:#eb9058;--c2:#72c08d;--c3:#c290d8;--c4:#d6bd4e;"
    "--c5:#6d7883;--c6:#58c4d0;--c7:#ec7895}}\n"
    "body{margin:2rem auto;max-width:70rem;padding:0 1rem;color:var(--ink);background:var(--page);"
    "font:15px/1.5 system-ui,sans-serif}\n"
    "h1{font-size:1.5rem}h2{font-size:1.1rem;margin:2.2rem 0 .3rem}p{margin:.2rem 0 .6rem}\n"
    ".dim,text{color:var(--dim);fill:var(--dim)}svg{width:100%;height:auto}\n"
    "text{font-size:11px}.grid{stroke:var(--line)}.back{fill:var(--line)}\n"
    "polyline{fill:none}.thin{stroke:var(--c0);stroke-opacity:.25}"
    ".strong{stroke:var(--c0);stroke-width:2.5}.mark{stroke:var(--c7);stroke-dasharray:5 4}\n"
    ".wide{overflow-x:auto}table{border-collapse:collapse;font-variant-numeric:tabular-nums}"
    "td,th{padding:.25rem .5rem;white-space:nowrap;border-bottom:1px solid "
    "var(--line);text-align:right}"
    "td:first-child,th:first-child{text-align:left}\n"
    ".key{margin-right:1rem;white-space:nowrap}.key svg{width:.8em;height:.8em}\n"
    ".s0{fill:var(--c0)}.s1{fill:var(--c1)}.s2{fill:var(--c2)}.s3{fill:var(--c3)}"
    ".s4{fill:var(--c4)}.s5{fill:var(--c5)}.s6{fill:var(--c6)}.s7{fill:var(--c7)}\n";

static void write_machine(const stk_bench_report *report, FILE *to)
{
    const stk_bench_machine *m = &report->machine;
    fputs("<h1>stoker bench: ", to);
    stk_html_escape(report->model_file, to);
    fputs("</h1>\n<p class=\"dim\">", to);
    stk_html_escape(report->model_name, to);
    fputs("; ", to);
    stk_html_escape(m->cpu, to);
    fprintf(to,
            ", %u cores, %.1f GiB of memory, last-level cache %.0f MiB; %s kernels; stoker %s (%s);"
            " %s; load average %.2f at the start</p>\n",
            m->cores, (double)m->memory_bytes / 0x1p30, (double)m->llc_bytes / 0x1p20,
            report->kernels, m->version, m->commit, m->date, m->load_average);
}

static void write_results(const stk_bench_report *report, FILE *to)
{
    fputs("<div class=\"wide\"><table>\n<tr><th>run</th><th>depth</th><th>threads</th>"
          "<th>tokens/s</th><th>min</th><th>max</th><th>first token</th><th>MB/token</th>"
          "<th>GB/s</th><th>roofline</th><th>GOP/s</th><th>waiting</th><th>active</th>"
          "<th>peak MiB</th><th>limit</th></tr>\n",
          to);
    for (uint32_t i = 0; i < report->count; i++) {
        const stk_bench_result *r = &report->results[i];
        double speed = stk_bench_samples_median(&r->tokens_per_s);
        char first[32] = "";
        if (r->is_prompt)
            snprintf(first, sizeof first, "%.3f s", r->first_token_s);
        fprintf(to,
                "<tr><td>%s %u</td><td>%u</td><td>%u</td><td><b>%.2f</b></td><td>%.2f</td>"
                "<td>%.2f</td><td>%s</td><td>%.2f</td><td>%.2f</td><td>%.1f %%</td><td>%.1f</td>"
                "<td>%.1f %%</td><td>%.1f %%</td><td>%.0f</td><td>%s%s</td></tr>\n",
                r->is_prompt ? "prompt" : "decode", r->tokens, r->depth, r->threads, speed,
                stk_bench_samples_min(&r->tokens_per_s), stk_bench_samples_max(&r->tokens_per_s),
                first, r->bytes_per_token * 1e-6,
                stk_bench_samples_median(&r->bandwidth.all) * 1e-9, 100 * r->roofline_fraction,
                r->operations_per_token * speed * 1e-9, 100 * r->wait_fraction,
                100 * r->active_fraction, (double)r->peak_rss_bytes / 0x1p20, r->limit,
                stk_bench_is_noisy(report, r) ? ", noisy" : "");
    }
    fputs("</table></div>\n", to);
}

static void write_key(unsigned colour, const char *name, FILE *to)
{
    fprintf(to,
            "<span class=\"key\"><svg viewBox=\"0 0 8 8\"><rect class=\"s%u\" width=\"8\" "
            "height=\"8\"/></svg> %s</span>\n",
            colour, name);
}

// The charts about layers show the last decode, or the last prompt when nothing was decoded.
static const stk_bench_result *detailed(const stk_bench_report *report)
{
    const stk_bench_result *found = &report->results[report->count - 1];
    for (uint32_t i = 0; i < report->count; i++)
        if (!report->results[i].is_prompt)
            found = &report->results[i];
    return found;
}

static void write_layers(const stk_bench_result *r, FILE *to)
{
    fprintf(to,
            "<h2>Time per layer</h2>\n<p class=\"dim\">Of %s %u at depth %u with %u threads:"
            " worker 0, one forward pass; bars grow upwards in the order of the key.</p>\n<p>",
            r->is_prompt ? "prompt" : "decode", r->tokens, r->depth, r->threads);
    for (unsigned i = 0; stk_bench_chart_time_name(i); i++)
        write_key(i, stk_bench_chart_time_name(i), to);
    fputs("</p>\n", to);
    stk_bench_chart_layers(r, to);
    fprintf(to,
            "<h2>Experts</h2>\n<p class=\"dim\">How often each is chosen, over %llu tokens;"
            " darker is more.</p>\n",
            (unsigned long long)r->expert_tokens);
    stk_bench_chart_experts(r, to);
    fputs("<h2>Router skew</h2>\n<p class=\"dim\">Rates of the experts of each layer, sorted; the "
          "strong line is their mean.</p>\n",
          to);
    stk_bench_chart_skew(r, to);
    fputs("<h2>Active neurons</h2>\n<p class=\"dim\">Of the chosen experts; the others' weights "
          "are not read.</p>\n",
          to);
    stk_bench_chart_neurons(r, to);
}

static void write_peer(const stk_bench_peer *p, FILE *to)
{
    double ours = stk_bench_samples_median(&p->ours), theirs = stk_bench_samples_median(&p->theirs);
    fprintf(to,
            "<h2>Compared</h2>\n<p>%s %u at depth %u, %u times each in turns: stoker %.2f "
            "tokens/s, the other %.2f, ratio <b>%.3f</b>.</p>\n<p class=\"dim\"><code>",
            p->is_prompt ? "prompt" : "decode", p->tokens, p->depth, p->ours.count, ours, theirs,
            ours / theirs);
    stk_html_escape(p->command, to);
    fputs("</code></p>\n", to);
}

void stk_bench_write_html(const stk_bench_report *report, FILE *to)
{
    fprintf(to,
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n"
            "<meta name=\"viewport\" content=\"width=device-width\"/>\n"
            "<title>stoker bench</title>\n<style>\n%s</style>\n</head>\n<body>\n",
            style);
    write_machine(report, to);
    write_results(report, to);
    if (report->peer.command)
        write_peer(&report->peer, to);
    fputs("<h2>Roofline</h2>\n<p class=\"dim\">Bytes needed per second over the bandwidth measured "
          "in the same run.</p>\n",
          to);
    stk_bench_chart_roofline(report, to);
    fputs("<h2>Bytes per token</h2>\n<p>", to);
    for (int c = 0; c < STK_COMPONENT_COUNT; c++)
        write_key((unsigned)c, stk_component_name((stk_component)c), to);
    fputs("</p>\n", to);
    stk_bench_chart_bytes(report, to);
    if (report->count > 0)
        write_layers(detailed(report), to);
    fputs("</body>\n</html>\n", to);
}
