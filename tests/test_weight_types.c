// Models whose weights are of other types than Q4_0, made from the bundled one: what a type means
// to the kernels is what its codec says, for every set of kernels, in any mixture.
#include "convert_model.h"
#include "engine_test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// The tokens and the reference of the golden case stories-q4_0-0.
enum { VOCAB = 4096, GOLDEN_COUNT = 24, LAYERS = 3, COUNT = 20 };
static const int32_t ids[GOLDEN_COUNT] = {3142, 587, 258,  534,  463, 308,  258, 470,
                                          745,  425, 1221, 344,  343, 2699, 297, 258,
                                          2878, 364, 259,  2157, 288, 259,  936, 44};

static const stk_type *one_type(const char *name, int layer, void *user)
{
    (void)name;
    (void)layer;
    return user;
}

// Every expert matrix of another type than its neighbours, other types in every layer.
static const stk_type *mixed_types(const char *name, int layer, void *user)
{
    static const stk_type *const types[] = {&stk_type_q4_0, &stk_type_f16,  &stk_type_q8_0,
                                            &stk_type_q6_k, &stk_type_bf16, &stk_type_q4_k,
                                            &stk_type_f32};
    (void)user;
    if (layer < 0)
        return &stk_type_q6_k; // a head as in files that are mostly Q4_0
    size_t at = (size_t)layer * 3;
    at += strstr(name, "gate") ? 1 : strstr(name, "up") ? 2 : strstr(name, "down") ? 3 : 0;
    return types[at % (sizeof types / sizeof *types)];
}

static const char *convert(const char *from, const char *name, uint32_t layers, bool transpose,
                           const stk_type *(*type_of)(const char *, int, void *), const void *user)
{
    const char *to = test_path(name);
    const test_conversion c = {from, to, layers, transpose, type_of, (void *)(uintptr_t)user};
    test_convert(&c);
    return to;
}

static void read_golden(float *out)
{
    FILE *file = fopen(STK_TEST_DATA "/golden/stories-q4_0-0.f32", "rb");
    assert_non_null(file);
    assert_int_equal(fread(out, sizeof *out, GOLDEN_COUNT * VOCAB, file), GOLDEN_COUNT * VOCAB);
    fclose(file);
}

// All layers, against the golden logits: exact in F32, close in what loses a little.
static void test_golden(void **state)
{
    (void)state;
    if (TEST_FEWER)
        skip();
    static const struct {
        const stk_type *type;
        double relative_max; // F16, Q8_0: three times what was measured
    } cases[] = {{&stk_type_f32, 1e-4}, {&stk_type_f16, 3.3e-4}, {&stk_type_q8_0, 4.3e-2}};
    float *golden = test_floats((size_t)GOLDEN_COUNT * VOCAB);
    read_golden(golden);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *path = convert(TEST_STORIES, "all.gguf", 0, false, one_type, cases[i].type);
        float *logits = test_logits(path, "f32", ids, GOLDEN_COUNT, VOCAB);
        test_distance d = test_compare(logits, golden, GOLDEN_COUNT, VOCAB);
        print_message("%s: relative error %.3g\n", cases[i].type->name, d.relative);
        assert_true(d.relative < cases[i].relative_max);
        free(logits);
    }
    free(golden);
}

// `path` under float activations equals, to the bit, its own values written as F32; and all kernel
// sets agree on it, near the result with float activations.
static void check_model(const char *path, const char *what)
{
    const char *wide = convert(path, "wide.gguf", 0, false, one_type, &stk_type_f32);
    float *want = test_logits(wide, "f32", ids, COUNT, VOCAB);
    float *got = test_logits(path, "f32", ids, COUNT, VOCAB);
    test_same_bits(what, got, want, COUNT, VOCAB);
    free(got);
    float *scalar = test_logits(path, "scalar", ids, COUNT, VOCAB);
    test_distance d = test_compare(scalar, want, COUNT, VOCAB);
    print_message("%s: mean KL of quantised to float activations %.3g\n", what, d.kl_mean);
    assert_true(d.kl_mean < 1e-3);
    for (size_t i = 1; test_mask_at(i); i++) {
        got = test_logits(path, test_mask_at(i), ids, COUNT, VOCAB);
        test_same_bits(what, got, scalar, COUNT, VOCAB);
        free(got);
    }
    free(scalar);
    free(want);
}

static void test_each_type(void **state)
{
    (void)state;
    if (TEST_FEWER)
        skip();
    static const stk_type *const types[] = {&stk_type_f16,  &stk_type_bf16, &stk_type_q4_0,
                                            &stk_type_q8_0, &stk_type_q6_k, &stk_type_q4_k,
                                            &stk_type_f32};
    const char *few = convert(TEST_STORIES, "few.gguf", LAYERS, false, one_type, &stk_type_f32);
    float *base = test_logits(few, "f32", ids, COUNT, VOCAB);
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        few = convert(TEST_STORIES, "few.gguf", LAYERS, false, one_type, types[i]);
        check_model(few, types[i]->name);
        float *logits = test_logits(few, "f32", ids, COUNT, VOCAB);
        test_distance d = test_compare(logits, base, COUNT, VOCAB);
        print_message("%s: relative error to the original %.3g\n", types[i]->name, d.relative);
        assert_true(d.relative < 0.1); // or the encoders above make another model
        free(logits);
    }
    free(base);
}

static void test_mixed(void **state)
{
    (void)state;
    check_model(convert(TEST_STORIES, "few.gguf", 4, false, mixed_types, NULL), "mixed");
}

// One row of down per neuron: the same numbers, so the same logits as the usual orientation when
// activations are floats.
static void test_transposed(void **state)
{
    (void)state;
    if (TEST_FEWER)
        skip();
    static const stk_type *const types[] = {&stk_type_f16, &stk_type_f32, &stk_type_q6_k,
                                            &stk_type_q4_0};
    const char *few = convert(TEST_STORIES, "few.gguf", LAYERS, false, one_type, &stk_type_f16);
    float *want = test_logits(few, "f32", ids, COUNT, VOCAB);
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        few = convert(TEST_STORIES, "few.gguf", LAYERS, true, one_type, types[i]);
        check_model(few, "transposed");
        if (i > 0)
            continue;
        float *got = test_logits(few, "f32", ids, COUNT, VOCAB);
        test_same_bits("transposed F16", got, want, COUNT, VOCAB);
        free(got);
    }
    free(want);
    check_model(convert(TEST_STORIES, "few.gguf", 4, true, mixed_types, NULL), "mixed transposed");
}

// Types that hold the same values exactly give the same bits, however workers share the experts:
// in parts, whole, row by row or all rows at once.
static void test_synthetic(void **state)
{
    (void)state;
    static const stk_synth_weights same[] = {STK_SYNTH_PURE_Q4_0, STK_SYNTH_Q4_0, STK_SYNTH_Q8_0,
                                             STK_SYNTH_Q6_K};
    enum { ROWS = 12 };
    const char *path = test_path("synthetic.gguf");
    stk_synth_options options = test_tiny(path, 0);
    options.shape = "small"; // parts of several groups
    int32_t random[ROWS];
    float *want = NULL, *got = test_floats((size_t)ROWS * TEST_TINY_VOCAB);
    test_random_ids(5, TEST_TINY_VOCAB, random, ROWS);
    options.overwrite = true;
    for (size_t i = 0; i < sizeof same / sizeof *same; i++) {
        options.weights = same[i];
        assert_int_equal(stk_synth_write(&options, &test_log), STK_OK);
        if (!want)
            want = test_logits(path, NULL, random, ROWS, TEST_TINY_VOCAB);
        for (uint32_t threads = 1; threads <= 3; threads++) {
            stk_engine *engine = test_engine(path, NULL, threads);
            for (uint32_t chunk = 1; chunk <= ROWS; chunk += ROWS - 1) {
                stk_session *session = test_session(engine, &(stk_session_options){0});
                test_feed(session, TEST_TINY_VOCAB, 0, random, ROWS, chunk, got);
                test_same_bits("synthetic", got, want, ROWS, TEST_TINY_VOCAB);
                stk_session_close(&session);
            }
            stk_engine_close(&engine);
        }
    }
    options.weights = STK_SYNTH_Q4_K_M; // minima: other roundings
    assert_int_equal(stk_synth_write(&options, &test_log), STK_OK);
    float *mixed = test_logits(path, NULL, random, ROWS, TEST_TINY_VOCAB);
    test_distance d = test_compare(mixed, want, ROWS, TEST_TINY_VOCAB);
    print_message("Q4_K_M: relative error to Q4_0 %.3g\n", d.relative);
    assert_true(d.relative > 0 && d.relative < 3e-2);
    free(mixed);
    free(got);
    free(want);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_golden),    cmocka_unit_test(test_each_type),
        cmocka_unit_test(test_mixed),     cmocka_unit_test(test_transposed),
        cmocka_unit_test(test_synthetic),
    };
    return cmocka_run_group_tests(tests, test_make_folder, test_remove_folder);
}
