// Plans for invented machines: they fit, more never hurts, and the search finds the best.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "base/random.h"
#include "plan_shapes.h"
#include <math.h>

typedef struct situation {
    const char *name;
    stk_plan_machine machine;
    bool is_small; // the 21B model cannot run
} situation;

static uint32_t situations(situation *out)
{
    uint32_t n = 0;
    out[n++] = (situation){"one core", plan_machine(1, 1, 4 * GIB, 8), false};
    out[n++] = (situation){"two cores", plan_machine(1, 2, 24 * GIB, 20), false};
    out[n++] = (situation){"2 GiB", plan_machine(1, 4, 2 * GIB, 15), true};
    out[n++] = (situation){"two sockets", plan_machine(2, 16, 64 * GIB, 100), false};
    out[n++] = (situation){"256 cores", plan_machine(8, 32, 32 * GIB, 40), false};
    out[n] = (situation){"asymmetric", plan_machine(2, 8, 16 * GIB, 40), false};
    out[n].machine.nodes[1] = plan_node(4, 2 * GIB, 15, 6);
    out[n].machine.worker_max = 12;
    out[n].machine.memory_available_bytes = 16 * GIB;
    out[n++].machine.memory_hard_bytes = 18 * GIB;
    out[n] = (situation){"memory without cores", plan_machine(2, 8, 4 * GIB, 40), false};
    out[n].machine.nodes[1] = plan_node(0, 32 * GIB, 10, 4);
    out[n].machine.worker_max = 8;
    out[n].machine.memory_available_bytes = 32 * GIB;
    out[n++].machine.memory_hard_bytes = 36 * GIB;
    out[n] = (situation){"small GPU", plan_machine(1, 8, 8 * GIB, 40), false};
    plan_add_gpu(&out[n++].machine, 512 * MIB, false, 100);
    out[n] = (situation){"large GPU", plan_machine(1, 16, 64 * GIB, 60), false};
    plan_add_gpu(&out[n++].machine, 80 * GIB, false, 2000);
    out[n] = (situation){"integrated GPU", plan_machine(1, 8, 16 * GIB, 50), false};
    plan_add_gpu(&out[n++].machine, 8 * GIB, true, 50);
    out[n] = (situation){"two GPUs", plan_machine(1, 8, 16 * GIB, 50), false};
    plan_add_gpu(&out[n].machine, 4 * GIB, false, 300);
    plan_add_gpu(&out[n++].machine, 2 * GIB, false, 200);
    return n;
}

static void check_fits(const stk_plan_machine *m, const stk_plan_model *o, const stk_plan_wishes *w,
                       const stk_plan *p)
{
    uint64_t cache = 0, nodes = 0;
    uint32_t workers = 0, layers = 0;
    assert_true(p->total_bytes <= m->memory_hard_bytes);
    assert_true(p->total_bytes <= m->memory_available_bytes || w->memory_bytes);
    if (p->memory_limit_bytes)
        assert_true(p->total_bytes <= p->memory_limit_bytes);
    if (w->memory_bytes)
        assert_true(p->memory_limit_bytes != 0 && p->memory_limit_bytes <= w->memory_bytes);
    assert_true(p->choices.slots >= o->slots_min);
    assert_true(p->choices.worker_count >= 1 && p->choices.worker_count <= m->worker_max);
    for (uint32_t i = 0; i < m->node_count; i++) {
        assert_true(p->node_cache_bytes[i] <= m->nodes[i].memory_bytes);
        assert_true(m->nodes[i].core_count > 0 || p->node_workers[i] == 0);
        cache += p->node_cache_bytes[i];
        nodes += m->nodes[i].memory_bytes;
        workers += p->node_workers[i];
    }
    assert_true(cache <= nodes);
    assert_int_equal(cache, p->cache_bytes);
    assert_int_equal(workers, p->choices.worker_count);
    uint32_t on_gpus = 0;
    for (uint32_t g = 0; g < m->gpu_count; g++) {
        assert_true(p->gpu_bytes[g] <= m->gpus[g].memory_bytes);
        on_gpus += p->choices.gpu_experts[g];
    }
    assert_true(on_gpus <= o->layer_count * o->expert_count);
    for (uint32_t r = 0; r < p->rank_count; r++) {
        assert_int_equal(p->ranks[r].first, layers);
        layers += p->ranks[r].count;
    }
    assert_int_equal(layers, o->layer_count);
    assert_true(p->decode.tokens_per_s > 0 && isfinite(p->decode.tokens_per_s));
    assert_true(p->prefill.tokens_per_s > 0 && isfinite(p->prefill.tokens_per_s));
    assert_true(p->decode.hit_rate >= 0 && p->decode.hit_rate <= 1);
}

static void every_plan_fits(void **state)
{
    (void)state;
    situation all[16];
    const uint64_t limits[] = {0, 256 * MIB, 700 * MIB, GIB, 3 * GIB, 8 * GIB, 1000 * GIB};
    uint32_t count = situations(all), planned = 0, refused = 0;
    for (uint32_t i = 0; i < count; i++)
        for (uint32_t big = 0; big < 2; big++)
            for (uint32_t l = 0; l < sizeof limits / sizeof *limits; l++) {
                stk_plan_model model = big ? plan_model_21b() : plan_model_4b();
                stk_plan_wishes wishes = plan_open_wishes();
                stk_plan plan;
                wishes.memory_bytes = limits[l];
                wishes.gpu_count = all[i].machine.gpu_count;
                stk_status status = stk_plan_make(&all[i].machine, &model, &wishes, &plan);
                if (status == STK_OK) {
                    check_fits(&all[i].machine, &model, &wishes, &plan);
                    planned++;
                    continue;
                }
                // Refused only where even the least does not fit, and that is said.
                assert_int_equal(status, STK_NO_MEMORY);
                uint64_t given = limits[l] ? limits[l] : all[i].machine.memory_available_bytes;
                assert_true(plan.least_bytes > given * 8 / 10);
                refused++;
            }
    assert_true(planned > 80);
    assert_true(refused > 10);
}

static void wishes_are_kept(void **state)
{
    (void)state;
    stk_plan_machine machine = plan_machine(1, 8, 16 * GIB, 40);
    stk_plan_model model = plan_model_4b();
    stk_plan_wishes wishes = plan_open_wishes();
    stk_plan plan;
    wishes.worker_count = 3;
    wishes.batch_rows = 77;
    wishes.guess_layers = 0;
    wishes.reads_inflight = 5;
    wishes.memory_bytes = GIB;
    assert_int_equal(stk_plan_make(&machine, &model, &wishes, &plan), STK_OK);
    assert_int_equal(plan.choices.worker_count, 3);
    assert_int_equal(plan.choices.batch_rows, 77);
    assert_int_equal(plan.choices.guess_layers, 0);
    assert_int_equal(plan.choices.reads_inflight, 5);
    assert_int_equal(plan.memory_limit_bytes, GIB);
    assert_false(plan.is_limit_lowered);
    wishes.memory_bytes = 100 * GIB; // more than there is
    assert_int_equal(stk_plan_make(&machine, &model, &wishes, &plan), STK_OK);
    assert_true(plan.is_limit_lowered);
    assert_true(plan.memory_limit_bytes <= 16 * GIB);
}

static double work(const stk_plan_machine *machine, const stk_plan_model *model,
                   uint64_t memory_bytes)
{
    stk_plan_wishes wishes = plan_open_wishes();
    stk_plan plan;
    wishes.memory_bytes = memory_bytes;
    wishes.gpu_count = machine->gpu_count;
    return stk_plan_make(machine, model, &wishes, &plan) == STK_OK ? plan.seconds : INFINITY;
}

// One thing of a random machine gets better: the work must not take longer.
static void more_never_hurts(void **state)
{
    (void)state;
    stk_random random = stk_random_seeded(77);
    for (uint32_t round = 0; round < 60; round++) {
        double u[8];
        for (uint32_t i = 0; i < 8; i++)
            u[i] = stk_random_unit(&random);
        uint32_t nodes = 1 + (uint32_t)(u[0] * 3), cores = 1 + (uint32_t)(u[1] * 12);
        uint64_t memory = GIB + (uint64_t)(u[2] * u[2] * 60) * GIB / 4;
        stk_plan_machine machine = plan_machine(nodes, cores, memory, 5 + u[3] * 80);
        machine.disk_bytes_per_s = 0.1e9 + u[4] * u[4] * 7e9;
        machine.nodes[0].memory_bytes += (uint64_t)(u[5] * 4) * GIB;
        if (u[6] < 0.4)
            plan_add_gpu(&machine, (uint64_t)(512 + u[7] * 20000) * MIB, u[6] < 0.1,
                         20 + u[7] * 900);
        stk_plan_model model = round % 2 ? plan_model_21b() : plan_model_4b();
        uint64_t limit = round % 3 == 0 ? (uint64_t)((0.6 + u[5] * 6) * 1024) * MIB : 0;
        double before = work(&machine, &model, limit);
        for (uint32_t thing = 0; thing < 9; thing++) {
            stk_plan_machine more = machine;
            uint64_t more_limit = limit;
            switch (thing) {
            case 0:
                more.nodes[0].memory_bytes += 2 * GIB;
                more.memory_hard_bytes += 2 * GIB;
                more.memory_available_bytes += 2 * GIB;
                break;
            case 1:
                more.nodes[nodes - 1].read_bytes_per_s *= 1.3;
                more.nodes[nodes - 1].runs_bytes_per_s *= 1.3;
                break;
            case 2:
                more.nodes[0].one_bytes_per_s *= 1.3;
                more.nodes[0].one_runs_bytes_per_s *= 1.3;
                break;
            case 3:
                more.disk_bytes_per_s *= 1.2;
                break;
            case 4:
                more.prefill_macs_per_s *= 1.2;
                break;
            case 5:
                more.decode_macs_per_s *= 1.2;
                break;
            case 6:
                more.disk_latency_s /= 2;
                break;
            case 7:
                more_limit = limit ? limit + limit / 4 : 0;
                break;
            case 8:
                if (!more.gpu_count)
                    continue;
                more.gpus[0].read_bytes_per_s *= 1.5;
                more.gpus[0].memory_bytes += GIB;
                break;
            }
            double after = work(&more, &model, more_limit);
            if (isinf(before) && isinf(after))
                continue;
            if (!(after <= before * 1.000001))
                fail_msg("round %u: with more of %u the work takes %g s instead of %g", round,
                         thing, after, before);
        }
    }
}

// The best of every choice on the cost model, found without the search.
static double brute_force(const stk_plan_machine *machine, const stk_plan_model *model,
                          const stk_plan_wishes *open)
{
    double best = INFINITY;
    for (uint32_t workers = 1; workers <= machine->worker_max; workers++)
        for (uint32_t rows = 16; rows <= 2048; rows += rows < 64 ? 16 : rows < 512 ? 64 : 512)
            for (uint32_t guess = 0; guess <= STK_PLAN_GUESS_MAX; guess++) {
                stk_plan_wishes w = *open;
                stk_plan plan;
                w.worker_count = workers;
                w.batch_rows = rows;
                w.guess_layers = guess;
                if (stk_plan_make(machine, model, &w, &plan) == STK_OK && plan.seconds < best)
                    best = plan.seconds;
            }
    return best;
}

static void search_is_near_brute_force(void **state)
{
    (void)state;
    const uint64_t limits[] = {0, 700 * MIB, 2 * GIB};
    for (uint32_t l = 0; l < 3; l++)
        for (uint32_t kind = 0; kind < 3; kind++) {
            stk_plan_machine machine = kind == 0   ? plan_machine(1, 4, 8 * GIB, 20)
                                       : kind == 1 ? plan_machine(2, 8, 4 * GIB, 60)
                                                   : plan_machine(1, 1, 4 * GIB, 6);
            if (kind == 1)
                machine.disk_bytes_per_s = 0.3e9;
            stk_plan_model model = plan_model_4b();
            stk_plan_wishes wishes = plan_open_wishes();
            stk_plan plan;
            wishes.memory_bytes = limits[l];
            assert_int_equal(stk_plan_make(&machine, &model, &wishes, &plan), STK_OK);
            double best = brute_force(&machine, &model, &wishes);
            if (!(plan.seconds <= 1.05 * best))
                fail_msg("machine %u, limit %u: %g s, brute force %g s", kind, l, plan.seconds,
                         best);
        }
}

// Equal machines, and the head costs the last one some of its layers.
static void ranks_share_layers(void **state)
{
    (void)state;
    stk_plan_model model = plan_model_21b();
    stk_plan_machine machine = plan_machine(1, 8, 6 * GIB, 40);
    stk_plan_wishes wishes = plan_open_wishes();
    stk_plan plan;
    wishes.rank_count = 4;
    assert_int_equal(stk_plan_make(&machine, &model, &wishes, &plan), STK_OK);
    uint32_t next = 0;
    for (uint32_t r = 0; r < 4; r++) {
        assert_int_equal(plan.ranks[r].first, next);
        next += plan.ranks[r].count;
    }
    assert_int_equal(next, model.layer_count);
    assert_true(plan.ranks[3].count < plan.ranks[0].count && plan.ranks[3].count > 0);
    wishes.rank_count = STK_PLAN_RANKS_MAX; // more than layers
    assert_int_equal(stk_plan_make(&machine, &model, &wishes, &plan), STK_INVALID);
}

static void more_ranks_hold_more_experts(void **state)
{
    (void)state;
    stk_plan_model model = plan_model_21b();
    stk_plan_machine machine = plan_machine(1, 8, 6 * GIB, 40);
    stk_plan_wishes wishes = plan_open_wishes();
    stk_plan one, four;
    assert_int_equal(stk_plan_make(&machine, &model, &wishes, &one), STK_OK);
    wishes.rank_count = 4;
    assert_int_equal(stk_plan_make(&machine, &model, &wishes, &four), STK_OK);
    assert_true(one.decode.hit_rate < 1);
    assert_true(four.decode.hit_rate > 0.999);
    assert_true(four.decode.tokens_per_s > one.decode.tokens_per_s);
    assert_true(four.decode.stages[STK_STAGE_HOP].seconds > 0);
}

// Every layer guessed ahead reads a router once more: where routers are large, fewer are.
static void guesses_cost_routers(void **state)
{
    (void)state;
    stk_plan_model model = plan_model_4b();
    stk_plan_wishes wishes = plan_open_wishes();
    stk_plan plan, large;
    stk_plan_machine machine = plan_machine(1, 2, 16 * GIB, 10);
    wishes.memory_bytes = 1 * GIB;
    assert_int_equal(stk_plan_make(&machine, &model, &wishes, &plan), STK_OK);
    assert_true(plan.choices.guess_layers > 1);
    model.router_bytes *= 100;
    stk_plan_cost cost;
    stk_cost_decode(&machine, &model, &plan.choices, 100, &cost);
    assert_true(cost.seconds > plan.decode.seconds);
    assert_int_equal(stk_plan_make(&machine, &model, &wishes, &large), STK_OK);
    assert_true(large.choices.guess_layers < plan.choices.guess_layers);
}

// Experts that are laid out anew after they were read cost the workers time, but only those that
// are read.
static void repacking_costs_what_is_read(void **state)
{
    (void)state;
    stk_plan_model o = plan_model_4b(), packed = o;
    stk_plan_machine m = plan_machine(1, 8, UINT64_C(16) << 30, 40);
    stk_plan_choices c = {.worker_count = 8, .batch_rows = 512, .reads_inflight = 16};
    stk_plan_cost before, after;
    o.pack_bytes = o.read_bytes;
    m.disk_bytes_per_s = 100e9; // no disk is that fast: one thread cannot keep up with it
    for (uint32_t slots = 256; slots <= 1024; slots += 768) {
        c.prompt_slots = c.decode_slots = slots;
        stk_cost_decode(&m, &packed, &c, 512, &before);
        stk_cost_decode(&m, &o, &c, 512, &after);
        assert_true(slots == 1024 ? after.seconds <= before.seconds
                                  : after.seconds > 1.2 * before.seconds);
        assert_true(after.disk_bytes >= before.disk_bytes && after.disk_bytes <= before.disk_bytes);
    }
}

// And the plan says what packing them would save.
static void says_what_packing_saves(void **state)
{
    (void)state;
    stk_plan_model o = plan_model_4b();
    stk_plan_machine m = plan_machine(1, 2, UINT64_C(16) << 30, 30);
    stk_plan_wishes wishes = plan_open_wishes();
    stk_plan plan;
    for (int is_limited = 0; is_limited < 2; is_limited++)
        for (int is_repacked = 0; is_repacked < 2; is_repacked++) {
            wishes.memory_bytes = is_limited ? GIB : 0;
            o.pack_bytes = is_repacked ? o.read_bytes : 0;
            assert_int_equal(stk_plan_make(&m, &o, &wishes, &plan), STK_OK);
            assert_true(is_limited && is_repacked ? plan.gain_packed > 0.05
                                                  : fabs(plan.gain_packed) < 1e-9);
        }
}

// Before anything is in memory a prompt reads every expert that it uses, once.
static void a_first_run_reads_everything(void **state)
{
    (void)state;
    stk_plan_model o = plan_model_4b();
    stk_plan_machine m = plan_machine(1, 8, UINT64_C(16) << 30, 40);
    stk_plan_choices c = {
        .worker_count = 8, .batch_rows = 256, .reads_inflight = 16, .prompt_slots = 300};
    stk_plan_cost warm, first, all;
    stk_cost_prefill(&m, &o, &c, 256, 0, &warm);
    stk_cost_first(&m, &o, &c, 256, &first);
    double touched = stk_skew_touched(&o.skew, 0, 1024, 256) * (double)o.read_bytes;
    assert_true(fabs(first.disk_bytes - touched) < 1e-6 * touched);
    assert_true(first.seconds > warm.seconds && first.disk_bytes > warm.disk_bytes);
    assert_true(first.hit_rate < 1e-9);
    o.starts_empty = true; // of two passes the first, and only where the prompt begins
    stk_cost_prompt(&m, &o, &c, 512, 0, &all);
    assert_true(fabs(all.disk_bytes - first.disk_bytes - warm.disk_bytes) < 1);
    stk_cost_prompt(&m, &o, &c, 256, 512, &all);
    assert_true(fabs(all.disk_bytes - warm.disk_bytes) < 1);
    c.prompt_slots = 1024; // loaded before the first prompt
    stk_cost_first(&m, &o, &c, 256, &first);
    assert_true(first.disk_bytes < 1);
}

// Threads beyond the cores make nothing faster.
static void threads_take_turns(void **state)
{
    (void)state;
    stk_plan_model o = plan_model_4b();
    stk_plan_machine m = plan_machine(1, 4, UINT64_C(16) << 30, 40);
    stk_plan_choices c = {.worker_count = 4, .batch_rows = 512, .reads_inflight = 16};
    c.prompt_slots = c.decode_slots = 1024;
    stk_plan_cost cores, threads;
    stk_cost_decode(&m, &o, &c, 512, &cores);
    c.worker_count = 16;
    stk_cost_decode(&m, &o, &c, 512, &threads);
    assert_true(threads.seconds >= cores.seconds);
    stk_cost_prefill(&m, &o, &c, 512, 0, &threads);
    c.worker_count = 4;
    stk_cost_prefill(&m, &o, &c, 512, 0, &cores);
    assert_true(threads.seconds >= cores.seconds);
}

static void says_what_binds(void **state)
{
    (void)state;
    stk_plan_model model = plan_model_4b();
    stk_plan_wishes wishes = plan_open_wishes();
    stk_plan plan;
    stk_plan_machine machine = plan_machine(1, 8, 16 * GIB, 10);
    wishes.new_tokens = 4096;
    assert_int_equal(stk_plan_make(&machine, &model, &wishes, &plan), STK_OK);
    assert_int_equal(plan.decode.limit, STK_LIMIT_BANDWIDTH);
    assert_true(plan.gain[STK_LIMIT_BANDWIDTH] > plan.gain[STK_LIMIT_COMPUTE]);
    assert_true(plan.gain[STK_LIMIT_DISK] < 0.001 && plan.gain_memory < 0.001);
    machine.disk_bytes_per_s = 0.2e9;
    wishes.memory_bytes = 700 * MIB;
    assert_int_equal(stk_plan_make(&machine, &model, &wishes, &plan), STK_OK);
    assert_int_equal(plan.decode.limit, STK_LIMIT_DISK);
    assert_true(plan.gain[STK_LIMIT_DISK] > 0.2 && plan.gain_memory > 0.1);
}

static void refuses_nonsense(void **state)
{
    (void)state;
    stk_plan_model model = plan_model_4b();
    stk_plan_wishes wishes = plan_open_wishes();
    stk_plan plan;
    stk_plan_machine machine = plan_machine(1, 8, 16 * GIB, 10);
    machine.node_count = 0;
    assert_int_equal(stk_plan_make(&machine, &model, &wishes, &plan), STK_INVALID);
    machine = plan_machine(1, 8, 16 * GIB, 0);
    assert_int_equal(stk_plan_make(&machine, &model, &wishes, &plan), STK_INVALID);
    machine = plan_machine(1, 8, 16 * GIB, 10);
    wishes.batch_rows = 0;
    assert_int_equal(stk_plan_make(&machine, &model, &wishes, &plan), STK_INVALID);
}

static void skew_follows_a_record(void **state)
{
    (void)state;
    float usage[64] = {0}, scratch[64];
    stk_skew skew;
    for (uint32_t i = 0; i < 16; i++)
        usage[4 * i] = 3; // a quarter of the experts does everything
    stk_skew_of(usage, 2, 32, 4, 20, scratch, &skew);
    assert_true(stk_skew_share(&skew, 0, 16) < 0.9);
    stk_skew_of(usage, 2, 32, 4, 500, scratch, &skew); // a longer record is surer
    assert_true(stk_skew_share(&skew, 0, 16) > 0.98);
    assert_true(fabs(stk_skew_share(&skew, 0, 64) - 1) < 1e-9);
    assert_true(fabs(stk_skew_touched(&skew, 0, 64, 1) - 8) < 1e-6);
    assert_true(stk_skew_touched(&skew, 0, 64, 1000) > 16);
    memset(usage, 0, sizeof usage);
    stk_skew_of(usage, 2, 32, 4, 500, scratch, &skew);
    assert_true(fabs(stk_skew_share(&skew, 0, 32) - 0.5) < 1e-6);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_plan_fits),         cmocka_unit_test(wishes_are_kept),
        cmocka_unit_test(more_never_hurts),        cmocka_unit_test(search_is_near_brute_force),
        cmocka_unit_test(ranks_share_layers),      cmocka_unit_test(more_ranks_hold_more_experts),
        cmocka_unit_test(guesses_cost_routers),    cmocka_unit_test(says_what_binds),
        cmocka_unit_test(threads_take_turns),      cmocka_unit_test(repacking_costs_what_is_read),
        cmocka_unit_test(says_what_packing_saves), cmocka_unit_test(a_first_run_reads_everything),
        cmocka_unit_test(refuses_nonsense),        cmocka_unit_test(skew_follows_a_record),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
