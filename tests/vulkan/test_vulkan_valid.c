// The engine's whole way through a device under the validation layer, with synchronization
// validation: what it says is a failure. Accesses by buffer address it cannot see; copies, indirect
// dispatches, lifetimes and queues it can.
#include "tests/engine_test.h"
#include "tests/vulkan/leaks.h"

#include <dlfcn.h>
#include <string.h>

#include "engine/engine_impl.h"

enum { PROMPT = 9, STEPS = 4 };

static bool has_layer = true;

// The layer's messages are warnings and errors.
static void print(void *user, stk_log_level level, const char *line)
{
    (void)user, (void)level;
    print_message("%s\n", line);
}

static const stk_log printing = {.write = print, .level_max = STK_LOG_WARN};

static void use(stk_engine *engine)
{
    const stk_session_options options = {
        .context_tokens = 64, .batch_rows_max = PROMPT, .sequence_count = 2};
    stk_session *session = test_session(engine, &options);
    int32_t ids[PROMPT];
    test_random_ids(3, 4096, ids, PROMPT);
    test_feed(session, 4096, 0, ids, PROMPT, 0, NULL);
    for (uint32_t i = 0; i < STEPS; i++) {
        const stk_row rows[2] = {{0, PROMPT + i, ids[i], i % 2 ? STK_LOGITS_ALL : STK_LOGITS_BEST},
                                 {1, i, ids[i + 1], STK_LOGITS_BEST}};
        assert_int_equal(stk_session_forward(session, rows, 2), STK_OK);
    }
    stk_session_close(&session);
}

static void check(uint32_t layers, uint32_t percent, bool copies)
{
    const stk_vk_faults faults = {.unmapped = copies};
    const stk_engine_options options = {.model_path = TEST_STORIES,
                                        .log = &printing,
                                        .ignores_usage = true,
                                        .thread_count = 2,
                                        .device = "vulkan",
                                        .gpu_layers = layers,
                                        .gpu_head = layers ? STK_GPU_HEAD_ON : STK_GPU_HEAD_OFF,
                                        .gpu_experts_percent = percent,
                                        .gpu_copies = copies,
                                        .gpu_churns = copies,
                                        .gpu_validates = true,
                                        .gpu_faults = &faults};
    stk_engine *engine = NULL;
    stk_status status = stk_engine_open(&options, &engine);
    has_layer = status != STK_UNSUPPORTED;
    if (!has_layer)
        return;
    assert_int_equal(status, STK_OK);
    use(engine);
    uint32_t messages = stk_vk_validation_messages(stk_gpu_device_vk(engine->device));
    stk_engine_close(&engine);
    assert_int_equal(messages, 0);
}

static void test_nothing_is_said(void **state)
{
    (void)state;
    check(99, 100, false);
    if (!has_layer)
        skip();
    check(5, 100, true); // the other layers' attention is the CPU's
    check(99, 40, true); // experts on both sides, coming and going
    check(0, 40, false);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_nothing_is_said)};
    stk_vk_device_info infos[STK_VK_DEVICES_MAX];
    uint32_t count = 0;
    (void)dlopen("libVkLayer_khronos_validation.so", RTLD_NOW); // held, so that a leak checker can
    if (stk_vk_devices(&test_log, infos, &count) != STK_OK)     // name it
        return 77;
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    return has_layer ? failed : 77;
}
