// What one forward pass costs: per stage bytes over bandwidth and operations over rate, which
// overlap in part, and fixed costs of its phases; reads of experts beside it. docs/scheduler.md.
#include "scheduler/cost_impl.h"

#include <math.h>
#include <string.h>

// What the engine does and how well, measured (bench/2026-11-22-plan.md,
// 2026-11-23-plan.md).
enum {
    ROWS_PER_TAKE = 64, // of a dense product
    EXPERT_PARTS = 4,   // workers share an expert so, of a few rows
    EXPERT_TILE = 32,   // rows an expert takes at once above
    DENSE_ROWS_MIN = 6, // from as many rows inactive neurons are computed too
    PHASES_PER_LAYER = 8,
    READ_BYTES = 512 << 10,
    SLICES = 3, // of an expert in a GGUF
};
// Of plain streaming, by the products of one row: each is over after a few MB and begins anew. The
// head alone is long enough for that not to count.
static const double DENSE_EFFICIENCY = 0.95;
static const double FEW_EFFICIENCY = 0.35; // of reads in runs, when a few rows take turns
static const double PACK_MOVES = 3; // laying out a byte: it is read, its place is read and written
// How well loading and multiplying overlap: seconds are (a^n + b^n)^(1/n), so 1 would be one after
// the other and much more the longer of both. Long products, and those that go from place to place.
static const double OVERLAP_LONG = 4, OVERLAP_SHORT = 2;
// Attention computes in floats, of the integer rate of one row; and a head takes as long as if it
// saw half a segment (cpu/cpu.h) more.
static const double ATTEND_SHARE = 0.54, ATTEND_POSITIONS_MORE = 128;
// What activations and results of many rows take to come and go, per multiply-add; it overlaps as
// short products do. Dense products and experts.
static const double MOVE_DENSE_S = 4.2e-12, MOVE_EXPERT_S = 5.2e-12;
static const double TILE_WASTE_ROWS = 8;     // of a tile of rows that an expert does not fill
static const double ROW_ELEMENT_S = 0.35e-9; // norms and sums: per element of a row touched
static const double ROW_ELEMENTS = 6;        // times the width, and as often as experts used twice
// How well decode's reads overlap with its computing: 1 would be one after the other, much more the
// longer of both. Without guesses, and for each layer guessed ahead, up to four.
static const double BLEND_NONE = 1.1, BLEND_GUESS = 0.13;
static const double READ_BEGIN_S = 32e-6; // a worker's time to hand an expert's read to the system
static const double PAGES_BYTES_PER_S = 1.2e9; // taking fresh memory: the kernel clears it

// Bytes per second that so many workers read from all nodes' memory together.
static double bandwidth(const stk_plan_machine *m, double workers, bool in_runs)
{
    double sum = 0, one = 0;
    uint32_t cores = 0;
    for (uint32_t i = 0; i < m->node_count; i++)
        cores += m->nodes[i].core_count;
    for (uint32_t i = 0; i < m->node_count; i++) {
        const stk_plan_node *n = &m->nodes[i];
        double all = in_runs ? n->runs_bytes_per_s : n->read_bytes_per_s;
        double each = in_runs ? n->one_runs_bytes_per_s : n->one_bytes_per_s;
        double share = n->core_count ? workers * n->core_count / cores : workers;
        sum += fmin(share * each, all);
        one = n->core_count ? fmax(one, each) : one;
    }
    return fmin(sum, workers * one);
}

// More workers than there are cores take turns.
static uint32_t workers_of(const stk_cost_pass *c)
{
    uint32_t most = c->machine->worker_max, given = c->choices->worker_count;
    return given < most ? given : most;
}

// Workers that have something to do while `pieces` are handed out.
static double busy_workers(double pieces, uint32_t workers)
{
    double rounds = ceil(pieces / workers);
    return pieces < 1 ? 1 : pieces / rounds;
}

// Of one of so many busy workers: alone a core is often faster.
static double core_rate(const stk_plan_machine *m, double alone, double together, double busy)
{
    double others = m->worker_max > 1 ? fmin((busy - 1) / (m->worker_max - 1), 1) : 1;
    return fmax(alone, together) + others * (together - fmax(alone, together));
}

static const stk_plan_rate *rate_of(const stk_plan_machine *m, uint32_t kernel)
{
    for (uint32_t i = 0; i < m->rate_count; i++)
        if (m->rates[i].kernel == kernel)
            return &m->rates[i];
    return NULL;
}

// What a and b seconds take that overlap so well: see above.
static double together(double a, double b, double overlap)
{
    return pow(pow(a, overlap) + pow(b, overlap), 1 / overlap);
}

// What a stage does: per layer it is handed out in `pieces`, `rows` rows at a time.
typedef struct work {
    double bytes, macs, pieces, rows;
    double efficiency;       // of the bandwidth
    bool in_runs;            // bytes come in short ones
    double overlap;          // of loading and multiplying
    double filled;           // of many rows' tiles; 0: all
    double move_s;           // with many rows, of each multiply-add
    const stk_plan_mix *mix; // of its weights; NULL: other than weights
} work;

// A multiply-add with one kind of weights, whose rates are given.
static double kind_s(const work *w, double one_per_s, double many_per_s)
{
    double one_s = 1 / one_per_s, filled = w->filled > 0 ? w->filled : 1;
    double many_s = together(1 / (many_per_s * filled), w->move_s, OVERLAP_SHORT);
    // Unpacking a weight is paid once, multiplying per row.
    return many_s < one_s ? many_s + (one_s - many_s) / (w->rows < 1 ? 1 : w->rows) : one_s;
}

// A multiply-add of one of so many busy cores.
static double mac_s(const stk_plan_machine *m, const work *w, double busy)
{
    double one = core_rate(m, m->decode_alone_macs_per_s, m->decode_macs_per_s, busy);
    double many = core_rate(m, m->prefill_alone_macs_per_s, m->prefill_macs_per_s, busy);
    double sum = 0, shares = 0;
    for (uint32_t i = 0; w->mix && i < w->mix->count; i++) {
        const stk_plan_rate *r = rate_of(m, w->mix->kernel[i]);
        if (!r)
            continue;
        // Alone they are as much faster as the machine's own kind is.
        sum += w->mix->share[i] * kind_s(w, r->one_macs_per_s * one / m->decode_macs_per_s,
                                         r->many_macs_per_s * many / m->prefill_macs_per_s);
        shares += w->mix->share[i];
    }
    return shares < 1 ? sum + (1 - shares) * kind_s(w, one, many) : sum;
}

static void add(const stk_cost_pass *c, stk_stage stage, work w)
{
    stk_plan_stage *s = &c->out->stages[stage];
    double busy = busy_workers(w.pieces, workers_of(c));
    double by_bytes = w.bytes / (bandwidth(c->machine, busy, w.in_runs) * w.efficiency);
    double by_macs = w.macs / busy * mac_s(c->machine, &w, busy);
    s->bytes = w.bytes;
    s->macs = w.macs;
    s->seconds = together(by_bytes, by_macs, w.overlap);
    s->limit = by_bytes > by_macs ? STK_LIMIT_BANDWIDTH : STK_LIMIT_COMPUTE;
}

double stk_cost_positions(const stk_plan_model *m, double position)
{
    double windowed = position < m->window_tokens ? position : m->window_tokens;
    return (m->layer_count - m->windowed_layers) * position + m->windowed_layers * windowed;
}

static void add_dense(const stk_cost_pass *c, double position)
{
    const stk_plan_model *m = c->model;
    double layers = m->layer_count, rows = c->rows;
    double seen = stk_cost_positions(m, position);
    double here = 1 - c->choices->gpu_layers / layers; // the others' are a GPU's
    add(c, STK_STAGE_PROJECT,
        (work){.bytes = here * layers * (double)m->attention_bytes,
               .macs = here * rows * layers * (double)m->attention_macs,
               .pieces = ((double)m->attention_rows + m->width) / (2 * ROWS_PER_TAKE),
               .rows = rows,
               .efficiency = DENSE_EFFICIENCY,
               .move_s = MOVE_DENSE_S,
               .overlap = OVERLAP_LONG,
               .mix = &m->attention_mix});
    double attended = seen + layers * ATTEND_POSITIONS_MORE;
    add(c, STK_STAGE_ATTEND,
        (work){.bytes = here * attended * m->kv_position_bytes,
               .macs = here * rows * attended * (double)m->attend_macs / ATTEND_SHARE,
               .pieces = 4 * workers_of(c),
               .rows = 1,
               .efficiency = 1,
               .overlap = OVERLAP_SHORT});
    double head = !c->choices->gpu_head;
    add(c, STK_STAGE_HEAD,
        (work){.bytes = head * (double)m->head_bytes,
               .macs = head * (double)m->head_macs,
               .pieces = (double)m->head_macs / m->width / ROWS_PER_TAKE,
               .rows = 1,
               .efficiency = 1,
               .overlap = OVERLAP_LONG,
               .mix = &m->head_mix});
    // Rows are handed out whole; workers meet after every phase.
    double elements = layers * m->width * (ROW_ELEMENTS + 2 * m->expert_used_count);
    stk_plan_stage *s = &c->out->stages[STK_STAGE_ROWS];
    double own = elements * ROW_ELEMENT_S * rows / busy_workers(rows, workers_of(c));
    double meet = layers * PHASES_PER_LAYER * c->machine->barrier_s * (workers_of(c) > 1);
    s->bytes = 4 * elements * rows;
    s->seconds = own + meet;
    s->limit = meet > own ? STK_LIMIT_BARRIERS : STK_LIMIT_COMPUTE;
    stk_plan_gpu_dense_add(c, seen);
}

// Experts [from, to) in the order of use on the CPU: gate, up and down.
static void add_experts(const stk_cost_pass *c, double from, double to)
{
    const stk_plan_model *m = c->model;
    double touched = stk_skew_touched(&m->skew, from, to, (uint32_t)c->rows);
    double pairs = c->rows * m->layer_count * m->expert_used_count *
                   stk_skew_share(&m->skew, from, to);
    double each = touched > 0 ? pairs / touched : 1; // rows of an expert
    bool is_split = c->rows * m->expert_used_count <= STK_COST_PAIRS_FEW;
    double per_layer = touched / m->layer_count;
    double pieces = is_split ? per_layer * each * EXPERT_PARTS
                             : per_layer * ceil(each / EXPERT_TILE);
    bool is_dense = each >= DENSE_ROWS_MIN && !is_split;
    double macs = (double)m->ffn_width * m->width;
    double filled = each / (each + TILE_WASTE_ROWS);
    bool is_few = !is_split && !is_dense;
    work gate = {.bytes = touched * (double)m->gate_bytes,
                 .macs = pairs * macs,
                 .pieces = pieces,
                 .rows = is_split ? 1 : fmin(each, EXPERT_TILE),
                 .efficiency = is_few ? FEW_EFFICIENCY : 1,
                 .filled = is_split ? 1 : filled,
                 .move_s = MOVE_EXPERT_S,
                 .in_runs = true,
                 .overlap = OVERLAP_SHORT,
                 .mix = &m->gate_mix};
    add(c, STK_STAGE_GATE, gate);
    bool up_skips = !is_dense || m->up_skips;
    bool down_skips = m->down_always_bytes < m->down_bytes && (!is_dense || m->down_skips);
    // Of several rows each wakes neurons of its own.
    double active = m->active_fraction, awake = 1 - pow(1 - active, each < 1 ? 1 : each);
    work up = gate;
    up.mix = &m->up_mix;
    up.rows = up_skips ? 1 : gate.rows;
    up.macs *= up_skips ? active : 1;
    up.bytes = touched * (up_skips ? awake : 1) * (double)m->up_bytes;
    add(c, STK_STAGE_UP, up);
    work down = gate;
    double always = (double)m->down_always_bytes;
    down.mix = &m->down_mix;
    down.rows = down_skips ? 1 : gate.rows;
    down.macs *= down_skips ? active : 1;
    down.bytes = touched * (always + (down_skips ? awake : 1) * ((double)m->down_bytes - always));
    add(c, STK_STAGE_DOWN, down);
}

double stk_cost_disk_bytes_per_s(const stk_plan_machine *m, uint32_t inflight)
{
    double most = m->disk_bytes_per_s;
    double alone = m->disk_latency_s + READ_BYTES / most;
    double reach = (inflight ? inflight : 1) * (double)READ_BYTES / alone;
    return reach < most ? reach : most;
}

static double experts_seconds(const stk_plan_cost *out)
{
    return out->stages[STK_STAGE_GATE].seconds + out->stages[STK_STAGE_UP].seconds +
           out->stages[STK_STAGE_DOWN].seconds;
}

static double experts_bytes(const stk_plan_cost *out)
{
    return out->stages[STK_STAGE_GATE].bytes + out->stages[STK_STAGE_UP].bytes +
           out->stages[STK_STAGE_DOWN].bytes;
}

// What reading adds to `compute` seconds of all layers. Of a layer's misses those that were guessed
// are read during the layers before; the others start with the layer's attention, and what is in
// memory is computed first. The disk can do no more than its bandwidth.
static void add_disk(const stk_cost_pass *c, double gpu_first, double before_route, double compute)
{
    const stk_plan_model *m = c->model;
    double ranks = c->choices->rank_count > 1 ? c->choices->rank_count : 1;
    bool is_decode = c->rows * m->expert_used_count <= STK_COST_PAIRS_FEW;
    double to = gpu_first +
                (is_decode ? c->choices->decode_slots : c->choices->prompt_slots) * ranks,
           all = m->skew.experts;
    double wanted = stk_skew_touched(&m->skew, 0, all, (uint32_t)c->rows);
    double missed = stk_skew_touched(&m->skew, c->is_first ? gpu_first : to, all,
                                     (uint32_t)c->rows);
    c->out->hit_rate = wanted > 0 ? 1 - missed / wanted : 1;
    if (!(missed > 0))
        return;
    // One worker does it, between router and attention, of which the others take more meanwhile.
    double begin_s = missed * READ_BEGIN_S / workers_of(c);
    c->out->stages[STK_STAGE_ATTEND].seconds += begin_s;
    compute += begin_s;
    uint32_t depth = is_decode && c->rows == 1 ? c->choices->guess_layers : 0;
    depth = depth > STK_PLAN_GUESS_MAX ? STK_PLAN_GUESS_MAX : depth;
    // Every layer asks the routers of so many layers ahead, which one worker reads once more while
    // the others take more of the experts.
    double guess_s = depth * m->layer_count * (double)m->router_bytes /
                     bandwidth(c->machine, 1, false) / workers_of(c);
    c->out->stages[STK_STAGE_GATE].seconds += guess_s;
    compute += guess_s;
    double speed = stk_cost_disk_bytes_per_s(c->machine, c->choices->reads_inflight);
    // Experts come about as fast as if one thread read and laid out in turns
    // (bench/2026-11-23-plan.md). It takes its time from the workers where they have all cores, and
    // of a layer's last expert the last slice is waited for.
    double pack_s = (double)m->pack_bytes * PACK_MOVES / bandwidth(c->machine, 1, false);
    double taken_s = workers_of(c) < c->machine->worker_max ? 0 : missed * pack_s / workers_of(c);
    c->out->stages[STK_STAGE_GATE].seconds += taken_s;
    compute += taken_s;
    double read_s = (double)m->read_bytes / speed + pack_s; // of one expert
    double bytes = missed * (1 + m->guess_waste[depth]) * (double)m->read_bytes;
    double unguessed = missed * (1 - m->guess_recall[depth]);
    double per_layer = unguessed / m->layer_count;
    double waits = per_layer < 1 ? per_layer : 1; // layers that wait at all
    double throughput = bytes / (double)m->read_bytes * read_s;
    if (c->is_first) // the slots are fresh memory
        throughput += fmin(missed, to - gpu_first) * (double)m->slot_bytes / PAGES_BYTES_PER_S;
    double exposed = unguessed * read_s +
                     waits * m->layer_count * (c->machine->disk_latency_s + pack_s / SLICES);
    double pass = before_route +
                  (exposed > compute - before_route ? exposed : compute - before_route);
    // Misses come in bursts, so that disk and workers wait for each other in turns even where on
    // average each would keep up; reads begun further ahead even them out.
    double blend = is_decode ? BLEND_NONE + BLEND_GUESS * fmin(depth, 4) : 4;
    double both = together(compute, throughput, blend);
    pass = pass > both ? pass : both;
    stk_plan_stage *s = &c->out->stages[STK_STAGE_DISK];
    s->bytes = bytes;
    s->seconds = pass > compute ? pass - compute : 0;
    s->limit = STK_LIMIT_DISK;
    c->out->disk_bytes = bytes;
}

static void sum_up(stk_plan_cost *out)
{
    double by[STK_LIMIT_KIND_COUNT] = {0};
    out->seconds = 0;
    for (int i = 0; i < STK_STAGE_COUNT; i++) {
        out->seconds += out->stages[i].seconds;
        by[out->stages[i].limit] += out->stages[i].seconds;
    }
    out->limit = STK_LIMIT_BANDWIDTH;
    for (int k = 0; k < STK_LIMIT_KIND_COUNT; k++)
        if (by[k] > by[out->limit])
            out->limit = (stk_limit_kind)k;
    out->tokens_per_s = out->seconds > 0 ? out->rows / out->seconds : 0;
}

// The way through the ranks, one after the other.
static void add_hops(const stk_cost_pass *c)
{
    uint32_t hops = c->choices->rank_count > 1 ? c->choices->rank_count - 1 : 0;
    if (hops == 0)
        return;
    stk_plan_stage *s = &c->out->stages[STK_STAGE_HOP];
    s->bytes = c->rows * c->model->width * 4 * hops;
    s->seconds = hops * c->machine->link_latency_s + s->bytes / c->machine->link_bytes_per_s;
    s->limit = STK_LIMIT_LINK;
}

static void cost_pass(const stk_plan_machine *machine, const stk_plan_model *model,
                      const stk_plan_choices *choices, uint32_t rows, uint32_t position,
                      bool is_first, stk_plan_cost *out)
{
    memset(out, 0, sizeof *out);
    out->rows = rows;
    const stk_cost_pass c = {machine, model, choices, rows, is_first, out};
    const stk_plan_gpu_experts_cost gpu = stk_plan_gpu_experts(&c);
    add_dense(&c, position + (rows - 1) / 2.0 + 1);
    add_experts(&c, gpu.count, model->skew.experts);
    // The cores' experts and the GPUs' at once: what the slower adds counts as the gate's. What
    // shares the host's memory shares its bandwidth.
    double on_cpu = experts_seconds(out), shared = 0;
    if (gpu.shared_bytes > 0)
        shared = (gpu.shared_bytes + experts_bytes(out)) /
                 bandwidth(machine, machine->worker_max, false);
    double longest = fmax(gpu.seconds, shared);
    if (longest > on_cpu || gpu.stolen_s > 0) {
        out->stages[STK_STAGE_GATE].seconds += fmax(longest - on_cpu, 0) + gpu.stolen_s;
        out->stages[STK_STAGE_GATE].limit = longest > shared || gpu.stolen_s > 0
                                                ? STK_LIMIT_GPU
                                                : STK_LIMIT_BANDWIDTH;
    }
    double before = out->stages[STK_STAGE_PROJECT].seconds * 0.6, compute = 0;
    for (int i = 0; i < STK_STAGE_COUNT; i++)
        compute += i == STK_STAGE_HEAD ? 0 : out->stages[i].seconds;
    add_disk(&c, gpu.count, before, compute);
    add_hops(&c);
    sum_up(out);
}

void stk_cost_decode(const stk_plan_machine *machine, const stk_plan_model *model,
                     const stk_plan_choices *choices, uint32_t position, stk_plan_cost *out)
{
    cost_pass(machine, model, choices, 1, position, false, out);
}

void stk_cost_prefill(const stk_plan_machine *machine, const stk_plan_model *model,
                      const stk_plan_choices *choices, uint32_t rows, uint32_t position,
                      stk_plan_cost *out)
{
    cost_pass(machine, model, choices, rows, position, false, out);
}

void stk_cost_first(const stk_plan_machine *machine, const stk_plan_model *model,
                    const stk_plan_choices *choices, uint32_t rows, stk_plan_cost *out)
{
    bool is_limited = choices->prompt_slots < model->skew.experts;
    cost_pass(machine, model, choices, rows, 0, is_limited, out);
}

// Memory that a prompt takes: what workers and rows compute in, and its keys and values.
static double taking_s(const stk_plan_model *m, const stk_plan_choices *c, uint32_t tokens)
{
    uint64_t rows = tokens < c->batch_rows ? tokens : c->batch_rows;
    double bytes = (double)(rows * m->session_row_bytes +
                            c->worker_count * m->session_worker_bytes);
    return (bytes + stk_cost_positions(m, tokens) * m->kv_position_bytes) / PAGES_BYTES_PER_S;
}

void stk_cost_prompt(const stk_plan_machine *machine, const stk_plan_model *model,
                     const stk_plan_choices *choices, uint32_t tokens, uint32_t position,
                     stk_plan_cost *out)
{
    stk_cost_passes(machine, model, choices, tokens, position, position == 0 && model->starts_empty,
                    out);
}

void stk_cost_passes(const stk_plan_machine *machine, const stk_plan_model *model,
                     const stk_plan_choices *choices, uint32_t tokens, uint32_t position,
                     bool is_first, stk_plan_cost *out)
{
    stk_plan_cost pass = {0}, all = {.rows = tokens};
    for (uint32_t at = 0, rows, times; at < tokens; at += times * rows) {
        bool finds_none = at == 0 && is_first;
        rows = tokens - at < choices->batch_rows ? tokens - at : choices->batch_rows;
        // Full batches cost what the one in their middle does.
        times = finds_none ? 1 : (tokens - at) / rows;
        if (finds_none)
            stk_cost_first(machine, model, choices, rows, &pass);
        else
            stk_cost_prefill(machine, model, choices, rows, position + at + (times - 1) * rows / 2,
                             &pass);
        for (int i = 0; i < STK_STAGE_COUNT; i++) {
            all.stages[i].bytes += times * pass.stages[i].bytes;
            all.stages[i].macs += times * pass.stages[i].macs;
            all.stages[i].seconds += times * pass.stages[i].seconds;
            all.stages[i].limit = pass.stages[i].limit;
        }
        all.disk_bytes += times * pass.disk_bytes;
        all.hit_rate += times * pass.hit_rate * rows / tokens;
    }
    all.stages[STK_STAGE_HEAD] = pass.stages[STK_STAGE_HEAD];
    if (position == 0)
        all.stages[STK_STAGE_ROWS].seconds += taking_s(model, choices, tokens);
    sum_up(&all);
    *out = all;
}

const char *stk_limit_kind_name(stk_limit_kind kind)
{
    static const char *const names[] = {"memory bandwidth", "computing", "barriers", "disk", "GPU",
                                        "network"};
    return (unsigned)kind < STK_LIMIT_KIND_COUNT ? names[kind] : "?";
}

const char *stk_stage_name(stk_stage stage)
{
    static const char *const names[] = {"projections", "attention", "gate", "up",     "down",
                                        "rows",        "head",      "disk", "network"};
    return (unsigned)stage < STK_STAGE_COUNT ? names[stage] : "?";
}
