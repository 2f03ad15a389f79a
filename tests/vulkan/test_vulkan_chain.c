// Layers that follow each other on a device give the bits of the same layers one by one, and choose
// the same experts: the whole model with its head, runs between layers of the CPU, several
// sequences, experts that leave, a device that is lost. What was chained is read from the trace.
#include "tests/engine_test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/engine_impl.h"
#include "engine/experts_gpu_impl.h"
#include "engine/metrics.h"

enum { PROMPT = 6, STEPS = 5, SEQUENCES = 2, SPANS = 256, CHOICES_MAX = 1 << 15 };

typedef struct setting {
    const char *path;
    uint32_t layers, percent;
    stk_gpu_head head;
    bool copies;      // weights, and out of the CPU's reach
    uint32_t leaves;  // before this step an expert of layer 1 leaves the device; 0: never
    uint32_t loss;    // before this step the device is lost; 0: never
    uint32_t runs;    // chains expected in a forward of a few rows, after that
    uint32_t longest; // and layers of the longest
} setting;

typedef struct outcome {
    int32_t best[STEPS + PROMPT][SEQUENCES];
    float *logits; // of every step's first row
    uint32_t choice_count;
    uint32_t chosen[CHOICES_MAX];
    float weights[CHOICES_MAX];
} outcome;

static const char *softmax_model(void)
{
    return test_path("softmax.gguf");
}

static int make_models(void **state)
{
    if (test_make_folder(state) != 0)
        return -1;
    stk_synth_options options = test_tiny(softmax_model(), 16);
    options.gating = STK_SYNTH_SOFTMAX;
    options.transpose_down = true;
    return stk_synth_write(&options, &test_log) == STK_OK ? 0 : -1;
}

static void keep_choice(void *user, uint32_t layer, uint32_t row_count, const uint32_t *chosen,
                        const float *weights)
{
    outcome *o = user;
    (void)layer;
    for (uint32_t i = 0; i < row_count * SEQUENCES; i++) { // the two likeliest are enough
        assert_true(o->choice_count < CHOICES_MAX);
        o->chosen[o->choice_count] = chosen[i];
        o->weights[o->choice_count++] = weights[i];
    }
}

// Runs and layers that the newest forward chained.
static void check_chains(stk_session *session, const setting *set, bool separate)
{
    static stk_gpu_span spans[SPANS];
    uint32_t count = stk_session_gpu_spans(session, spans, SPANS), runs = 0, longest = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (spans[i].kind != STK_GPU_SPAN_CHAIN)
            continue;
        uint32_t length = stk_gpu_chain_end(session, spans[i].layer) - spans[i].layer;
        longest = length > longest ? length : longest;
        runs++;
    }
    assert_int_equal(runs, separate ? 0 : set->runs);
    assert_int_equal(longest, separate ? 0 : set->longest);
}

// A prompt for two sequences, long for one batch and three rows at a time; then tokens for both.
static void converse(stk_engine *engine, const setting *set, bool separate, outcome *o)
{
    uint32_t vocab = stk_engine_model(engine)->vocab_size;
    const stk_session_options options = {.context_tokens = 64,
                                         .batch_rows_max = PROMPT,
                                         .sequence_count = SEQUENCES,
                                         .trace_forwards = 1};
    stk_session *session = test_session(engine, &options);
    int32_t ids[PROMPT];
    o->logits = test_floats((size_t)STEPS * vocab);
    stk_session_set_timing(session, true);
    stk_session_set_route_hook(session, keep_choice, o);
    for (uint32_t s = 0; s < SEQUENCES; s++) {
        test_random_ids(30 + s, vocab, ids, PROMPT);
        test_feed(session, vocab, s, ids, PROMPT, s == 0 ? PROMPT : 3, NULL);
    }
    for (uint32_t i = 0; i < STEPS; i++) {
        if (set->leaves != 0 && i == set->leaves)
            stk_gpu_set_slot(engine->gpu, 1, 3, STK_GPU_NO_SLOT);
        if (set->loss != 0 && i == set->loss)
            stk_gpu_device_inject_loss(engine->device);
        stk_row rows[SEQUENCES];
        for (uint32_t s = 0; s < SEQUENCES; s++)
            rows[s] = (stk_row){s, stk_session_length(session, s),
                                i != 0 ? o->best[i - 1][s] : (int32_t)s + 1,
                                i % 3 == 1 ? STK_LOGITS_BEST : STK_LOGITS_ALL};
        if (i % 4 == 2)
            rows[0].logits = 0; // the head's rows are not the batch's
        uint32_t before = stk_vk_submission_count(stk_gpu_device_vk(engine->device));
        stk_session_metrics_reset(session);
        assert_int_equal(stk_session_forward(session, rows, SEQUENCES), STK_OK);
        if (i >= set->leaves && i >= set->loss)
            check_chains(session, set, separate);
        if (set->longest == 8 && !separate) // the whole token, its head included
            assert_int_equal(stk_vk_submission_count(stk_gpu_device_vk(engine->device)),
                             before + 1);
        for (uint32_t s = 0; s < SEQUENCES; s++)
            o->best[i][s] = rows[s].logits ? stk_session_best(session, s) : 7;
        const float *logits = stk_session_logits(session, 1);
        if (i % 3 != 1)
            memcpy(o->logits + (size_t)i * vocab, logits, vocab * sizeof *logits);
        else
            memset(o->logits + (size_t)i * vocab, 0, vocab * sizeof *logits);
    }
    stk_session_close(&session);
}

static void run(const setting *set, bool separate, outcome *o)
{
    const stk_vk_faults faults = {.unmapped = set->copies};
    const stk_engine_options options = {.model_path = set->path,
                                        .thread_count = 2,
                                        .device = "vulkan",
                                        .gpu_layers = set->layers,
                                        .gpu_experts_percent = set->percent,
                                        .gpu_head = set->head,
                                        .gpu_copies = set->copies,
                                        .gpu_separate = separate,
                                        .gpu_faults = &faults};
    stk_engine *engine = test_open(&options);
    converse(engine, set, separate, o);
    assert_int_equal(stk_gpu_device_is_lost(engine->device), set->loss != 0);
    stk_engine_close(&engine);
}

static void check(const setting *set)
{
    static outcome want, got;
    want.choice_count = got.choice_count = 0;
    run(set, true, &want);
    run(set, false, &got);
    assert_memory_equal(got.best, want.best, sizeof got.best);
    assert_int_equal(got.choice_count, want.choice_count);
    assert_memory_equal(got.chosen, want.chosen, got.choice_count * sizeof *got.chosen);
    assert_memory_equal(got.weights, want.weights, got.choice_count * sizeof *got.weights);
    uint32_t vocab = strcmp(set->path, TEST_STORIES) == 0 ? 4096 : TEST_TINY_VOCAB;
    test_same_bits("chained", got.logits, want.logits, STEPS, vocab);
    free(want.logits);
    free(got.logits);
}

static void test_whole_model(void **state)
{
    (void)state;
    check(&(setting){TEST_STORIES, 99, 100, STK_GPU_HEAD_AUTO, false, 0, 0, 1, 8});
    check(&(setting){TEST_STORIES, 99, 100, STK_GPU_HEAD_AUTO, true, 0, 0, 1, 8});
    check(&(setting){softmax_model(), 99, 100, STK_GPU_HEAD_OFF, true, 0, 0, 1, 8});
}

static void test_parts(void **state)
{
    (void)state;
    check(&(setting){TEST_STORIES, 5, 100, STK_GPU_HEAD_ON, true, 0, 0, 1, 5});
}

static void test_changes_on_the_way(void **state)
{
    (void)state;
    check(&(setting){TEST_STORIES, 99, 100, STK_GPU_HEAD_AUTO, true, 2, 0, 2, 6});
    check(&(setting){TEST_STORIES, 99, 100, STK_GPU_HEAD_AUTO, true, 0, 3, 0, 0});
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_whole_model),
                                       cmocka_unit_test(test_parts),
                                       cmocka_unit_test(test_changes_on_the_way)};
    stk_vk_device_info infos[STK_VK_DEVICES_MAX];
    uint32_t count = 0;
    if (stk_vk_devices(&test_log, infos, &count) != STK_OK)
        return 77;
    return cmocka_run_group_tests(tests, make_models, test_remove_folder);
}
