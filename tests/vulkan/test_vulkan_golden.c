// The golden cases with experts on a device: logits equal the CPU's to the bit, whatever the share
// and whatever the device seems to lack. How near they are to the reference test_golden.c says.
//
// usage: test_vulkan_golden SYNTHETIC_MODELS
#include "tests/engine_test.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vulkan/device.h"

typedef struct golden {
    char path[1024];
    uint32_t vocab, count;
    int32_t *ids; // [count]
} golden;

static const char *synthetic_models;

static golden read_case(const json_t *entry)
{
    golden g = {0};
    const json_t *ids = json_object_get(entry, "ids");
    snprintf(g.path, sizeof g.path, "%s/%s",
             json_object_get(entry, "synth") ? synthetic_models : STK_MODELS,
             json_string_value(json_object_get(entry, "model")));
    g.vocab = (uint32_t)json_integer_value(json_object_get(entry, "vocab"));
    g.count = (uint32_t)json_array_size(ids);
    g.ids = malloc(g.count * sizeof *g.ids);
    assert_non_null(g.ids);
    for (uint32_t i = 0; i < g.count; i++)
        g.ids[i] = (int32_t)json_integer_value(json_array_get(ids, i));
    return g;
}

// Logits of the case, most of it in one batch, the last three tokens one by one.
static float *run(const golden *g, const stk_engine_options *options, uint32_t *gpu_experts)
{
    const uint32_t head = g->count - 3;
    const stk_session_options session_options = {.context_tokens = g->count,
                                                 .batch_rows_max = g->count};
    stk_engine *engine = NULL;
    if (stk_engine_open(options, &engine) != STK_OK)
        fail_msg("%s: %s", g->path, test_last_error);
    stk_session *session = test_session(engine, &session_options);
    float *out = test_floats((size_t)g->count * g->vocab);
    test_feed(session, g->vocab, 0, g->ids, head, 0, out);
    test_feed(session, g->vocab, 0, g->ids + head, 3, 1, out + (size_t)head * g->vocab);
    *gpu_experts = stk_engine_gpu_experts(engine);
    stk_session_close(&session);
    stk_engine_close(&engine);
    return out;
}

static void check(const golden *g, const float *want, uint32_t percent, stk_vk_faults faults)
{
    char what[1200];
    uint32_t gpu_experts = 0;
    const stk_engine_options options = {.model_path = g->path,
                                        .log = &test_log,
                                        .thread_count = 2,
                                        .ignores_usage = true,
                                        .device = "vulkan",
                                        .gpu_experts_percent = percent,
                                        .gpu_faults = &faults};
    float *got = run(g, &options, &gpu_experts);
    snprintf(what, sizeof what, "%s, %u %% of the experts on a device", g->path, percent);
    assert_true((gpu_experts > 0) == (percent > 0));
    test_same_bits(what, got, want, g->count, g->vocab);
    free(got);
}

static void test_cases(void **state)
{
    (void)state;
    json_t *index = json_load_file(STK_TEST_DATA "/golden/index.json", 0, NULL);
    uint32_t cases = 0;
    for (size_t i = 0; i < json_array_size(index); i++) {
        golden g = read_case(json_array_get(index, i));
        if (access(g.path, R_OK) == 0) { // else there was no Python to make it
            uint32_t none = 0;
            const stk_engine_options cpu = {
                .model_path = g.path, .log = &test_log, .thread_count = 2, .ignores_usage = true};
            float *want = run(&g, &cpu, &none);
            check(&g, want, 0, (stk_vk_faults){0});
            check(&g, want, 30, (stk_vk_faults){.no_import = true, .unmapped = true});
            check(&g, want, 100, (stk_vk_faults){0});
            free(want);
            cases++;
        }
        free(g.ids);
    }
    json_decref(index);
    assert_true(cases >= 3); // of the model that comes with the source
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_cases)};
    static stk_vk_device_info infos[STK_VK_DEVICES_MAX];
    uint32_t count = 0;
    if (argc < 2) {
        fprintf(stderr, "usage: test_vulkan_golden SYNTHETIC_MODELS\n");
        return 1;
    }
    synthetic_models = argv[1];
    if (stk_vk_devices(&test_log, infos, &count) != STK_OK)
        return 77;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
