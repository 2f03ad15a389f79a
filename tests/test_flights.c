// Several forwards under way at once: what each brings is what it brings alone, on one process and,
// started by mpirun, over ranks. Rank 0 tests, the others serve. With the path of a copy of the
// model, rank 1 reads its experts from there, and they are gone while forwards are under way.
#include "cluster/cluster.h"
#include "engine/pipeline.h"
#include "engine/sampler.h"
#include "engine_test.h"
#include "scheduler/plan.h"

#include "store/expert_store.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { VOCAB = 4096, SEQUENCES = 5, TOKENS = 12, BATCH = 8 };

static const char *copy_path; // NULL: nothing is lost
static stk_cluster *cluster;
static stk_engine *engine;
static int32_t ids[SEQUENCES][TOKENS];
static float *want[SEQUENCES]; // [TOKENS][VOCAB] of each sequence, computed alone

static const stk_session_options planned = {.context_tokens = 64,
                                            .sequence_count = SEQUENCES,
                                            .batch_rows_max = BATCH,
                                            .logit_rows_max = BATCH,
                                            .inflight_max = STK_INFLIGHT_AUTO};

static bool is_rank(uint32_t rank)
{
    return cluster && stk_cluster_rank(cluster) == rank;
}

// Ranks measure themselves.
static void refuse_a_machine(void)
{
    const stk_plan_machine machine = {0};
    const stk_engine_options options = {
        .model_path = TEST_STORIES, .log = &test_log, .machine = &machine, .cluster = cluster};
    assert_int_equal(stk_engine_open(&options, &engine), STK_INVALID);
    assert_non_null(strstr(test_last_error, is_rank(0) ? " on " : "measure themselves"));
}

static stk_status open_engine(uint64_t memory_bytes)
{
    const stk_engine_options options = {.model_path = copy_path && is_rank(1) ? copy_path
                                                                              : TEST_STORIES,
                                        .log = &test_log,
                                        .thread_count = 1,
                                        .ignores_usage = true,
                                        .memory_bytes = is_rank(1) ? memory_bytes : 0,
                                        .planned_session = &planned,
                                        .split = !copy_path                        ? NULL
                                                 : stk_cluster_count(cluster) == 2 ? "1,7"
                                                                                   : "1,6,1",
                                        .cluster = cluster};
    stk_status status = stk_engine_open(&options, &engine);
    if (status != STK_OK)
        print_error("%s\n", test_last_error);
    return status;
}

static stk_session *open_session(uint32_t inflight_max)
{
    stk_session_options options = planned;
    options.inflight_max = inflight_max;
    return test_session(engine, &options);
}

static void test_limits(void **state)
{
    (void)state;
    bool alone = cluster == NULL;
    stk_session *s = open_session(STK_INFLIGHT_AUTO);
    assert_int_equal(stk_session_inflight_max(s), alone ? 1 : stk_cluster_count(cluster) + 1);
    stk_session_close(&s);
    s = open_session(0);
    assert_int_equal(stk_session_inflight_max(s), 1);
    stk_session_close(&s);
    s = open_session(2);
    uint32_t most = stk_session_inflight_max(s);
    assert_int_equal(most, alone ? 1 : 2);
    assert_int_equal(stk_session_collect(s), STK_INVALID);
    for (uint32_t i = 0; i < most; i++)
        assert_int_equal(stk_session_submit(s, &(stk_row){0, i, ids[0][i], true}, 1), STK_OK);
    const stk_row next = {0, most, ids[0][most], true};
    assert_int_equal(stk_session_submit(s, &next, 1), STK_BUSY);
    assert_int_equal(stk_session_forward(s, &next, 1), STK_BUSY);
    assert_int_equal(stk_session_length(s, 0), most);
    for (uint32_t i = 0; i < most; i++) {
        assert_int_equal(stk_session_collect(s), STK_OK);
        test_same_bits("after BUSY", stk_session_logits(s, 0), want[0] + i * VOCAB, 1, VOCAB);
    }
    assert_int_equal(stk_session_forward(s, &next, 1), STK_OK);
    test_same_bits("forward", stk_session_logits(s, 0), want[0] + most * VOCAB, 1, VOCAB);
    assert_int_equal(stk_session_collect(s), STK_INVALID);
    stk_session_close(&s);
}

// Every sequence's rows, one forward each, in turns.
static void test_sequences(void **state)
{
    (void)state;
    static const uint32_t depths[] = {1, 2, 3, STK_INFLIGHT_AUTO, SEQUENCES};
    for (size_t d = 0; d < sizeof depths / sizeof *depths; d++) {
        stk_session *s = open_session(depths[d]);
        uint32_t total = SEQUENCES * TOKENS, out = 0, back = 0;
        while (back < total) {
            const stk_row row = {out % SEQUENCES, out / SEQUENCES,
                                 ids[out % SEQUENCES][out / SEQUENCES % TOKENS], true};
            stk_status status = out < total ? stk_session_submit(s, &row, 1) : STK_BUSY;
            if (status == STK_OK) {
                out++;
                continue;
            }
            assert_int_equal(status, STK_BUSY);
            assert_true(out == total || out - back == stk_session_inflight_max(s));
            assert_int_equal(stk_session_collect(s), STK_OK);
            test_same_bits("in turns", stk_session_logits(s, 0),
                           want[back % SEQUENCES] + (size_t)(back / SEQUENCES) * VOCAB, 1, VOCAB);
            assert_null(stk_session_logits(s, 1));
            back++;
        }
        stk_session_close(&s);
    }
}

static int32_t best_of(const float *logits)
{
    int32_t best = 0;
    for (int32_t i = 1; i < VOCAB; i++)
        best = logits[i] > logits[best] ? i : best;
    return best;
}

// Forwards that ask for nothing, for tokens, for logits, and for some of each, behind each other.
static void test_mixed(void **state)
{
    (void)state;
    static const stk_want_logits kinds[][3] = {
        {STK_LOGITS_NONE, STK_LOGITS_NONE, STK_LOGITS_NONE},
        {STK_LOGITS_BEST, STK_LOGITS_NONE, STK_LOGITS_BEST},
        {STK_LOGITS_NONE, STK_LOGITS_ALL, STK_LOGITS_BEST},
        {STK_LOGITS_ALL, STK_LOGITS_ALL, STK_LOGITS_NONE},
    };
    stk_session *s = open_session(4);
    for (uint32_t out = 0, back = 0; back < 4;) {
        stk_row rows[3];
        for (uint32_t i = 0; i < 3 && out < 4; i++)
            rows[i] = (stk_row){0, 3 * out + i, ids[0][3 * out + i], kinds[out][i]};
        if (out < 4 && stk_session_submit(s, rows, 3) == STK_OK) {
            out++;
            continue;
        }
        assert_int_equal(stk_session_collect(s), STK_OK);
        for (uint32_t i = 0; i < 3; i++) {
            const float *logits = want[0] + (size_t)(3 * back + i) * VOCAB;
            if (kinds[back][i] != STK_LOGITS_NONE)
                assert_int_equal(stk_session_best(s, i), best_of(logits));
            if (kinds[back][i] == STK_LOGITS_ALL)
                test_same_bits("mixed", stk_session_logits(s, i), logits, 1, VOCAB);
            if (kinds[back][i] == STK_LOGITS_NONE)
                assert_null(stk_session_logits(s, i));
        }
        back++;
    }
    stk_session_close(&s);
}

static stk_sampler *open_sampler(const stk_sampler_options *options)
{
    stk_sampler *sampler = NULL;
    assert_int_equal(stk_sampler_open(options, VOCAB, &sampler), STK_OK);
    return sampler;
}

// Rows of one sequence that are drawn, several of a forward, as with guesses that all hold: the
// tokens and the random numbers are those of drawing from the logits, wherever it is done.
static void test_drawn(void **state)
{
    (void)state;
    static const struct {
        stk_sampler_options options;
        bool travels; // over ranks the logits do
    } cases[] = {
        {{0.8f, 40, 0.95f, 0.05f, 1, 64, 7}, false}, {{1.5f, 0, 1, 0, 1, 0, 8}, false},
        {{1.0f, 0, 0.9f, 0, 1.4f, 6, 9}, false},     {{0, 0, 1, 0, 1.7f, 256, 10}, false},
        {{0, 0, 1, 0, 0.01f, 1, 13}, false},  // which makes the token before the likeliest
        {{0.9f, 0, 1, 0, 1, 300, 11}, false}, // no penalty, so nobody looks back
        {{0.9f, 0, 1, 0, 1.3f, 257, 12}, true},
    };
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        stk_session *s = open_session(0);
        stk_sampler *ours = open_sampler(&cases[c].options),
                    *here = open_sampler(&cases[c].options);
        stk_message_stats stats[STK_CLUSTER_RANKS_MAX];
        stk_session_set_sampler(s, ours);
        for (uint32_t at = 0, n; at < TOKENS; at += n) {
            stk_row rows[4];
            n = at % 3 + 1 < TOKENS - at ? at % 3 + 1 : TOKENS - at;
            for (uint32_t i = 0; i < n; i++)
                rows[i] = (stk_row){2, at + i, ids[2][at + i], STK_LOGITS_DRAWN};
            if (cluster)
                assert_int_equal(stk_pipeline_stats(engine, stats), STK_OK);
            stk_sampler_accept(ours, rows[0].token);
            assert_int_equal(stk_session_forward(s, rows, n), STK_OK);
            if (cluster) {
                assert_int_equal(stk_pipeline_stats(engine, stats), STK_OK);
                assert_int_equal(stats[stk_cluster_count(cluster) - 1].hop_bytes,
                                 n * sizeof(float) * (cases[c].travels ? VOCAB : 1));
            }
            for (uint32_t i = 0; i < n; i++) {
                if (i > 0)
                    stk_sampler_accept(ours, rows[i].token);
                stk_sampler_accept(here, rows[i].token);
                assert_int_equal(stk_session_draw(s, i, ours),
                                 stk_sampler_sample(here, want[2] + (size_t)(at + i) * VOCAB));
            }
        }
        assert_true(stk_sampler_random(ours) == stk_sampler_random(here));
        stk_sampler_close(&ours);
        stk_sampler_close(&here);
        stk_session_close(&s);
    }
}

// Without a sampler, or for several sequences in one forward, the logits come.
static void test_drawn_here(void **state)
{
    (void)state;
    stk_session *s = open_session(0);
    const stk_sampler_options options = {.temperature = 1, .top_p = 1, .repeat_penalty = 1};
    stk_sampler *sampler = open_sampler(&options);
    const stk_row alone = {0, 0, ids[0][0], STK_LOGITS_DRAWN};
    assert_int_equal(stk_session_forward(s, &alone, 1), STK_OK);
    test_same_bits("no sampler", stk_session_logits(s, 0), want[0], 1, VOCAB);
    stk_session_set_sampler(s, sampler);
    const stk_row both[] = {{1, 0, ids[1][0], STK_LOGITS_DRAWN},
                            {2, 0, ids[2][0], STK_LOGITS_DRAWN}};
    assert_int_equal(stk_session_forward(s, both, 2), STK_OK);
    test_same_bits("first", stk_session_logits(s, 0), want[1], 1, VOCAB);
    test_same_bits("second", stk_session_logits(s, 1), want[2], 1, VOCAB);
    stk_sampler_close(&sampler);
    stk_session_close(&s);
}

// A sequence is cut while what it held before is under way, and a session closed.
static void test_cut_and_closed_under_way(void **state)
{
    (void)state;
    stk_session *s = open_session(3);
    stk_row rows[BATCH];
    for (uint32_t i = 0; i < BATCH; i++)
        rows[i] = (stk_row){1, i, ids[1][i], i + 1 == BATCH};
    assert_int_equal(stk_session_submit(s, rows, BATCH), STK_OK);
    if (stk_session_inflight_max(s) == 1)
        assert_int_equal(stk_session_collect(s), STK_OK);
    assert_int_equal(stk_session_truncate(s, 1, 2), STK_OK);
    assert_int_equal(stk_session_submit(s, &(stk_row){1, 2, ids[1][2], true}, 1), STK_OK);
    if (stk_session_inflight_max(s) > 1) {
        assert_int_equal(stk_session_collect(s), STK_OK);
        test_same_bits("before the cut", stk_session_logits(s, BATCH - 1),
                       want[1] + (size_t)(BATCH - 1) * VOCAB, 1, VOCAB);
    }
    assert_int_equal(stk_session_collect(s), STK_OK);
    test_same_bits("after the cut", stk_session_logits(s, 0), want[1] + 2 * VOCAB, 1, VOCAB);
    assert_int_equal(stk_session_submit(s, &(stk_row){1, 3, ids[1][3], true}, 1), STK_OK);
    stk_session_close(&s);
}

// Rank 1 fails with others behind it; what was before it arrives, and a new session works.
static void test_lost_experts(void **state)
{
    (void)state;
    struct stat file;
    assert_int_equal(stat(copy_path, &file), 0);
    stk_session *s = open_session(STK_INFLIGHT_AUTO);
    assert_int_equal(truncate(copy_path, file.st_size / 2), 0);
    stk_status status = STK_OK;
    uint32_t out = 0, back = 0, total = SEQUENCES * TOKENS;
    while (status == STK_OK && back < total) {
        const stk_row row = {out % SEQUENCES, out / SEQUENCES,
                             ids[out % SEQUENCES][out / SEQUENCES % TOKENS], true};
        status = out < total ? stk_session_submit(s, &row, 1) : STK_BUSY;
        out += status == STK_OK;
        if (status != STK_BUSY)
            continue;
        status = stk_session_collect(s);
        if (status == STK_OK)
            test_same_bits("before the loss", stk_session_logits(s, 0),
                           want[back % SEQUENCES] + (size_t)(back / SEQUENCES) * VOCAB, 1, VOCAB);
        back++;
    }
    assert_true(status != STK_OK && status != STK_BUSY);
    assert_non_null(strstr(test_last_error, "rank 1 on "));
    assert_int_not_equal(stk_session_submit(s, &(stk_row){0, 0, 1, true}, 1), STK_OK);
    stk_session_close(&s);
    char command[1024];
    snprintf(command, sizeof command, "cat '%s' > '%s'", TEST_STORIES, copy_path);
    assert_int_equal(system(command), 0);
    test_sequences(state);
}

// Room for some experts, of which the rest is read.
static uint64_t little_memory(void)
{
    const stk_memory_plan *plan = stk_engine_memory(engine);
    return plan->total_bytes - plan->cache_bytes / 8 * 7 +
           stk_expert_store_overhead_bytes(stk_engine_model(engine));
}

static int prepare(void **state)
{
    (void)state;
    stk_engine *alone = test_engine(TEST_STORIES, NULL, 1);
    if (cluster)
        refuse_a_machine();
    if (open_engine(0) != STK_OK)
        return -1;
    if (copy_path) { // rank 1 knows now how much is little
        stk_engine_close(&engine);
        if (open_engine(0) != STK_OK)
            return -1;
    }
    for (uint32_t q = 0; q < SEQUENCES; q++) {
        stk_session *s = test_session(alone, &(stk_session_options){.context_tokens = 64});
        test_random_ids(q + 1, VOCAB, ids[q], TOKENS);
        want[q] = test_floats((size_t)TOKENS * VOCAB);
        test_feed(s, VOCAB, 0, ids[q], TOKENS, 1, want[q]);
        stk_session_close(&s);
    }
    stk_engine_close(&alone);
    return 0;
}

static int finish(void **state)
{
    (void)state;
    stk_engine_close(&engine);
    for (uint32_t q = 0; q < SEQUENCES; q++)
        free(want[q]);
    return 0;
}

static int serve(void)
{
    uint64_t memory_bytes = 0;
    stk_status status = STK_OK;
    refuse_a_machine();
    for (int i = 0; i < (copy_path ? 2 : 1) && status == STK_OK; i++) {
        status = open_engine(memory_bytes);
        if (status != STK_OK)
            break;
        bool reads = !stk_expert_store_is_resident(stk_engine_store(engine));
        status = stk_engine_serve(engine);
        if (i == 1 && is_rank(1) && !reads)
            status = STK_INVALID; // nothing could be lost
        memory_bytes = little_memory();
        stk_engine_close(&engine);
    }
    return status == STK_OK ? 0 : 1;
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_limits),     cmocka_unit_test(test_sequences),
        cmocka_unit_test(test_mixed),      cmocka_unit_test(test_drawn),
        cmocka_unit_test(test_drawn_here), cmocka_unit_test(test_cut_and_closed_under_way),
    };
    const struct CMUnitTest losses[] = {cmocka_unit_test(test_lost_experts)};
    const stk_cluster_options options = {.log = &test_log, .version = "test"};
    copy_path = argc > 1 ? argv[1] : NULL;
    if (stk_cluster_open(&options, &cluster) != STK_OK)
        return 77; // started by mpirun, built without MPI
    int result = 0;
    if (cluster && stk_cluster_rank(cluster) > 0)
        result = serve();
    else if (copy_path)
        result = cmocka_run_group_tests(losses, prepare, finish);
    else
        result = cmocka_run_group_tests(tests, prepare, finish);
    stk_cluster_close(&cluster);
    return result;
}
