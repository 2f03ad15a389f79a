// cli/bench_table.c: a bench for people (a table) and for spreadsheets (CSV, one row per result).
#include "base/size.h"
#include "cli/bench.h"
#include <string.h>

static void write_machine(const stk_bench_report *report, FILE *to)
{
    const stk_bench_machine *m = &report->machine;
    char memory[STK_SIZE_TEXT_BYTES], llc[STK_SIZE_TEXT_BYTES];
    fprintf(to, "%s: %u cores, %s of memory, last-level cache %s; %s kernels; stoker %s (%s)\n",
            m->cpu, m->cores, stk_size_format(m->memory_bytes, memory),
            m->llc_bytes ? stk_size_format(m->llc_bytes, llc) : "unknown", report->kernels,
            m->version, m->commit);
    fprintf(to, "%s (%s), load average %.2f at the start\n\n", report->model_file,
            report->model_name, m->load_average);
}

static void write_speeds(const stk_bench_report *report, FILE *to)
{
    fprintf(to, "%-7s %6s %6s %4s %9s %10s %17s %10s %7s %9s %6s  %s\n", "kind", "tokens", "depth",
            "thr", "memory", "tokens/s", "min .. max", "MB/token", "GB/s", "roofline", "GOP/s",
            "limit");
    for (uint32_t i = 0; i < report->count; i++) {
        const stk_bench_result *r = &report->results[i];
        double speed = stk_bench_samples_median(&r->tokens_per_s);
        char memory[STK_SIZE_TEXT_BYTES] = "auto";
        if (r->memory_limit_bytes != 0)
            stk_size_format(r->memory_limit_bytes, memory);
        fprintf(to, "%-7s %6u %6u %4u %9s %10.2f %8.2f ..%7.2f %10.3f %7.2f %8.1f%% %6.1f  %s%s\n",
                r->is_prompt ? "prompt" : "decode", r->tokens, r->depth, r->threads, memory, speed,
                stk_bench_samples_min(&r->tokens_per_s), stk_bench_samples_max(&r->tokens_per_s),
                r->bytes_per_token * 1e-6, stk_bench_samples_median(&r->bandwidth.all) * 1e-9,
                100 * r->roofline_fraction, r->operations_per_token * speed * 1e-9, r->limit,
                stk_bench_is_noisy(report, r) ? " (noisy)" : "");
    }
}

// Only with several memory nodes.
static void write_nodes(const stk_bench_report *report, FILE *to)
{
    for (uint32_t i = 0; i < report->count; i++) {
        const stk_bench_result *r = &report->results[i];
        if (r->bandwidth.node_count < 2)
            continue;
        fprintf(to, "%-7s %6u  memory nodes read by their own threads, GB/s:",
                r->is_prompt ? "prompt" : "decode", r->depth);
        for (uint32_t n = 0; n < r->bandwidth.node_count; n++)
            fprintf(to, " %.2f", stk_bench_samples_median(&r->bandwidth.nodes[n]) * 1e-9);
        fputc('\n', to);
    }
}

static void write_bytes(const stk_bench_report *report, FILE *to)
{
    fprintf(to, "\nMB per token\n%-7s %6s", "kind", "depth");
    for (int c = 0; c < STK_COMPONENT_COUNT; c++)
        fprintf(to, " %9s", stk_component_name((stk_component)c));
    fputc('\n', to);
    for (uint32_t i = 0; i < report->count; i++) {
        const stk_bench_result *r = &report->results[i];
        fprintf(to, "%-7s %6u", r->is_prompt ? "prompt" : "decode", r->depth);
        for (int c = 0; c < STK_COMPONENT_COUNT; c++)
            fprintf(to, " %9.3f", r->bytes[c] * 1e-6);
        fputc('\n', to);
    }
}

// Only when some experts live on disk.
static void write_store(const stk_bench_report *report, FILE *to)
{
    bool any = false;
    for (uint32_t i = 0; i < report->count; i++) {
        const stk_bench_result *r = &report->results[i];
        char limit[STK_SIZE_TEXT_BYTES];
        if (r->memory_limit_bytes == 0)
            continue;
        if (!any)
            fprintf(to, "\n%-7s %6s %6s %4s %10s %9s %14s %14s\n", "kind", "tokens", "depth", "thr",
                    "memory", "hits", "disk MB/token", "stall ms/token");
        any = true;
        fprintf(to, "%-7s %6u %6u %4u %10s %8.1f%% %14.3f %14.3f\n",
                r->is_prompt ? "prompt" : "decode", r->tokens, r->depth, r->threads,
                stk_size_format(r->memory_limit_bytes, limit), 100 * r->hit_rate,
                r->disk_bytes_per_token * 1e-6, r->stall_s_per_token * 1e3);
    }
}

static void write_rest(const stk_bench_report *report, FILE *to)
{
    fprintf(to, "\n%-7s %6s %6s %4s %11s %8s %10s %7s %7s %8s %6s %9s\n", "kind", "tokens", "depth",
            "thr", "first token", "load", "peak", "waiting", "active", "hottest", "rare",
            "half in");
    for (uint32_t i = 0; i < report->count; i++) {
        const stk_bench_result *r = &report->results[i];
        stk_bench_skew skew = stk_bench_skew_of(r);
        char first[32] = "-";
        if (r->is_prompt)
            snprintf(first, sizeof first, "%.3f s", r->first_token_s);
        fprintf(
            to, "%-7s %6u %6u %4u %11s %6.2f s %6.0f MiB %6.1f%% %6.1f%% %8.2f %5.0f%% %8.0f%%\n",
            r->is_prompt ? "prompt" : "decode", r->tokens, r->depth, r->threads, first, r->load_s,
            (double)r->peak_rss_bytes / 0x1p20, 100 * r->wait_fraction, 100 * r->active_fraction,
            skew.hottest_rate, 100 * skew.rare_fraction, 100 * skew.half_fraction);
    }
}

// Only where there are several.
static void write_sequences(const stk_bench_result *r, FILE *to)
{
    double speed = stk_bench_samples_median(&r->tokens_per_s);
    if (r->sequences > 1)
        fprintf(to, "\ndecode %u of %u sequences: %.2f tokens/s together, %.2f each\n", r->tokens,
                r->sequences, speed, speed / r->sequences);
}

// Seconds per token, all sequences together; 0: nobody knows.
static double predict(const stk_bench_result *r)
{
    const stk_engine_prediction *p = &r->ranks.predicted;
    bool is_token = r->is_greedy || r->is_sampled;
    if (r->is_prompt || p->token_s <= 0)
        return 0;
    if (r->sequences >= r->ranks.count)
        return p->slowest_s;
    return r->sequences == 1 ? p->token_s + (is_token ? 0 : p->logits_s) : 0;
}

static void write_ranks(const stk_bench_result *r, FILE *to)
{
    const stk_bench_ranks *all = &r->ranks;
    if (all->count < 2)
        return;
    fprintf(to, "\n%s %u over %u ranks: %.2f tokens/s", r->is_prompt ? "prompt" : "decode",
            r->tokens, all->count, stk_bench_samples_median(&r->tokens_per_s));
    double predicted_s = predict(r);
    if (predicted_s > 0)
        fprintf(to, ", %.2f predicted", 1 / predicted_s);
    if (all->hop_s > 0) // else none was alone under way
        fprintf(to, "; hops %.0f us each, %.3f ms per answer", all->hop_s * 1e6,
                all->overhead_s * 1e3);
    fprintf(to, "; %.1f KiB per token and hop, ", all->hop_bytes / 1024);
    if (r->is_greedy || r->is_sampled)
        fprintf(to, "%.0f bytes back (%s)\n", all->logits_bytes,
                r->is_greedy ? "greedy" : "sampled");
    else
        fprintf(to, "%.1f KiB back (--greedy, --sampled: 4 bytes)\n", all->logits_bytes / 1024);
    fprintf(to, "%4s %-20s %6s %14s %12s %14s %12s\n", "rank", "host", "idle", "busy ms/token",
            "MB/token", "disk MB/token", "weights");
    for (uint32_t i = 0; i < all->count; i++) {
        const stk_bench_rank *rank = &all->ranks[i];
        fprintf(to, "%4u %-20s %5.1f%% %14.3f %12.2f %14.3f %8.0f MiB\n", i, rank->host,
                100 * rank->idle_fraction, rank->busy_s_per_token * 1e3,
                rank->bytes_per_token * 1e-6, rank->disk_bytes_per_token * 1e-6,
                (double)rank->weight_bytes / 0x1p20);
    }
}

static void write_draft(const stk_bench_draft *d, FILE *to)
{
    double plain = stk_bench_samples_median(&d->plain),
           drafted = stk_bench_samples_median(&d->drafted);
    if (d->drafted.count == 0)
        return;
    fprintf(to, "\n%u tokens written greedily after %u, %u threads, in turns, %u each\n", d->tokens,
            d->prompt_tokens, d->threads, d->drafted.count);
    fprintf(to, "%10.2f tokens/s (%.2f .. %.2f)  one by one\n", plain,
            stk_bench_samples_min(&d->plain), stk_bench_samples_max(&d->plain));
    fprintf(to, "%10.2f tokens/s (%.2f .. %.2f)  with drafts of up to %u\n", drafted,
            stk_bench_samples_min(&d->drafted), stk_bench_samples_max(&d->drafted),
            d->options.tokens_max);
    fprintf(to, "%10.3f ratio; %u of %u drafted tokens accepted (%.0f %%), %u passes\n",
            drafted / plain, d->accepted_tokens, d->drafted_tokens,
            d->drafted_tokens ? 100.0 * d->accepted_tokens / d->drafted_tokens : 0.0, d->passes);
}

static void write_peer(const stk_bench_peer *p, FILE *to)
{
    if (!p->command)
        return;
    double ours = stk_bench_samples_median(&p->ours), theirs = stk_bench_samples_median(&p->theirs);
    fprintf(to, "\n%s of %u tokens at depth %u, taken in turns, %u each\n",
            p->is_prompt ? "prompt" : "decode", p->tokens, p->depth, p->ours.count);
    fprintf(to, "%10.2f tokens/s (%.2f .. %.2f)  stoker\n", ours, stk_bench_samples_min(&p->ours),
            stk_bench_samples_max(&p->ours));
    fprintf(to, "%10.2f tokens/s (%.2f .. %.2f)  %s\n", theirs, stk_bench_samples_min(&p->theirs),
            stk_bench_samples_max(&p->theirs), p->command);
    fprintf(to, "%10.3f ratio\n", ours / theirs);
}

void stk_bench_write_table(const stk_bench_report *report, FILE *to)
{
    write_machine(report, to);
    write_speeds(report, to);
    write_nodes(report, to);
    if (report->count > 0) {
        write_bytes(report, to);
        write_rest(report, to);
        write_store(report, to);
    }
    for (uint32_t i = 0; i < report->count; i++)
        write_sequences(&report->results[i], to);
    for (uint32_t i = 0; i < report->count; i++)
        write_ranks(&report->results[i], to);
    write_peer(&report->peer, to);
    write_draft(&report->draft, to);
}

// A field of CSV (RFC 4180).
static void write_text(const char *text, FILE *to)
{
    if (!text[strcspn(text, ",\"\r\n")]) {
        fputs(text, to);
        return;
    }
    fputc('"', to);
    for (; *text; text++) {
        if (*text == '"')
            fputc('"', to);
        fputc(*text, to);
    }
    fputc('"', to);
}

static void write_row(const stk_bench_report *report, const stk_bench_result *r, FILE *to)
{
    const stk_bench_machine *m = &report->machine;
    const char *texts[] = {m->commit, m->version, m->date, m->cpu};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        write_text(texts[i], to);
        fputc(',', to);
    }
    fprintf(to, "%u,%llu,%llu,%.2f,%s,", m->cores, (unsigned long long)m->memory_bytes,
            (unsigned long long)m->llc_bytes, m->load_average,
            stk_bench_is_noisy(report, r) ? "noisy" : "quiet");
    write_text(report->model_file, to);
    fprintf(to, ",%llu,%s,%s,%u,%u,%u,%u,%u,%.4f,%.4f,%.4f,", (unsigned long long)r->weight_bytes,
            report->kernels, r->is_prompt ? "prompt" : "decode", r->tokens, r->depth, r->threads,
            r->batch_rows, r->tokens_per_s.count, stk_bench_samples_median(&r->tokens_per_s),
            stk_bench_samples_min(&r->tokens_per_s), stk_bench_samples_max(&r->tokens_per_s));
    if (r->is_prompt)
        fprintf(to, "%.6f", r->first_token_s);
    fprintf(to, ",%.3f,%llu,%.0f", r->load_s, (unsigned long long)r->peak_rss_bytes,
            r->bytes_per_token);
    for (int c = 0; c < STK_COMPONENT_COUNT; c++)
        fprintf(to, ",%.0f", r->bytes[c]);
    stk_bench_skew skew = stk_bench_skew_of(r);
    fprintf(to, ",%.0f,%.0f,%.4f,%.4f,%s,%.4f,%.4f,%.4f,", r->operations_per_token,
            stk_bench_samples_median(&r->bandwidth.all), r->roofline_fraction, r->wait_fraction,
            r->limit, r->active_fraction, skew.hottest_rate, skew.rare_fraction);
    fprintf(to, "%llu,%.4f,%.0f,%.6f,%u,", (unsigned long long)r->memory_limit_bytes, r->hit_rate,
            r->disk_bytes_per_token, r->stall_s_per_token, r->sequences);
    for (uint32_t n = 0; n < r->bandwidth.node_count; n++) // a list in one column
        fprintf(to, "%s%.0f", n ? " " : "", stk_bench_samples_median(&r->bandwidth.nodes[n]));
    fputc(',', to);
    if (r->others.is_known)
        fprintf(to, "%.4f", stk_bench_others_fraction(&r->others, m->threads));
    fputc('\n', to);
}

void stk_bench_write_csv(const stk_bench_report *report, FILE *to)
{
    fputs("commit,version,date,cpu,cores,memory_bytes,llc_bytes,load_average,noise,model,"
          "weight_bytes,kernels,kind,tokens,depth,threads,batch_rows,samples,tokens_per_s_median,"
          "tokens_per_s_min,tokens_per_s_max,first_token_s,load_s,peak_rss_bytes,bytes_per_token",
          to);
    for (int c = 0; c < STK_COMPONENT_COUNT; c++)
        fprintf(to, ",bytes_%s", stk_component_name((stk_component)c));
    fputs(",operations_per_token,bandwidth_bytes_per_s,roofline_fraction,wait_fraction,limit,"
          "active_fraction,hottest_expert_rate,rare_expert_fraction,memory_limit_bytes,hit_rate,"
          "disk_bytes_per_token,stall_s_per_token,sequences,node_bandwidths_bytes_per_s,"
          "others_fraction\n",
          to);
    for (uint32_t i = 0; i < report->count; i++)
        write_row(report, &report->results[i], to);
}
