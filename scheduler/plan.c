#include "scheduler/plan.h"

#include <math.h>
#include <string.h>

#include "scheduler/cost_impl.h"
#include "scheduler/split.h"

enum { PROMPT_DEFAULT = 512, NEW_DEFAULT = 256, CANDIDATES_MAX = 64 };
enum { LAYERS_MAX = STK_SPLIT_LAYERS_MAX };
enum { EXHAUSTIVE_MAX = 20000, INFLIGHT_MIN = 8, INFLIGHT_MAX = 64 };

static const uint32_t batches[] = {16, 32, 64, 128, 256, 512, 1024, 2048};

// One way of searching for the best: candidates of each dimension, and the best so far.
typedef struct search {
    const stk_plan_machine *machine;
    const stk_plan_model *model;
    const stk_plan_wishes *wishes;
    uint32_t workers[CANDIDATES_MAX], worker_count;
    uint32_t batches[CANDIDATES_MAX], batch_count;
    uint32_t guesses[STK_PLAN_GUESS_MAX + 1], guess_count;
    uint32_t dense_steps, expert_steps; // 0..: what GPUs take of either
    uint32_t inflight;
    stk_plan_choices last; // tried, but for its guesses
    double last_prompt_seconds;
    stk_plan_choices best;
    double best_seconds;
    uint32_t best_at[4];  // indexes: workers, batches, guesses, share of the GPUs
    uint64_t least_bytes; // of what did not fit
    uint32_t tried;
} search;

// The memory of everything but the slots.
static uint64_t fixed_bytes(const stk_plan_model *m, uint32_t workers, uint32_t rows,
                            bool is_limited)
{
    return m->program_bytes + (is_limited ? m->dense_limited_bytes : m->dense_bytes) +
           m->session_bytes + rows * m->session_row_bytes + workers * m->session_worker_bytes +
           (is_limited ? m->staging_bytes : 0);
}

// Those of one rank: it holds its own layers only.
static uint32_t experts_here(const stk_plan_model *m, const stk_plan_wishes *w)
{
    uint32_t ranks = w->rank_count > 1 ? w->rank_count : 1;
    return (m->layer_count + ranks - 1) / ranks * m->expert_count;
}

// All that may be used; 0: nobody knows of a limit. What a control group allows may be used
// to the last byte, as a plan counts everything; of a whole machine the system needs some.
static uint64_t limit_given(const stk_plan_machine *m, const stk_plan_wishes *w, bool *is_lowered)
{
    uint64_t nodes = 0, limit = w->memory_bytes;
    for (uint32_t i = 0; i < m->node_count; i++)
        nodes += m->nodes[i].memory_bytes;
    bool is_group = m->memory_hard_bytes && m->memory_hard_bytes < nodes;
    uint64_t hard = is_group ? m->memory_hard_bytes : nodes;
    *is_lowered = limit > (is_group ? hard : hard / 20 * 19);
    return *is_lowered ? hard / 20 * 19 : limit;
}

static uint32_t prompt_of(const stk_plan_wishes *w)
{
    return w->prompt_tokens ? w->prompt_tokens : PROMPT_DEFAULT;
}

static uint32_t new_of(const stk_plan_wishes *w)
{
    return w->new_tokens ? w->new_tokens : NEW_DEFAULT;
}

// Slots that a limit leaves while `rows` rows are at `position`.
static uint32_t slots_at(const stk_plan_model *m, const stk_plan_choices *c, uint64_t limit,
                         uint32_t rows, uint32_t position, uint32_t most)
{
    uint64_t used = m->program_bytes + m->dense_limited_bytes + m->staging_bytes +
                    m->session_least_bytes + rows * m->session_row_bytes +
                    c->worker_count * m->session_worker_bytes +
                    (uint64_t)(stk_cost_positions(m, position) * m->kv_position_bytes);
    uint64_t slots = limit > used ? (limit - used) / m->slot_bytes : 0;
    slots = slots > c->slots ? slots : c->slots;
    return slots < most ? (uint32_t)slots : most;
}

// Fills the slots of *c and the limit in force (0: none). False: it does not fit, *least says what
// would.
static bool fit(const stk_plan_machine *machine, const stk_plan_model *m, const stk_plan_wishes *w,
                stk_plan_choices *c, uint64_t *limit, uint64_t *least)
{
    bool is_lowered;
    uint32_t experts = experts_here(m, w), prompt = prompt_of(w);
    uint64_t all = fixed_bytes(m, c->worker_count, c->batch_rows, false) + experts * m->slot_bytes;
    uint64_t fixed = fixed_bytes(m, c->worker_count, c->batch_rows, true);
    uint64_t available = machine->memory_available_bytes;
    *limit = limit_given(machine, w, &is_lowered);
    c->slots = c->prompt_slots = c->decode_slots = experts;
    if (*limit == 0 && available != 0 && all > available / 100 * 95)
        *limit = available / 100 * 85;
    if (*limit == 0 || all <= *limit)
        return true;
    *least = fixed + m->slots_min * m->slot_bytes;
    if (*limit < *least)
        return false;
    uint64_t fitting = (*limit - fixed) / m->slot_bytes;
    c->slots = fitting < experts ? (uint32_t)fitting : experts;
    uint32_t rows = prompt < c->batch_rows ? prompt : c->batch_rows;
    c->prompt_slots = slots_at(m, c, *limit, rows, prompt / 2, experts);
    c->decode_slots = slots_at(m, c, *limit, 1, prompt + new_of(w) / 2, experts);
    return true;
}

// When a record of use says which experts to have.
static double prompt_seconds(const stk_plan_machine *machine, const stk_plan_model *model,
                             const stk_plan_wishes *wishes, const stk_plan_choices *c)
{
    stk_plan_cost prompt;
    stk_cost_passes(machine, model, c, prompt_of(wishes), 0, false, &prompt);
    return prompt.seconds;
}

static double decode_seconds(const stk_plan_machine *machine, const stk_plan_model *model,
                             const stk_plan_wishes *wishes, const stk_plan_choices *c)
{
    uint32_t tokens = new_of(wishes);
    stk_plan_cost decode;
    stk_cost_decode(machine, model, c, prompt_of(wishes) + tokens / 2, &decode);
    return tokens * decode.seconds;
}

// Seconds of wishes' work with these choices: its prompt in batches, its new tokens one by one, and
// taking the memory of the session.
static double plan_seconds(const stk_plan_machine *machine, const stk_plan_model *model,
                           const stk_plan_wishes *wishes, const stk_plan_choices *choices)
{
    return prompt_seconds(machine, model, wishes, choices) +
           decode_seconds(machine, model, wishes, choices);
}

// Tries one point; true when it is the best so far.
static bool try_point(search *s, uint32_t worker, uint32_t batch, uint32_t guess, uint32_t gpu)
{
    stk_plan_choices c = {.worker_count = s->workers[worker],
                          .batch_rows = s->batches[batch],
                          .guess_layers = s->guesses[guess],
                          .reads_inflight = s->inflight,
                          .rank_count = s->wishes->rank_count};
    uint64_t limit, least = UINT64_MAX;
    s->tried++;
    stk_plan_gpu_place(s->machine, s->model, s->wishes, gpu / (s->expert_steps + 1),
                       gpu % (s->expert_steps + 1), &c);
    if (!fit(s->machine, s->model, s->wishes, &c, &limit, &least)) {
        s->least_bytes = least < s->least_bytes ? least : s->least_bytes;
        return false;
    }
    // Guesses do not change a prompt's time, so it is kept from one try to the next.
    stk_plan_choices without_guess = c;
    without_guess.guess_layers = 0;
    if (memcmp(&without_guess, &s->last, sizeof s->last) != 0)
        s->last_prompt_seconds = prompt_seconds(s->machine, s->model, s->wishes, &c);
    s->last = without_guess;
    double seconds = s->last_prompt_seconds + decode_seconds(s->machine, s->model, s->wishes, &c);
    if (!(seconds < s->best_seconds))
        return false;
    s->best = c;
    s->best_seconds = seconds;
    s->best_at[0] = worker;
    s->best_at[1] = batch;
    s->best_at[2] = guess;
    s->best_at[3] = gpu;
    return true;
}

static uint32_t gpu_points(const search *s)
{
    return (s->dense_steps + 1) * (s->expert_steps + 1);
}

static bool search_cores(search *s, uint32_t gpu)
{
    bool is_better = false;
    for (uint32_t w = 0; w < s->worker_count; w++)
        for (uint32_t b = 0; b < s->batch_count; b++)
            for (uint32_t g = 0; g < s->guess_count; g++)
                is_better |= try_point(s, w, b, g, gpu);
    return is_better;
}

static void search_all(search *s)
{
    for (uint32_t gpu = 0; gpu < gpu_points(s); gpu++)
        search_cores(s, gpu);
}

// All choices of the cores with one share of the GPUs, then all shares with the best of these,
// until nothing gets better; beginning with GPUs that do nothing, and with all that they can.
static void search_in_turns(search *s)
{
    for (int start = 0; start < 2; start++) {
        search one = *s;
        one.best_seconds = INFINITY;
        one.best_at[3] = start * (gpu_points(s) - 1);
        for (bool is_better = true; is_better;) {
            is_better = search_cores(&one, one.best_at[3]);
            const uint32_t at[3] = {one.best_at[0], one.best_at[1], one.best_at[2]};
            for (uint32_t gpu = 0; gpu < gpu_points(s); gpu++)
                is_better |= try_point(&one, at[0], at[1], at[2], gpu);
        }
        s->tried = one.tried;
        s->least_bytes = one.least_bytes;
        if (one.best_seconds < s->best_seconds)
            *s = one;
    }
}

static void list_workers(search *s)
{
    uint32_t most = s->machine->worker_max, given = s->wishes->worker_count;
    if (given != STK_PLAN_OPEN) {
        s->workers[s->worker_count++] = given;
        return;
    }
    // Every count of a small machine, then steps of about an eighth.
    for (uint32_t w = 1; w < most && s->worker_count < CANDIDATES_MAX - 1; w += 1 + w / 8)
        s->workers[s->worker_count++] = w;
    s->workers[s->worker_count++] = most;
}

static void list_others(search *s)
{
    const stk_plan_wishes *w = s->wishes;
    if (w->batch_rows != STK_PLAN_OPEN)
        s->batches[s->batch_count++] = w->batch_rows;
    for (uint32_t i = 0; w->batch_rows == STK_PLAN_OPEN && i < sizeof batches / sizeof *batches;
         i++)
        s->batches[s->batch_count++] = batches[i];
    if (w->guess_layers != STK_PLAN_OPEN)
        s->guesses[s->guess_count++] = w->guess_layers;
    for (uint32_t i = 0; w->guess_layers == STK_PLAN_OPEN && i <= STK_PLAN_GUESS_MAX; i++)
        s->guesses[s->guess_count++] = i;
    s->dense_steps = stk_plan_gpu_dense_steps(s->machine, w);
    s->expert_steps = stk_plan_gpu_expert_steps(s->machine, w);
    // Enough reads that the disk never waits for the next, twice over.
    s->inflight = w->reads_inflight;
    if (s->inflight == STK_PLAN_OPEN) {
        double full = stk_cost_disk_bytes_per_s(s->machine, INFLIGHT_MAX);
        for (s->inflight = INFLIGHT_MIN; s->inflight < INFLIGHT_MAX / 2 &&
                                         stk_cost_disk_bytes_per_s(s->machine, s->inflight) < full;)
            s->inflight *= 2;
        s->inflight *= 2;
    }
}

// ---- from choices to a plan ----

static void share_out(const stk_plan_machine *m, stk_plan *p)
{
    uint32_t cores = 0, workers = 0;
    double sum = 0;
    p->node_count = m->node_count;
    for (uint32_t i = 0; i < m->node_count; i++)
        cores += m->nodes[i].core_count;
    // Workers by cores, the rest to the first nodes that have cores left.
    for (uint32_t i = 0; i < m->node_count; i++) {
        p->node_workers[i] = (uint32_t)((uint64_t)p->choices.worker_count * m->nodes[i].core_count /
                                        cores);
        workers += p->node_workers[i];
    }
    for (uint32_t i = 0; workers < p->choices.worker_count; i = (i + 1) % m->node_count)
        if (m->nodes[i].core_count) {
            p->node_workers[i]++;
            workers++;
        }
    // Experts by bandwidth, as far as each node has memory; the rest goes where there is room.
    for (uint32_t i = 0; i < m->node_count; i++)
        sum += m->nodes[i].read_bytes_per_s;
    uint64_t left = p->cache_bytes, other = p->total_bytes - p->cache_bytes,
             rest[STK_PLAN_NODES_MAX];
    for (uint32_t i = 0; i < m->node_count; i++) {
        uint64_t kept = other / m->node_count < m->nodes[i].memory_bytes ? other / m->node_count
                                                                         : m->nodes[i].memory_bytes;
        uint64_t room = m->nodes[i].memory_bytes - kept;
        uint64_t fair = (uint64_t)((double)p->cache_bytes * m->nodes[i].read_bytes_per_s / sum);
        uint64_t take = fair < room ? fair : room;
        take = take < left ? take : left;
        p->node_cache_bytes[i] = take;
        rest[i] = room - take;
        left -= take;
    }
    for (uint32_t i = 0; i < m->node_count && left > 0; i++) {
        uint64_t take = rest[i] < left ? rest[i] : left;
        p->node_cache_bytes[i] += take;
        left -= take;
    }
}

static void fill_memory(const search *s, stk_plan *p)
{
    const stk_plan_model *m = s->model;
    stk_plan_choices *c = &p->choices;
    uint64_t least;
    (void)fit(s->machine, m, s->wishes, c, &p->memory_limit_bytes, &least);
    (void)limit_given(s->machine, s->wishes, &p->is_limit_lowered);
    bool is_limited = c->slots < experts_here(m, s->wishes);
    p->program_bytes = m->program_bytes;
    p->dense_bytes = is_limited ? m->dense_limited_bytes : m->dense_bytes;
    p->session_bytes = m->session_bytes + c->batch_rows * m->session_row_bytes +
                       c->worker_count * m->session_worker_bytes;
    p->staging_bytes = is_limited ? m->staging_bytes : 0;
    p->cache_bytes = c->slots * m->slot_bytes;
    p->total_bytes = p->program_bytes + p->dense_bytes + p->session_bytes + p->staging_bytes +
                     p->cache_bytes;
    p->experts = experts_here(m, s->wishes);
    p->context_tokens = m->context_tokens;
    p->gpu_count = s->machine->gpu_count;
    for (uint32_t g = 0; g < p->gpu_count; g++)
        p->gpu_bytes[g] = c->gpu_experts[g] * m->slot_bytes +
                          (g == 0 ? stk_plan_gpu_dense_bytes(m, c) : 0);
}

// Ranks are equal machines whose memory was counted before, layers take equal times, and the last
// rank has the head, too.
static stk_status share_layers(const stk_plan_machine *machine, const stk_plan_model *m,
                               stk_plan *p)
{
    stk_split_layer layers[LAYERS_MAX] = {0};
    stk_split_rank ranks[STK_PLAN_RANKS_MAX];
    stk_split split = {.first = {0}};
    double head_s = p->decode.stages[STK_STAGE_HEAD].seconds,
           layers_s = p->decode.seconds - head_s - p->decode.stages[STK_STAGE_HOP].seconds;
    for (uint32_t i = 0; i < m->layer_count; i++)
        layers[i].overhead_s = layers_s / m->layer_count;
    for (uint32_t r = 0; r < p->rank_count; r++)
        ranks[r] = (stk_split_rank){.memory_bytes = UINT64_MAX / 2,
                                    .memory_bytes_per_s = (double)m->head_bytes / head_s,
                                    .disk_bytes_per_s = machine->disk_bytes_per_s,
                                    .link_bytes_per_s = machine->link_bytes_per_s};
    const stk_split_problem problem = {
        .ranks = ranks,
        .rank_count = p->rank_count,
        .layers = layers,
        .layer_count = m->layer_count,
        .last_token_bytes = m->head_bytes,
        .hop_s = machine->link_latency_s,
        .hop_bytes = (uint64_t)m->width * sizeof(float),
    };
    stk_status status = stk_split_plan(&problem, &split);
    for (uint32_t r = 0; status == STK_OK && r < p->rank_count; r++)
        p->ranks[r] = (stk_plan_range){split.first[r], split.first[r + 1] - split.first[r]};
    return status;
}

// The same choices on a machine with twice of one thing.
static double seconds_with(const search *s, stk_limit_kind twice)
{
    stk_plan_machine m = *s->machine;
    for (uint32_t i = 0; i < m.node_count && twice == STK_LIMIT_BANDWIDTH; i++) {
        m.nodes[i].read_bytes_per_s *= 2;
        m.nodes[i].one_bytes_per_s *= 2;
        m.nodes[i].runs_bytes_per_s *= 2;
        m.nodes[i].one_runs_bytes_per_s *= 2;
    }
    for (uint32_t g = 0; g < m.gpu_count && twice == STK_LIMIT_GPU; g++) {
        m.gpus[g].read_bytes_per_s *= 2;
        m.gpus[g].operations_per_s *= 2;
        m.gpus[g].link_bytes_per_s *= 2;
    }
    double compute = twice == STK_LIMIT_COMPUTE ? 2 : 1;
    m.decode_macs_per_s *= compute;
    m.prefill_macs_per_s *= compute;
    m.decode_alone_macs_per_s *= compute;
    m.prefill_alone_macs_per_s *= compute;
    for (uint32_t i = 0; i < m.rate_count; i++) {
        m.rates[i].one_macs_per_s *= compute;
        m.rates[i].many_macs_per_s *= compute;
    }
    m.barrier_s /= twice == STK_LIMIT_BARRIERS ? 2 : 1;
    m.disk_bytes_per_s *= twice == STK_LIMIT_DISK ? 2 : 1;
    m.disk_latency_s /= twice == STK_LIMIT_DISK ? 2 : 1;
    m.link_bytes_per_s *= twice == STK_LIMIT_LINK ? 2 : 1;
    m.link_latency_s /= twice == STK_LIMIT_LINK ? 2 : 1;
    return plan_seconds(&m, s->model, s->wishes, &s->best);
}

static void find_binding(const search *s, stk_plan *p)
{
    for (int k = 0; k < STK_LIMIT_KIND_COUNT; k++)
        p->gain[k] = 1 - seconds_with(s, (stk_limit_kind)k) / s->best_seconds;
    stk_plan_choices more = s->best;
    more.prompt_slots = more.prompt_slots > p->experts / 2 ? p->experts : 2 * more.prompt_slots;
    more.decode_slots = more.decode_slots > p->experts / 2 ? p->experts : 2 * more.decode_slots;
    stk_plan_model packed = *s->model;
    packed.pack_bytes = 0;
    p->gain_packed = 1 - plan_seconds(s->machine, &packed, s->wishes, &s->best) / s->best_seconds;
    p->gain_memory = 1 - plan_seconds(s->machine, s->model, s->wishes, &more) / s->best_seconds;
}

static bool is_valid(const stk_plan_machine *m, const stk_plan_model *o, const stk_plan_wishes *w)
{
    uint32_t cores = 0;
    bool is_good = m->node_count > 0 && m->node_count <= STK_PLAN_NODES_MAX && m->worker_max > 0 &&
                   m->gpu_count <= STK_PLAN_GPUS_MAX && m->decode_macs_per_s > 0 &&
                   m->prefill_macs_per_s > 0 && m->disk_bytes_per_s > 0 && o->layer_count > 0 &&
                   o->layer_count <= LAYERS_MAX && o->expert_count > 0 && o->head_bytes > 0 &&
                   o->head_macs > 0 && o->expert_used_count > 0 && o->slot_bytes > 0 &&
                   o->width > 0 && o->skew.experts > 0 && w->worker_count > 0 &&
                   w->batch_rows > 0 && w->rank_count <= STK_PLAN_RANKS_MAX &&
                   w->rank_count <= o->layer_count &&
                   (w->rank_count < 2 || m->link_bytes_per_s > 0);
    for (uint32_t i = 0; is_good && i < m->node_count; i++) {
        cores += m->nodes[i].core_count;
        is_good = m->nodes[i].read_bytes_per_s > 0 && m->nodes[i].one_bytes_per_s > 0 &&
                  m->nodes[i].runs_bytes_per_s > 0 && m->nodes[i].one_runs_bytes_per_s > 0;
    }
    is_good &= m->rate_count <= STK_PLAN_RATES_MAX;
    for (uint32_t i = 0; is_good && i < m->rate_count; i++)
        is_good = m->rates[i].one_macs_per_s > 0 && m->rates[i].many_macs_per_s > 0;
    for (uint32_t g = 0; is_good && g < m->gpu_count; g++)
        is_good = m->gpus[g].read_bytes_per_s > 0 && m->gpus[g].operations_per_s > 0 &&
                  m->gpus[g].link_bytes_per_s > 0;
    return is_good && cores > 0;
}

stk_status stk_plan_make(const stk_plan_machine *machine, const stk_plan_model *model,
                         const stk_plan_wishes *wishes, stk_plan *out)
{
    search s = {.machine = machine,
                .model = model,
                .wishes = wishes,
                .best_seconds = INFINITY,
                .least_bytes = UINT64_MAX};
    if (!is_valid(machine, model, wishes))
        return STK_INVALID;
    list_workers(&s);
    list_others(&s);
    uint64_t points = (uint64_t)s.worker_count * s.batch_count * s.guess_count * gpu_points(&s);
    if (points <= EXHAUSTIVE_MAX)
        search_all(&s);
    else
        search_in_turns(&s);
    if (!(s.best_seconds < INFINITY)) {
        out->least_bytes = s.least_bytes;
        return STK_NO_MEMORY;
    }
    *out = (stk_plan){.choices = s.best,
                      .seconds = s.best_seconds,
                      .tried = s.tried,
                      .is_exhaustive = points <= EXHAUSTIVE_MAX};
    fill_memory(&s, out);
    share_out(machine, out);
    uint32_t prompt = prompt_of(wishes);
    uint32_t rows = prompt < s.best.batch_rows ? prompt : s.best.batch_rows;
    stk_cost_decode(machine, model, &s.best, prompt, &out->decode);
    stk_cost_prefill(machine, model, &s.best, rows, 0, &out->prefill);
    stk_cost_first(machine, model, &s.best, rows, &out->first);
    find_binding(&s, out);
    out->rank_count = s.best.rank_count > 1 ? s.best.rank_count : 1;
    out->ranks[0] = (stk_plan_range){0, model->layer_count};
    return out->rank_count > 1 ? share_layers(machine, model, out) : STK_OK;
}
