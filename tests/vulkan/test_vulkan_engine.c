// Where an expert is computed never changes a token: greedy text of the bundled model, and its
// logits to the bit, with none, some and all experts on a device, and when the device is lost on
// the way.
#include "tests/vulkan/vulkan_test.h"

#include "engine/engine_impl.h"

enum { TOKENS = 200, PROMPT = 70, BATCH = 40 };

typedef struct outcome {
    int32_t tokens[TOKENS];
    float *logits; // [vocab] of the last token
    uint32_t vocab;
    uint32_t gpu_experts;
} outcome;

static int32_t best_of(const float *logits, uint32_t count)
{
    uint32_t best = 0;
    for (uint32_t i = 1; i < count; i++)
        best = logits[i] > logits[best] ? i : best;
    return (int32_t)best;
}

// Reads a prompt in two uneven batches, then draws. The device is lost before token `loses_at`.
static outcome generate(const char *device, uint32_t percent, bool copies, uint32_t loses_at)
{
    static stk_row rows[PROMPT];
    stk_engine *engine = NULL;
    stk_session *session = NULL;
    outcome o = {.gpu_experts = 0};
    stk_engine_options options = {.model_path = STK_MODELS "/stories-q4_0.gguf",
                                  .log = &test_log,
                                  .thread_count = 1,
                                  .ignores_usage = true,
                                  .device = device,
                                  .gpu_experts_percent = percent,
                                  .gpu_copies = copies};
    stk_session_options session_options = {.context_tokens = 512, .batch_rows_max = BATCH};
    assert_int_equal(stk_engine_open(&options, &engine), STK_OK);
    assert_int_equal(stk_session_open(engine, &session_options, &session), STK_OK);
    uint32_t vocab = stk_engine_model(engine)->vocab_size;
    o.vocab = vocab;
    o.gpu_experts = stk_engine_gpu_experts(engine);
    for (uint32_t i = 0; i < PROMPT; i++)
        rows[i] = (stk_row){0, i, (int32_t)(i * 37 % vocab), i == PROMPT - 1};
    assert_int_equal(stk_session_forward(session, rows, BATCH), STK_OK);
    assert_int_equal(stk_session_forward(session, rows + BATCH, PROMPT - BATCH), STK_OK);
    const float *logits = stk_session_logits(session, PROMPT - BATCH - 1);
    for (uint32_t i = 0; i < TOKENS; i++) {
        o.tokens[i] = best_of(logits, vocab);
        stk_row row = {0, PROMPT + i, o.tokens[i], true};
        if (i == loses_at)
            stk_gpu_device_inject_loss(engine->device);
        assert_int_equal(stk_session_forward(session, &row, 1), STK_OK);
        logits = stk_session_logits(session, 0);
    }
    if (loses_at < TOKENS)
        assert_int_equal(stk_engine_gpu_experts(engine), 0);
    o.logits = test_alloc(vocab * 4);
    memcpy(o.logits, logits, vocab * 4);
    stk_session_close(&session);
    stk_engine_close(&engine);
    return o;
}

static void expect_same(const outcome *got, const outcome *want)
{
    assert_memory_equal(got->tokens, want->tokens, sizeof got->tokens);
    assert_memory_equal(got->logits, want->logits, want->vocab * sizeof *want->logits);
}

static void test_share_changes_nothing(void **state)
{
    (void)state;
    static const uint32_t percents[] = {0, 30, 100};
    outcome cpu = generate("cpu", 0, false, TOKENS);
    assert_int_equal(cpu.gpu_experts, 0);
    for (int i = 0; i < 3; i++) {
        outcome gpu = generate("vulkan", percents[i], i == 1, TOKENS);
        assert_true((gpu.gpu_experts > 0) == (percents[i] > 0));
        expect_same(&gpu, &cpu);
        free(gpu.logits);
    }
    outcome lost = generate("vulkan", 50, false, 90);
    assert_true(lost.gpu_experts > 0);
    expect_same(&lost, &cpu);
    free(lost.logits);
    free(cpu.logits);
}

static void test_wrong_devices(void **state)
{
    (void)state;
    static const char *const wrong[] = {"gpu", "vulkan:", "vulkan:no such device", "vulkan:99"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        stk_engine *engine = NULL;
        stk_engine_options options = {.model_path = STK_MODELS "/stories-q4_0.gguf",
                                      .ignores_usage = true,
                                      .thread_count = 1,
                                      .device = wrong[i]};
        assert_int_equal(stk_engine_open(&options, &engine), STK_INVALID);
        assert_null(engine);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_share_changes_nothing),
                                       cmocka_unit_test(test_wrong_devices)};
    stk_vk_device_info infos[STK_VK_DEVICES_MAX];
    uint32_t count = 0;
    if (stk_vk_devices(&test_log, infos, &count) != STK_OK)
        return 77;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
