// Skipping inactive neurons is exact: what the engine computed for every (row, expert) of a batch
// equals, to the bit, cpu/ref evaluating that expert with all its neurons.
//
// Looks inside a session: a forward pass without logits leaves the last layer's inputs to the
// experts, its choices and the experts' outputs behind.
#include "convert_model.h"
#include "engine_test.h"

#include <stdlib.h>
#include <string.h>

#include "cpu/ref/ref.h"
#include "engine/engine_impl.h"
#include "model/synth.h"

enum { ROWS_MAX = TEST_FEWER ? 20 : 40, FFN_MAX = 1024, WIDTH_MAX = 1024 };

// Counts of neurons, to see that there was something to skip.
static uint64_t neurons_seen, neurons_active;

// y[width] = the expert's output for `act`, dense: every up row, h = max(gate, 0) * up, and every
// neuron of every group handed to down.
static void dense_expert(const stk_model *m, const stk_expert *expert, const stk_act *act, float *y)
{
    static float gate[FFN_MAX], up[FFN_MAX], h[FFN_MAX], d[FFN_MAX / 32];
    static float parts[STK_EXPERT_PARTS][WIDTH_MAX];
    static int8_t q[FFN_MAX];
    static int32_t sum[FFN_MAX / 32];
    static uint32_t all[FFN_MAX], first[FFN_MAX / 32 + 1];
    uint32_t groups = m->ffn_width / 32;
    assert_true(m->ffn_width <= FFN_MAX && m->width <= WIDTH_MAX);
    for (uint32_t j = 0; j < m->ffn_width; j++)
        all[j] = j;
    for (uint32_t g = 0; g <= groups; g++)
        first[g] = 32 * g;
    stk_matmul_ref(&expert->gate, 0, m->ffn_width, act, 1, gate, m->ffn_width);
    stk_gather_ref(&expert->up, all, m->ffn_width, act, up);
    for (uint32_t j = 0; j < m->ffn_width; j++) {
        float relu = gate[j] > 0 ? gate[j] : 0;
        h[j] = relu * up[j];
        neurons_active += gate[j] > 0;
    }
    neurons_seen += m->ffn_width;
    stk_quantize_ref(h, m->ffn_width, q, d, sum);
    const stk_neurons neurons = {h, q, d, sum, all, first};
    memset(parts, 0, sizeof parts);
    for (uint32_t p = 0; p < STK_EXPERT_PARTS; p++)
        stk_down_ref(&expert->down, &neurons, groups * p / STK_EXPERT_PARTS,
                     groups * (p + 1) / STK_EXPERT_PARTS, parts[p]);
    for (uint32_t o = 0; o < m->width; o++)
        y[o] = (parts[0][o] + parts[2][o]) + (parts[1][o] + parts[3][o]);
}

static void check_batch(stk_session *s, const int32_t *ids, uint32_t count)
{
    const stk_model *m = &s->engine->model;
    uint32_t layer = m->layer_count - 1;
    float y[WIDTH_MAX];
    assert_true(stk_expert_store_is_resident(s->engine->store));
    assert_int_equal(stk_session_truncate(s, 0, 0), STK_OK);
    test_feed(s, m->vocab_size, 0, ids, count, 0, NULL);
    for (uint32_t pair = 0; pair < count * m->expert_used_count; pair++) {
        stk_expert expert;
        assert_int_equal( // all experts are resident: nothing to wait for or to give back
            stk_expert_store_poll(s->engine->store, layer, s->chosen[pair], &expert), STK_OK);
        dense_expert(m, &expert, &s->normed.rows[pair / m->expert_used_count], y);
        test_same_bits(s->engine->cpu.name, s->expert_outputs + (size_t)pair * s->width_padded, y,
                       1, m->width);
    }
}

static void check_model(const char *path)
{
    static const uint32_t batches[] = {1, 5, ROWS_MAX}; // by part, by part, by expert
    for (size_t i = 0; test_mask_at(i); i++) {
        if (TEST_FEWER && i > 0 && test_mask_at(i + 1)) // the first and the last
            continue;
        stk_engine *engine = test_engine(path, test_mask_at(i), 2);
        const stk_session_options options = {.context_tokens = ROWS_MAX,
                                             .batch_rows_max = ROWS_MAX};
        stk_session *session = test_session(engine, &options);
        int32_t ids[ROWS_MAX];
        neurons_seen = neurons_active = 0;
        for (size_t b = 0; b < sizeof batches / sizeof *batches; b++) {
            test_random_ids(20 + b, stk_engine_model(engine)->vocab_size, ids, batches[b]);
            check_batch(session, ids, batches[b]);
        }
        assert_in_range(neurons_active * 100 / neurons_seen, 5, 60);
        stk_session_close(&session);
        stk_engine_close(&engine);
    }
}

static void test_trained(void **state)
{
    (void)state;
    check_model(TEST_STORIES);
}

static void test_transposed(void **state)
{
    (void)state;
    stk_synth_options options = stk_synth_defaults();
    options.shape = "tiny";
    options.vocab_count = 512;
    options.path = test_path("transposed.gguf");
    options.transpose_down = true;
    assert_int_equal(stk_synth_write(&options, &test_log), STK_OK);
    check_model(options.path);
}

static const stk_type *one_type(const char *name, int layer, void *user)
{
    (void)name;
    (void)layer;
    return user;
}

// Float weights, minima, and scales within a block, in both orientations.
static void test_types(void **state)
{
    (void)state;
    static const stk_type *const types[] = {&stk_type_f16, &stk_type_q4_k, &stk_type_q8_0};
    for (size_t i = 0; i < (TEST_FEWER ? 1 : 2 * sizeof types / sizeof *types); i++) {
        test_conversion c = {TEST_STORIES, test_path("type.gguf"), 2, i % 2 == 1, one_type, NULL};
        c.user = (void *)(uintptr_t)types[i / 2];
        test_convert(&c);
        check_model(c.to);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_trained),
        cmocka_unit_test(test_transposed),
        cmocka_unit_test(test_types),
    };
    return cmocka_run_group_tests(tests, test_make_folder, test_remove_folder);
}
