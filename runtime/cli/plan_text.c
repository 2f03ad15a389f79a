#include "cli/plan_show.h"

#include "base/size.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

enum { SOURCE_BYTES = 160, TIME_BYTES = 32 };

static void print_size(uint64_t bytes)
{
    char text[STK_SIZE_TEXT_BYTES];
    fputs(stk_size_format(bytes, text), stdout);
}

static const char *plural(uint64_t count)
{
    return count == 1 ? "" : "s";
}

// Where the value of an option came from: "flag", "x.yaml line 3", or `otherwise`.
static const char *source_of(const stk_plan_shown *s, const char *flag, const char *otherwise,
                             char text[SOURCE_BYTES])
{
    const stk_argument_origin *o = stk_argument_origin_of(s->origins, flag);
    if (!o)
        snprintf(text, SOURCE_BYTES, "%s", otherwise);
    else if (o->is_flag)
        snprintf(text, SOURCE_BYTES, "flag --%s", flag);
    else
        snprintf(text, SOURCE_BYTES, "%.120s line %zu", s->config_path ? s->config_path : "config",
                 o->config_line);
    return text;
}

static void print_value(const char *name, const char *value, const char *source, bool explains)
{
    if (explains)
        printf("%-10s %-34s %s\n", name, value, source);
    else
        printf("%-10s %s\n", name, value);
}

static const char *time_text(int64_t seconds, char text[TIME_BYTES])
{
    struct tm local;
    time_t at = (time_t)seconds;
    if (!localtime_r(&at, &local) || !strftime(text, TIME_BYTES, "%Y-%m-%d %H:%M", &local))
        snprintf(text, TIME_BYTES, "once");
    return text;
}

static void print_disk_source(const stk_plan_facts *f)
{
    char text[TIME_BYTES];
    const stk_known_disk *d = &f->disk;
    if (!f->has_disk_probe) {
        puts("assumed, not measured)");
        return;
    }
    printf("measured %s", time_text(d->probed_at, text));
    if (d->run_bytes_per_s > 0)
        printf(": %.2f; a run got %.2f at %s; the newer counts more",
               (double)d->probe.random_expert_mib_s * 0x1p20 / 1e9, d->run_bytes_per_s / 1e9,
               time_text(d->run_at, text));
    puts(")");
}

// Of the model's own products.
static void print_rate(const stk_plan_model *m, const stk_plan_rate *rate)
{
    const struct {
        const char *what;
        const stk_plan_mix *mix;
    } all[] = {{"attention", &m->attention_mix},
               {"gate", &m->gate_mix},
               {"up", &m->up_mix},
               {"down", &m->down_mix},
               {"head", &m->head_mix}};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        for (uint32_t k = 0; k < all[i].mix->count; k++)
            if (all[i].mix->kernel[k] == rate->kernel)
                printf("           %.1f one row, %.1f many: %.0f %% of %s\n",
                       rate->one_macs_per_s / 1e9, rate->many_macs_per_s / 1e9,
                       100 * all[i].mix->share[k], all[i].what);
}

static void print_machine(const stk_plan_shown *s, bool explains)
{
    const stk_plan_machine *m = &s->facts->machine;
    printf("model      %s: %" PRIu32 " layers of %" PRIu32 " experts, %" PRIu32 " used\n",
           s->model_name, s->model->layer_count, s->model->expert_count,
           s->model->expert_used_count);
    printf("machine    %s: %" PRIu32 " core%s", s->facts->is_this ? "this one" : "invented",
           s->facts->cores, plural(s->facts->cores));
    if (s->facts->cpu_quota > 0)
        printf(" (%.2f allowed by the control group)", s->facts->cpu_quota);
    printf(", %" PRIu32 " memory node%s, ", m->node_count, plural(m->node_count));
    print_size(m->memory_available_bytes);
    puts(" available");
    if (!explains)
        return;
    char when[TIME_BYTES + 16] = "assumed, not measured", at[TIME_BYTES];
    if (s->facts->has_memory_probe)
        snprintf(when, sizeof when, "measured %s", time_text(s->facts->measured_at, at));
    for (uint32_t i = 0; i < m->node_count; i++)
        printf("  node %-3" PRIu32
               " %.1f GB/s, one thread %.1f; in short runs %.1f and %.1f (%s)\n",
               i, m->nodes[i].read_bytes_per_s / 1e9, m->nodes[i].one_bytes_per_s / 1e9,
               m->nodes[i].runs_bytes_per_s / 1e9, m->nodes[i].one_runs_bytes_per_s / 1e9, when);
    printf("  core     %.1f G int8 multiply-adds/s one row, %.1f many (%s)\n",
           m->decode_macs_per_s / 1e9, m->prefill_macs_per_s / 1e9, when);
    for (uint32_t i = 0; i < m->rate_count; i++)
        print_rate(s->model, &m->rates[i]);
    printf("  disk     %.2f GB/s, %.0f us (", m->disk_bytes_per_s / 1e9, m->disk_latency_s * 1e6);
    print_disk_source(s->facts);
    for (uint32_t g = 0; g < m->gpu_count; g++)
        printf("  GPU      %s: %.0f GB/s (%s), %.2f T multiply-adds/s (usual for its kind)\n",
               m->gpus[g].name, m->gpus[g].read_bytes_per_s / 1e9,
               m->gpus[g].is_measured ? "measured" : "usual for its kind",
               m->gpus[g].operations_per_s / 1e12);
    printf("  experts  %s\n", s->model->usage_tokens ? "used as recorded beside the model"
                                                     : "used as is usual; nothing recorded");
}

static void print_memory(const stk_plan_shown *s, bool explains)
{
    const stk_plan *p = s->plan;
    char limit[STK_SIZE_TEXT_BYTES], value[64], source[SOURCE_BYTES];
    if (p->memory_limit_bytes)
        snprintf(value, sizeof value, "limit %s", stk_size_format(p->memory_limit_bytes, limit));
    else
        snprintf(value, sizeof value, "no limit needed");
    print_value("memory", value,
                p->is_limit_lowered ? "lowered: nobody can have more here"
                                    : source_of(s, "memory", "what the system has", source),
                explains);
    const struct {
        const char *name;
        uint64_t bytes;
    } rows[] = {{"program and vocabulary", p->program_bytes},
                {"attention, routers, head", p->dense_bytes},
                {"KV cache and scratch", p->session_bytes},
                {"reads in flight", p->staging_bytes},
                {"experts", p->cache_bytes},
                {"sum", p->total_bytes}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        printf("  %-25s %9.1f MiB\n", rows[i].name, (double)rows[i].bytes / 0x1p20);
    printf("experts    %" PRIu32 " of %" PRIu32 " in memory", p->choices.slots, p->experts);
    if (p->choices.decode_slots > p->choices.slots)
        printf(", %" PRIu32 " while decoding", p->choices.decode_slots);
    printf("; %.1f %% found there\n", 100 * p->decode.hit_rate);
    for (uint32_t g = 0; g < p->gpu_count; g++)
        printf("           %" PRIu32 " on %s, %.1f MiB\n", p->choices.gpu_experts[g],
               s->facts->machine.gpus[g].name, (double)p->gpu_bytes[g] / 0x1p20);
}

static void print_choices(const stk_plan_shown *s, bool explains)
{
    const stk_plan *p = s->plan;
    char value[64], source[SOURCE_BYTES];
    const char *searched = p->is_exhaustive ? "best of all combinations" : "searched";
    uint32_t cores = s->facts->machine.worker_max;
    if (p->choices.worker_count > cores)
        snprintf(value, sizeof value, "%" PRIu32 ", no faster than %" PRIu32 " here",
                 p->choices.worker_count, cores);
    else
        snprintf(value, sizeof value, "%" PRIu32, p->choices.worker_count);
    print_value("threads", value, source_of(s, "threads", searched, source), explains);
    for (uint32_t i = 0; i < p->node_count && p->node_count > 1; i++)
        printf("  node %-3" PRIu32 " %" PRIu32 " thread%s, %.1f MiB of experts\n", i,
               p->node_workers[i], plural(p->node_workers[i]),
               (double)p->node_cache_bytes[i] / 0x1p20);
    snprintf(value, sizeof value, "%" PRIu32 " rows of a prompt at once", p->choices.batch_rows);
    print_value("batch", value, source_of(s, "batch", searched, source), explains);
    snprintf(value, sizeof value, "%" PRIu32 " tokens", p->context_tokens);
    print_value("context", value, source_of(s, "ctx", "the model's, or what memory allows", source),
                explains);
    if (p->choices.slots >= p->experts)
        snprintf(value, sizeof value, "none: every expert is in memory");
    else
        snprintf(value, sizeof value, "%" PRIu32 " layer%s ahead", p->choices.guess_layers,
                 plural(p->choices.guess_layers));
    print_value("guesses", value, source_of(s, "guess-layers", searched, source), explains);
    snprintf(value, sizeof value, "%" PRIu32 " in flight", p->choices.reads_inflight);
    print_value("reads", value, source_of(s, "inflight", "twice what keeps the disk busy", source),
                explains);
    const char *gpu = p->gpu_count ? s->facts->machine.gpus[0].name : "no GPU";
    const char *alone = p->gpu_count ? searched : "no GPU is used";
    snprintf(value, sizeof value, "CPU, every layer");
    if (p->choices.gpu_layers)
        snprintf(value, sizeof value, "last %" PRIu32 " layers on %.30s", p->choices.gpu_layers,
                 gpu);
    print_value("attention", value,
                p->gpu_count ? source_of(s, "gpu-layers", alone, source) : alone, explains);
    snprintf(value, sizeof value, "%.60s", p->choices.gpu_head ? gpu : "CPU");
    print_value("head", value, p->gpu_count ? source_of(s, "gpu-head", alone, source) : alone,
                explains);
    for (uint32_t r = 0; r < p->rank_count && p->rank_count > 1; r++)
        printf("rank %-5" PRIu32 " layers %" PRIu32 " to %" PRIu32 "\n", r, p->ranks[r].first,
               p->ranks[r].first + p->ranks[r].count - 1);
}

static void print_stages(const stk_plan *p)
{
    printf("\n%-14s %10s  %-17s %10s  %s\n", "predicted", "decode ms", "limit", "prompt ms",
           "limit");
    for (int i = 0; i < STK_STAGE_COUNT; i++) {
        const stk_plan_stage *d = &p->decode.stages[i], *f = &p->prefill.stages[i];
        if (d->seconds > 0 || f->seconds > 0)
            printf("%-14s %10.3f  %-17s %10.2f  %s\n", stk_stage_name((stk_stage)i),
                   1e3 * d->seconds, stk_limit_kind_name(d->limit), 1e3 * f->seconds,
                   stk_limit_kind_name(f->limit));
    }
    printf("%-14s %10.3f  %-17s %10.2f  %s\n", "sum", 1e3 * p->decode.seconds,
           stk_limit_kind_name(p->decode.limit), 1e3 * p->prefill.seconds,
           stk_limit_kind_name(p->prefill.limit));
    printf("%-14s %10.1f  %-17s %10.1f  of %" PRIu32 " rows at once\n", "tokens/s",
           p->decode.tokens_per_s, "", p->prefill.tokens_per_s, p->prefill.rows);
    if (1e3 * p->decode.seconds < STK_PASS_MS_MIN)
        printf("%-14s a token in less than %.0f ms: too short to predict well\n", "",
               STK_PASS_MS_MIN);
}

// What a run takes whose cache starts empty, because no record of use says what to load.
static void print_first(const stk_plan_shown *s, bool explains)
{
    const stk_plan *p = s->plan;
    bool is_limited = p->first.disk_bytes > 0;
    if (!is_limited || (!s->model->starts_empty && !explains))
        return;
    printf("%-10s prompt %.1f tokens/s: it reads %.0f MiB, as the cache starts empty%s\n",
           "first run", p->first.tokens_per_s, p->first.disk_bytes / 0x1p20,
           s->model->starts_empty ? "; the above is for later runs" : " without a record of use");
}

static void print_binding(const stk_plan *p)
{
    double best = p->gain_memory;
    const char *name = "memory";
    for (int k = 0; k < STK_LIMIT_KIND_COUNT; k++)
        if (p->gain[k] > best) {
            best = p->gain[k];
            name = stk_limit_kind_name((stk_limit_kind)k);
        }
    printf("binds      %s: twice of it would make the work %.0f %% shorter\n", name, 100 * best);
    if (p->gain_packed >= 0.02)
        printf("           packed experts (stoker pack): %.0f %% shorter\n", 100 * p->gain_packed);
}

void stk_plan_print_text(const stk_plan_shown *s, bool explains)
{
    print_machine(s, explains);
    print_memory(s, explains);
    print_choices(s, explains);
    print_stages(s->plan);
    print_first(s, explains);
    print_binding(s->plan);
    if (!explains)
        return;
    const stk_plan *p = s->plan;
    printf("           twice the memory for experts: %.0f %%", 100 * p->gain_memory);
    for (int k = 0; k < STK_LIMIT_KIND_COUNT; k++)
        if (p->gain[k] >= 0.005)
            printf(", %s: %.0f %%", stk_limit_kind_name((stk_limit_kind)k), 100 * p->gain[k]);
    printf("\n           %" PRIu32 " combinations tried%s\n", p->tried,
           p->is_exhaustive ? ", all there are" : "");
}
