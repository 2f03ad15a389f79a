// Engines that have a part of the layers each, handing the residual stream on, compute what one
// engine with all of them computes: to the bit, with and without limited memory.
#include "engine_test.h"
#include "store/expert_store.h"

#include <stdlib.h>
#include <string.h>

enum { VOCAB = 4096, COUNT = 40, LAYERS = 8, PARTS_MAX = 4, WIDTH_MAX = 4096 };

static stk_engine *open_limited(uint32_t first, uint32_t end, uint64_t memory_bytes)
{
    const stk_session_options session = {
        .batch_rows_max = COUNT, .logit_rows_max = COUNT, .context_tokens = 512};
    const stk_engine_options options = {
        .model_path = TEST_STORIES,
        .log = &test_log,
        .thread_count = 2,
        .layer_first = first,
        .layer_end = end,
        .memory_bytes = memory_bytes,
        .planned_session = &session,
        .ignores_usage = true,
    };
    stk_engine *engine = NULL;
    if (stk_engine_open(&options, &engine) != STK_OK)
        fail_msg("layers %u to %u: %s", first, end, test_last_error);
    return engine;
}

// Limited: room for half of its experts.
static stk_engine *open_part(uint32_t first, uint32_t end, bool is_limited)
{
    stk_engine *engine = open_limited(first, end, 0);
    if (!is_limited)
        return engine;
    const stk_memory_plan *plan = stk_engine_memory(engine);
    uint64_t limit = plan->total_bytes - plan->cache_bytes / 2 +
                     stk_expert_store_overhead_bytes(stk_engine_model(engine));
    stk_engine_close(&engine);
    engine = open_limited(first, end, limit);
    assert_false(stk_expert_store_is_resident(stk_engine_store(engine)));
    return engine;
}

// ids in chunks through engines with the layers between ends[i] and ends[i + 1].
static float *run_parts(const uint32_t *ends, uint32_t parts, bool is_limited, uint32_t chunk)
{
    stk_engine *engines[PARTS_MAX];
    stk_session *sessions[PARTS_MAX];
    int32_t ids[COUNT];
    float *out = test_floats((size_t)COUNT * VOCAB);
    test_random_ids(7, VOCAB, ids, COUNT);
    for (uint32_t p = 0; p < parts; p++) {
        engines[p] = open_part(ends[p], ends[p + 1], is_limited);
        sessions[p] = test_session(
            engines[p], &(stk_session_options){.batch_rows_max = COUNT, .context_tokens = 512});
    }
    size_t width = stk_engine_model(engines[0])->width;
    for (uint32_t at = 0; at < COUNT; at += chunk) {
        stk_row rows[COUNT];
        uint32_t n = COUNT - at < chunk ? COUNT - at : chunk;
        for (uint32_t i = 0; i < n; i++)
            rows[i] = (stk_row){0, at + i, ids[at + i], true};
        for (uint32_t p = 0; p < parts; p++) {
            if (p > 0)
                memcpy(stk_session_hidden(sessions[p]), stk_session_hidden(sessions[p - 1]),
                       n * width * sizeof(float));
            assert_int_equal(stk_session_forward(sessions[p], rows, n), STK_OK);
        }
        for (uint32_t i = 0; i < n; i++)
            memcpy(out + (size_t)(at + i) * VOCAB, stk_session_logits(sessions[parts - 1], i),
                   VOCAB * sizeof *out);
    }
    for (uint32_t p = 0; p < parts; p++) {
        stk_session_close(&sessions[p]);
        stk_engine_close(&engines[p]);
    }
    return out;
}

static void test_parts_equal_the_whole(void **state)
{
    (void)state;
    static const struct {
        uint32_t ends[PARTS_MAX + 1], parts, chunk;
        bool is_limited;
    } cases[] = {
        {{0, 4, 8}, 2, 1, false},
        {{0, 1, 8}, 2, 7, false},
        {{0, 7, 8}, 2, COUNT, false},
        {{0, 2, 3, 8}, 3, COUNT, false},
        {{0, 2, 4, 6, 8}, 4, 16, false},
        {{0, 5, 8}, 2, 1, true},
        {{0, 8}, 1, 9, true},
        {{0, 3, 8}, 2, 40, true},
    };
    float *want = run_parts((const uint32_t[]){0, LAYERS}, 1, false, COUNT);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        if (TEST_FEWER && i % 3 != 0)
            continue;
        float *got = run_parts(cases[i].ends, cases[i].parts, cases[i].is_limited, cases[i].chunk);
        test_same_bits("parts", got, want, COUNT, VOCAB);
        free(got);
    }
    free(want);
}

static void test_a_part_takes_only_its_share(void **state)
{
    (void)state;
    stk_engine *all = open_part(0, 0, false), *first = open_part(0, 2, false),
               *middle = open_part(2, 4, false);
    uint64_t whole = stk_engine_weight_bytes(all), begin = stk_engine_weight_bytes(first);
    uint64_t inside = stk_engine_weight_bytes(middle);
    assert_int_equal(stk_engine_memory(middle)->experts, stk_engine_memory(all)->experts / 4);
    assert_true(inside < begin); // no embedding, no head
    assert_true(begin < whole / 2);
    stk_session *session = test_session(middle, &(stk_session_options){.context_tokens = 64});
    assert_int_equal(stk_session_forward(session, &(stk_row){0, 0, 1, true}, 1), STK_OK);
    assert_null(stk_session_logits(session, 0)); // computed elsewhere
    stk_session_close(&session);
    stk_engine_close(&all);
    stk_engine_close(&first);
    stk_engine_close(&middle);
}

static void test_layers_that_do_not_exist(void **state)
{
    (void)state;
    static const uint32_t bad[][2] = {{3, 3}, {4, 2}, {0, 9}, {8, false}, {UINT32_MAX, 2}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        stk_engine *engine = NULL;
        const stk_engine_options options = {.model_path = TEST_STORIES,
                                            .log = &test_log,
                                            .layer_first = bad[i][0],
                                            .layer_end = bad[i][1]};
        assert_int_equal(stk_engine_open(&options, &engine), STK_INVALID);
        assert_non_null(strstr(test_last_error, "of 8"));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parts_equal_the_whole),
        cmocka_unit_test(test_a_part_takes_only_its_share),
        cmocka_unit_test(test_layers_that_do_not_exist),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
