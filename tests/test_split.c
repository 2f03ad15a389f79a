// Which rank gets which layers: against every possibility, and at the edges.
#include "scheduler/split.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/random.h"

enum { LAYERS_MAX = 9, RANKS_MAX = 4 };

typedef struct example {
    stk_split_rank ranks[RANKS_MAX];
    stk_split_layer layers[LAYERS_MAX];
    stk_split_problem problem;
} example;

static double draw(stk_random *random, double low, double high)
{
    return low + stk_random_unit(random) * (high - low);
}

// Of all sizes, from plenty of memory to none.
static void make(example *e, uint64_t seed)
{
    stk_random random = stk_random_seeded(seed);
    uint32_t ranks = 1 + (uint32_t)(stk_random_u64(&random) % RANKS_MAX);
    uint32_t layers = ranks + (uint32_t)(stk_random_u64(&random) % (LAYERS_MAX - ranks + 1));
    double plenty = draw(&random, 0.1, 2);
    for (uint32_t i = 0; i < layers; i++)
        e->layers[i] = (stk_split_layer){
            .fixed_bytes = (uint64_t)draw(&random, 1e6, 5e6),
            .experts_bytes = (uint64_t)draw(&random, 1e7, 9e7),
            .fixed_token_bytes = (uint64_t)draw(&random, 1e6, 5e6),
            .expert_token_bytes = (uint64_t)draw(&random, 1e6, 9e6),
            .expert_disk_bytes = (uint64_t)draw(&random, 1e6, 2e7),
            .overhead_s = draw(&random, 0, 1e-3),
        };
    for (uint32_t r = 0; r < ranks; r++)
        e->ranks[r] = (stk_split_rank){
            .memory_bytes = (uint64_t)(draw(&random, 0, plenty) * 6e7 * layers),
            .memory_bytes_per_s = draw(&random, 1e9, 4e10),
            .disk_bytes_per_s = draw(&random, 1e8, 3e9),
            .gpu_memory_bytes = seed % 2 ? 0 : (uint64_t)(draw(&random, 0, 1) * 5e7 * layers),
            .gpu_bytes_per_s = draw(&random, 1e10, 9e11),
            .gpu_layer_s = draw(&random, 0, 1e-4),
            .link_bytes_per_s = draw(&random, 1e8, 1e9),
        };
    e->problem = (stk_split_problem){
        .ranks = e->ranks,
        .rank_count = ranks,
        .layers = e->layers,
        .layer_count = layers,
        .last_fixed_bytes = 20000000,
        .last_token_bytes = 20000000,
        .experts_least_bytes = 5000000,
        .hop_s = 1e-4,
        .hop_bytes = 10000,
    };
}

static double slowest(const stk_split *split, uint32_t ranks)
{
    double most = 0;
    for (uint32_t r = 0; r < ranks; r++)
        most = fmax(most, split->stage_s[r]);
    return most;
}

// Every split there is, by counting. The least time, and the fastest slowest stage among those
// within `tie` of `least`.
static double try_all(const example *e, double least, double tie, double *stage)
{
    const stk_split_problem *p = &e->problem;
    stk_split split = {.first = {0}};
    uint32_t ranks = p->rank_count, rank;
    double best = INFINITY;
    *stage = INFINITY;
    for (uint32_t r = 0; r <= ranks; r++)
        split.first[r] = r < ranks ? r : p->layer_count;
    for (;;) {
        if (stk_split_judge(p, &split, &rank) == STK_OK) {
            best = fmin(best, split.token_s);
            if (split.token_s <= least * tie)
                *stage = fmin(*stage, slowest(&split, ranks));
        }
        uint32_t r = ranks;
        while (r-- > 1 && split.first[r] + 1 >= split.first[r + 1])
            ;
        if (r == 0 || r > ranks)
            return best;
        for (split.first[r]++; ++r < ranks;)
            split.first[r] = split.first[r - 1] + 1;
    }
}

static void test_against_all_splits(void **state)
{
    (void)state;
    uint32_t fitting = 0;
    for (uint64_t seed = 1; seed <= 400; seed++) {
        example e;
        stk_split split;
        uint32_t rank;
        double stage;
        make(&e, seed);
        double least = try_all(&e, INFINITY, 1, &stage);
        stk_status status = stk_split_plan(&e.problem, &split);
        assert_int_equal(status, isinf(least) ? STK_NO_MEMORY : STK_OK);
        if (status != STK_OK)
            continue;
        fitting++;
        stk_split again = split;
        assert_int_equal(stk_split_judge(&e.problem, &again, &rank), STK_OK);
        assert_true(again.token_s == split.token_s);
        // Hops do not depend on the split, so the tie is that of the stages' sum.
        double hops = split.token_s;
        for (uint32_t r = 0; r < e.problem.rank_count; r++)
            hops -= split.stage_s[r];
        double tie = STK_SPLIT_TIE_PERCENT / 100.0;
        assert_true(split.token_s - hops <= (least - hops) * (1.0001 + tie));
        try_all(&e, least, 1 + tie * (0.9999 - hops / least), &stage);
        assert_true(slowest(&split, e.problem.rank_count) <= stage * (1 + 1e-6));
    }
    assert_in_range(fitting, 100, 390); // both kinds occur
}

static void test_equal_ranks_share_equally(void **state)
{
    (void)state;
    example e;
    make(&e, 3);
    e.problem.rank_count = 4;
    e.problem.layer_count = 8;
    e.problem.last_fixed_bytes = e.problem.last_token_bytes = 0;
    for (uint32_t i = 0; i < 8; i++)
        e.layers[i] = (stk_split_layer){.fixed_bytes = 1000,
                                        .experts_bytes = 9000,
                                        .fixed_token_bytes = 1000,
                                        .expert_token_bytes = 500,
                                        .expert_disk_bytes = 800};
    for (uint32_t r = 0; r < 4; r++)
        e.ranks[r] = (stk_split_rank){1u << 30, 1e9, 1e9, 0, 0, 0, 0};
    stk_split split;
    assert_int_equal(stk_split_plan(&e.problem, &split), STK_OK);
    for (uint32_t r = 0; r <= 4; r++)
        assert_int_equal(split.first[r], 2 * r);
    e.ranks[2].memory_bytes_per_s = 1; // as slow as can be: one layer, which it must have
    assert_int_equal(stk_split_plan(&e.problem, &split), STK_OK);
    assert_int_equal(split.first[3] - split.first[2], 1);
}

static void test_memory_decides(void **state)
{
    (void)state;
    example e;
    make(&e, 5);
    e.problem.rank_count = 2;
    e.problem.layer_count = 8;
    e.problem.last_fixed_bytes = 0;
    e.problem.experts_least_bytes = 100;
    for (uint32_t i = 0; i < 8; i++)
        e.layers[i] = (stk_split_layer){.fixed_bytes = 1000,
                                        .experts_bytes = 9000,
                                        .fixed_token_bytes = 1000,
                                        .expert_token_bytes = 500,
                                        .expert_disk_bytes = 800};
    e.ranks[0] = (stk_split_rank){20000, 1e9, 1e5, 0, 0, 0, 0}; // two layers whole, and a slow disk
    e.ranks[1] = (stk_split_rank){60000, 1e9, 1e5, 0, 0, 0, 0};
    stk_split split;
    assert_int_equal(stk_split_plan(&e.problem, &split), STK_OK);
    assert_int_equal(split.first[1], 2);
    assert_true(split.resident[0] == 1 && split.resident[1] == 1);
    split.first[1] = 4;
    uint32_t rank;
    assert_int_equal(stk_split_judge(&e.problem, &split, &rank), STK_OK);
    assert_true(split.resident[0] < 1);
    e.ranks[0].memory_bytes = 50; // not even one layer
    assert_int_equal(stk_split_plan(&e.problem, &split), STK_NO_MEMORY);
    assert_int_equal(stk_split_judge(&e.problem, &split, &rank), STK_NO_MEMORY);
    assert_int_equal(rank, 0);
    // Four layers each, with room for no more experts than there must be.
    e.ranks[0].memory_bytes = e.ranks[1].memory_bytes = 4 * 1000 + 100;
    assert_int_equal(stk_split_plan(&e.problem, &split), STK_OK);
    e.ranks[1].memory_bytes--;
    assert_int_equal(stk_split_plan(&e.problem, &split), STK_NO_MEMORY);
}

// Two equal ranks with 4 layers each, 1 ms per layer from memory, half of it experts.
static void make_pair(example *e)
{
    make(e, 5);
    e->problem.rank_count = 2;
    e->problem.layer_count = 8;
    e->problem.last_fixed_bytes = e->problem.last_token_bytes = 0;
    for (uint32_t i = 0; i < 8; i++)
        e->layers[i] = (stk_split_layer){.fixed_bytes = 500000,
                                         .experts_bytes = 9000000,
                                         .fixed_token_bytes = 500000,
                                         .expert_token_bytes = 500000,
                                         .expert_disk_bytes = 500000};
    for (uint32_t r = 0; r < 2; r++)
        e->ranks[r] = (stk_split_rank){
            .memory_bytes = 1u << 30, .memory_bytes_per_s = 1e9, .disk_bytes_per_s = 1e8};
}

static void test_gpu_takes_experts(void **state)
{
    (void)state;
    example e;
    stk_split split = {.first = {0, 4, 8}};
    uint32_t rank;
    make_pair(&e);
    stk_split_rank *r = &e.ranks[0];
    r->gpu_memory_bytes = 1u << 30;
    r->gpu_bytes_per_s = 4e9;
    // 2 ms of experts at the speed of the cores, 0.5 at the GPU's: 0.8 of them take 0.4 on both.
    assert_int_equal(stk_split_judge(&e.problem, &split, &rank), STK_OK);
    assert_true(fabs(split.on_gpu[0] - 0.8) < 1e-9 && split.on_gpu[1] == 0);
    assert_true(fabs(split.stage_s[0] - 2.4e-3) < 1e-9);
    assert_true(fabs(split.stage_s[1] - 4e-3) < 1e-9);
    // More memory of it is never slower; without any it is as if it were not there.
    double before = INFINITY;
    for (uint64_t bytes = 0; bytes <= 40000000; bytes += 1000000) {
        r->gpu_memory_bytes = bytes;
        assert_int_equal(stk_split_judge(&e.problem, &split, &rank), STK_OK);
        assert_true(split.stage_s[0] <= before);
        assert_true(bytes || split.stage_s[0] == split.stage_s[1]);
        before = split.stage_s[0];
    }
    // Handing work over can cost more than it saves: then there is none.
    r->gpu_layer_s = 1e-3;
    assert_int_equal(stk_split_judge(&e.problem, &split, &rank), STK_OK);
    assert_true(split.on_gpu[0] == 0 && split.stage_s[0] == split.stage_s[1]);
    r->gpu_layer_s = 0;
    assert_int_equal(stk_split_plan(&e.problem, &split), STK_OK);
    assert_true(split.first[1] > 4); // the faster rank has more layers
    // What the GPU holds need not fit into memory.
    r->memory_bytes = 4 * 500000 + 9000000;
    r->gpu_memory_bytes = 1u << 30;
    split.first[1] = 4;
    assert_int_equal(stk_split_judge(&e.problem, &split, &rank), STK_OK);
    assert_true(split.resident[0] == 1);
}

static void test_link_adds_to_the_token(void **state)
{
    (void)state;
    example e;
    stk_split split = {.first = {0, 4, 8}};
    uint32_t rank;
    make_pair(&e);
    e.ranks[0].link_bytes_per_s = 1e8;
    e.ranks[1].link_bytes_per_s = 1e6; // back to the first, which no bytes go to yet
    assert_int_equal(stk_split_judge(&e.problem, &split, &rank), STK_OK);
    assert_true(fabs(split.token_s - (8e-3 + 2e-4 + 10000 / 1e8)) < 1e-9);
    assert_true(split.slowest_s == fmax(split.stage_s[0], split.stage_s[1]));
    // All logits come back over the last rank's link, and wherever the cut is, the same bytes
    // travel.
    e.problem.answer_bytes = 600000;
    assert_int_equal(stk_split_judge(&e.problem, &split, &rank), STK_OK);
    assert_true(fabs(split.token_s - (8e-3 + 2e-4 + 10000 / 1e8 + 0.6)) < 1e-9);
    stk_split fast, slow;
    e.ranks[0].memory_bytes_per_s = 3e9;
    assert_int_equal(stk_split_plan(&e.problem, &fast), STK_OK);
    e.ranks[0].link_bytes_per_s = e.ranks[1].link_bytes_per_s = 1e4;
    assert_int_equal(stk_split_plan(&e.problem, &slow), STK_OK);
    assert_memory_equal(fast.first, slow.first, sizeof fast.first);
    assert_true(slow.token_s > fast.token_s && slow.slowest_s == fast.slowest_s);
}

static void test_written_splits(void **state)
{
    (void)state;
    static const struct {
        const char *text, *error; // NULL: good
    } cases[] = {
        {"20,8,4", NULL},
        {"1,1,30", NULL},
        {"20,12", "for 2 ranks, there are 3"},
        {"20,8,3", "31 layers"},
        {"20,8,5", "33 layers"},
        {"20,12,0", "not a list"},
        {"", "not a list"},
        {"20,,12", "not a list"},
        {"20,8,4,", "not a list"},
        {"-1,30,3", "not a list"},
        {"20 8 4", "not a list"},
        {"a,b,c", "not a list"},
        {"4294967296,1,1", "not a list"},
        {"1000,1000,1000", "3000 layers"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint32_t first[STK_SPLIT_RANKS_MAX + 1] = {77, 77, 77, 77};
        char error[256] = "";
        stk_status status = stk_split_parse(cases[i].text, 3, 32, first, error, sizeof error);
        assert_int_equal(status, cases[i].error ? STK_INVALID : STK_OK);
        if (cases[i].error) {
            assert_non_null(strstr(error, cases[i].error));
            assert_int_equal(first[3], 77);
        } else {
            assert_int_equal(first[0], 0);
            assert_int_equal(first[3], 32);
        }
    }
    char many[600] = "1";
    for (int i = 0; i < 99; i++)
        strcat(many, ",1");
    uint32_t first[STK_SPLIT_RANKS_MAX + 1];
    char error[64];
    assert_int_equal(stk_split_parse(many, 3, 32, first, error, sizeof error), STK_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_against_all_splits),
        cmocka_unit_test(test_equal_ranks_share_equally),
        cmocka_unit_test(test_memory_decides),
        cmocka_unit_test(test_gpu_takes_experts),
        cmocka_unit_test(test_link_adds_to_the_token),
        cmocka_unit_test(test_written_splits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
