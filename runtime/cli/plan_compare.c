#include "cli/plan_show.h"

// Of a shorter stage the share says nothing.
static const double STAGE_MS_MIN = 0.5;

// What the meter's phases are in the plan's stages.
typedef struct row {
    const char *name;
    uint32_t stages, phases; // sets
} row;

enum {
    ROW_PHASES = 1u << STK_PHASE_EMBED | 1u << STK_PHASE_ROUTE | 1u << STK_PHASE_QUANTIZE |
                 1u << STK_PHASE_NORM | 1u << STK_PHASE_COMBINE | 1u << STK_PHASE_HEAD_NORM,
};

static const row rows[] = {
    {"projections", 1u << STK_STAGE_PROJECT, 1u << STK_PHASE_PROJECT | 1u << STK_PHASE_OUTPUT},
    {"attention", 1u << STK_STAGE_ATTEND, 1u << STK_PHASE_ATTEND},
    {"experts, disk",
     1u << STK_STAGE_GATE | 1u << STK_STAGE_UP | 1u << STK_STAGE_DOWN | 1u << STK_STAGE_DISK,
     1u << STK_PHASE_EXPERTS},
    {"rows", 1u << STK_STAGE_ROWS, ROW_PHASES},
    {"head", 1u << STK_STAGE_HEAD, 1u << STK_PHASE_HEAD},
};

static double planned_ms(const stk_plan_cost *cost, uint32_t stages)
{
    double sum = 0;
    for (int i = 0; i < STK_STAGE_COUNT; i++)
        sum += stages >> i & 1 ? cost->stages[i].seconds : 0;
    return 1e3 * sum;
}

static double measured_ms(const stk_metrics *m, uint32_t phases)
{
    uint64_t sum = 0;
    for (uint32_t layer = 0; layer <= m->layer_count; layer++)
        for (int i = 0; i < STK_PHASE_COUNT; i++)
            sum += phases >> i & 1 ? m->busy_ns[layer][i] + m->wait_ns[layer][i] : 0;
    return 1e-6 * (double)sum;
}

static double percent_off(double planned, double measured)
{
    return measured > 0 ? 100 * (planned / measured - 1) : 0;
}

// Which experts were found, what was read for the others, and how fast.
static void compare_reads(const stk_plan_cost *cost, double passes, double seconds,
                          const stk_expert_store_stats *r, const stk_log *log)
{
    const stk_plan_stage *disk = &cost->stages[STK_STAGE_DISK];
    double wanted = r->wanted ? (double)r->wanted : 1, busy = 1e-9 * (double)r->busy_ns;
    stk_info(log, "  %-12s %10.1f%% %10.1f%% of the experts wanted", "found", 100 * cost->hit_rate,
             100 * (double)r->hits / wanted);
    stk_info(log, "  %-12s %11.1f %11.1f MiB", "read", disk->bytes / 0x1p20,
             (double)r->read_bytes / 0x1p20 / passes);
    if (busy > 0)
        stk_info(log,
                 "  %-12s %11s %11.0f MiB/s while busy, %.0f %% of the time; %.1f reads in flight, "
                 "packing %.0f %%",
                 "disk", "", (double)r->read_bytes / 0x1p20 / busy, 100 * busy / seconds,
                 1e-9 * (double)r->flight_ns / busy, 1e-7 * (double)r->pack_ns / seconds);
}

void stk_plan_compare(const char *what, const stk_plan_cost *cost, uint64_t passes,
                      const stk_metrics *metrics, const stk_expert_store_stats *reads,
                      const stk_log *log)
{
    double times = (double)passes, all = measured_ms(metrics, ~0u);
    double large = all - measured_ms(metrics, ROW_PHASES); // without taking memory, that is
    if (large < STK_PASS_MS_MIN * (double)metrics->forwards) {
        stk_info(log, "%s: %.2f ms a pass, too short to predict stage by stage", what,
                 all / (double)metrics->forwards);
        return;
    }
    stk_info(log, "%-14s %11s %11s", what, "planned ms", "measured ms");
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        double planned = planned_ms(cost, rows[i].stages);
        double measured = measured_ms(metrics, rows[i].phases) / times;
        if (measured < STAGE_MS_MIN && planned < STAGE_MS_MIN)
            stk_info(log, "  %-12s %11.3f %11.3f", rows[i].name, planned, measured);
        else
            stk_info(log, "  %-12s %11.3f %11.3f %+6.0f %%", rows[i].name, planned, measured,
                     percent_off(planned, measured));
    }
    stk_info(log, "  %-12s %11.3f %11.3f %+6.0f %%", "sum", 1e3 * cost->seconds, all / times,
             percent_off(1e3 * cost->seconds, all / times));
    if (reads)
        compare_reads(cost, times, 1e-3 * all, reads, log);
}
