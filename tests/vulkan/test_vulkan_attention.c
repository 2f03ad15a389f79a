// Attention and head on a device inside the engine: near the CPU's logits, the same bits however
// rows are batched and contexts split, and nothing lost with the device.
#include "tests/engine_test.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/engine_impl.h"

enum { VOCAB = TEST_TINY_VOCAB, LONG = 540, TAIL = 12, WINDOW = 280, PROMPT = 40, STEPS = 8 };

static const char *window_model(void)
{
    return test_path("window.gguf");
}

static int make_models(void **state)
{
    if (test_make_folder(state) != 0)
        return -1;
    const stk_synth_options options = test_tiny(window_model(), WINDOW);
    return stk_synth_write(&options, &test_log) == STK_OK ? 0 : -1;
}

static stk_engine *open_engine(const char *path, uint32_t layers, stk_gpu_head head, bool copies,
                               uint32_t experts_percent)
{
    const stk_vk_faults faults = {.unmapped = copies};
    const stk_engine_options options = {.model_path = path,
                                        .thread_count = 2,
                                        .device = layers || head ? "vulkan" : "cpu",
                                        .gpu_layers = layers,
                                        .gpu_head = head,
                                        .gpu_experts_percent = experts_percent,
                                        .gpu_copies = copies,
                                        .gpu_faults = &faults};
    return test_open(&options);
}

static stk_session *open_session(stk_engine *engine, uint32_t count)
{
    const stk_session_options options = {.context_tokens = count, .batch_rows_max = 64};
    return test_session(engine, &options);
}

// Logits of ids[0..count), in batches of 64. Then the last TAIL of them again in other batches,
// which must give the same.
static float *run(stk_engine *engine, const int32_t *ids, uint32_t count)
{
    static const uint32_t chunks[] = {1, 3, 7}; // split, split in one batch, tiles
    uint32_t vocab = stk_engine_model(engine)->vocab_size, head = count - TAIL;
    stk_session *session = open_session(engine, count);
    float *out = test_floats((size_t)count * vocab), *again = test_floats((size_t)TAIL * vocab);
    test_feed(session, vocab, 0, ids, count, 64, out);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(stk_session_truncate(session, 0, head), STK_OK);
        test_feed(session, vocab, 0, ids + head, TAIL, chunks[i], again);
        test_same_bits("in other batches", again, out + (size_t)head * vocab, TAIL, vocab);
    }
    free(again);
    stk_session_close(&session);
    return out;
}

static void check_near(const char *path, uint32_t vocab, uint32_t count, uint32_t layers,
                       stk_gpu_head head, bool copies)
{
    int32_t ids[LONG];
    test_random_ids(7, vocab, ids, count);
    stk_engine *cpu = open_engine(path, 0, STK_GPU_HEAD_AUTO, false, 0);
    float *want = run(cpu, ids, count);
    stk_engine_close(&cpu);
    stk_engine *gpu = open_engine(path, layers, head, copies, 0);
    assert_true(stk_engine_gpu_layers(gpu) > 0 || stk_engine_gpu_has_head(gpu));
    float *got = run(gpu, ids, count);
    stk_engine_close(&gpu);
    test_distance d = test_compare(got, want, count, vocab);
    print_message("%u layers: KL %.3g, median %.3g, agreement %.3f, relative %.3g\n", layers,
                  d.kl_mean, d.kl_median, d.agreement, d.relative);
    // test_golden.c's bounds where weights are random: near ties in the router move single tokens
    bool trained = strcmp(path, TEST_STORIES) == 0;
    assert_true(d.kl_mean <= (trained ? 1e-4 : 3 * 0.0351));
    assert_true(d.kl_median <= (trained ? 1e-5 : 3 * 0.00047));
    assert_true(d.agreement >= (trained ? 0.97 : 0.92));
    free(want);
    free(got);
}

// Greedy tokens of two sequences side by side, of which one is cut back on the way. `loss`: the
// device is lost before that step.
static void converse(stk_engine *engine, uint32_t loss, int32_t *tokens, float *logits)
{
    uint32_t vocab = stk_engine_model(engine)->vocab_size;
    const stk_session_options options = {
        .context_tokens = 400, .batch_rows_max = 64, .sequence_count = 2};
    stk_session *session = test_session(engine, &options);
    int32_t ids[PROMPT];
    for (uint32_t s = 0; s < 2; s++) {
        test_random_ids(20 + s, vocab, ids, PROMPT);
        test_feed(session, vocab, s, ids, PROMPT, 33, NULL);
    }
    for (uint32_t i = 0; i < STEPS; i++) {
        if (i == STEPS / 2)
            assert_int_equal(stk_session_truncate(session, 1, PROMPT - 5), STK_OK);
        if (i == loss)
            stk_gpu_device_inject_loss(engine->device);
        const stk_row rows[2] = {
            {0, stk_session_length(session, 0), i ? tokens[2 * i - 2] : 1,
             i + 1 == STEPS ? STK_LOGITS_ALL : STK_LOGITS_BEST},
            {1, stk_session_length(session, 1), i ? tokens[2 * i - 1] : 2, STK_LOGITS_BEST}};
        assert_int_equal(stk_session_forward(session, rows, 2), STK_OK);
        tokens[2 * i] = stk_session_best(session, 0);
        tokens[2 * i + 1] = stk_session_best(session, 1);
    }
    memcpy(logits, stk_session_logits(session, 0), vocab * sizeof *logits);
    stk_session_close(&session);
}

// Lost at the start of it, everything is the CPU's to the bit: keys and values too were computed
// again. Lost later, the tokens before stay the device's.
static void check_loss(const char *path, uint32_t vocab, uint32_t loss, bool experts)
{
    int32_t want[2 * STEPS], got[2 * STEPS];
    float *want_logits = test_floats(vocab), *got_logits = test_floats(vocab);
    stk_engine *cpu = open_engine(path, 0, STK_GPU_HEAD_AUTO, false, 0);
    converse(cpu, UINT32_MAX, want, want_logits);
    stk_engine_close(&cpu);
    stk_engine *gpu = open_engine(path, 99, STK_GPU_HEAD_AUTO, false, experts ? 50 : 0);
    assert_int_equal(stk_engine_gpu_layers(gpu), stk_engine_model(gpu)->layer_count);
    assert_true(stk_engine_gpu_has_head(gpu));
    converse(gpu, loss, got, got_logits);
    assert_int_equal(stk_engine_gpu_layers(gpu),
                     loss < STEPS ? 0 : stk_engine_model(gpu)->layer_count);
    assert_false(loss < STEPS && stk_engine_gpu_has_head(gpu));
    stk_engine_close(&gpu);
    assert_memory_equal(got, want, sizeof got);
    if (loss < STEPS)
        test_same_bits("after a loss", got_logits, want_logits, 1, vocab);
    free(want_logits);
    free(got_logits);
}

static void test_loss(void **state)
{
    (void)state;
    check_loss(TEST_STORIES, 4096, UINT32_MAX, false);
    check_loss(TEST_STORIES, 4096, 0, false);
    check_loss(TEST_STORIES, 4096, STEPS / 2, true);
}

static void test_near_the_cpu(void **state)
{
    (void)state;
    check_near(TEST_STORIES, 4096, 40, 99, STK_GPU_HEAD_AUTO, false);
    check_near(TEST_STORIES, 4096, 40, 3, STK_GPU_HEAD_ON, true);
    check_near(window_model(), VOCAB, LONG, 4, STK_GPU_HEAD_OFF, false);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_near_the_cpu),
                                       cmocka_unit_test(test_loss)};
    stk_vk_device_info infos[STK_VK_DEVICES_MAX];
    uint32_t count = 0;
    if (stk_vk_devices(&test_log, infos, &count) != STK_OK)
        return 77;
    return cmocka_run_group_tests(tests, make_models, test_remove_folder);
}
