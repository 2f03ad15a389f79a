// The sampler's stages on logits made by hand, its frequencies, and logits no model should give.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/options.h"
#include "base/random.h"
#include "engine/option_tables.h"
#include "engine/sampler.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { QWEN_VOCAB = 151936 };

static const stk_sampler_options off = {
    .temperature = 1, .top_p = 1, .repeat_penalty = 1, .repeat_last = 64, .seed = 7};

static stk_sampler *open_sampler(stk_sampler_options options, uint32_t vocab_size)
{
    stk_sampler *sampler = NULL;
    assert_int_equal(stk_sampler_open(&options, vocab_size, &sampler), STK_OK);
    return sampler;
}

// Checks that exactly ids[0..count), in that order, are left, and that probabilities sum to 1.
static void expect(stk_sampler *sampler, const float *logits, const int32_t *ids, uint32_t count)
{
    const stk_candidate *candidates;
    double sum = 0;
    assert_int_equal(stk_sampler_distribution(sampler, logits, &candidates), count);
    for (uint32_t i = 0; i < count; i++) {
        assert_int_equal(candidates[i].id, ids[i]);
        sum += (double)candidates[i].probability;
    }
    assert_true(fabs(sum - 1) < 1e-5);
}
#define EXPECT(sampler, logits, ...)                                                               \
    expect(sampler, logits, (const int32_t[]){__VA_ARGS__},                                        \
           sizeof((const int32_t[]){__VA_ARGS__}) / sizeof(int32_t))

static void greedy(void **state)
{
    (void)state;
    stk_sampler_options options = off;
    options.temperature = 0;
    stk_sampler *sampler = open_sampler(options, 5);
    assert_int_equal(stk_sampler_sample(sampler, (float[]){1, 3, -2, 3, 2}), 1); // tie: lower id
    assert_int_equal(stk_sampler_sample(sampler, (float[]){-5, -4, -3, -2, -1}), 4);
    EXPECT(sampler, ((float[]){1, 3, -2, 3, 2}), 1);
    stk_sampler_close(&sampler);
    assert_null(sampler);
}

// probabilities 0.5, 0.25, 0.125, 0.0625, 0.0625 at ids 2, 0, 4, 1, 3
static const float halves[] = {-1, -3, 0, -3, -2};
static float scaled[5];

static const float *logits_of_halves(void)
{
    for (int i = 0; i < 5; i++)
        scaled[i] = halves[i] * 0.69314718f + 3;
    return scaled;
}

static int by_id(const void *a, const void *b)
{
    return *(const int32_t *)a - *(const int32_t *)b;
}

static void filters(void **state)
{
    (void)state;
    const float *logits = logits_of_halves();
    static const struct {
        uint32_t top_k;
        float top_p, min_p;
        uint32_t count;
    } cases[] = {
        {0, 1, 0, 5},     {3, 1, 0, 3},       {5, 1, 0, 5},     {9, 1, 0, 5},
        {1, 1, 0, 1},     {0, 0.4f, 0, 1},    {0, 0.6f, 0, 2},  {0, 0.74f, 0, 2},
        {0, 0.76f, 0, 3}, {0, 1e-6f, 0, 1},   {0, 0.99f, 0, 5}, {0, 1, 0.3f, 2},
        {0, 1, 0.2f, 3},  {0, 1, 0.12f, 5},   {0, 1, 1, 1},     {0, 0.76f, 0.3f, 2},
        {2, 0.66f, 0, 1}, // of two, 2/3 lies on the first
        {2, 0.68f, 0, 2}, {3, 0.9f, 0.4f, 2},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        stk_sampler_options options = off;
        options.top_k = cases[i].top_k;
        options.top_p = cases[i].top_p;
        options.min_p = cases[i].min_p;
        stk_sampler *sampler = open_sampler(options, 5);
        int32_t kept[] = {2, 0, 4, 1, 3}; // best first
        if ((options.top_k == 0 || options.top_k >= 5) && options.top_p >= 1)
            qsort(kept, cases[i].count, sizeof *kept, by_id);
        expect(sampler, logits, kept, cases[i].count);
        stk_sampler_close(&sampler);
    }
}

static void temperature_comes_last(void **state)
{
    (void)state;
    stk_sampler_options options = off;
    options.temperature = 2;
    options.top_p = 0.6f; // 0.5 + 0.25 at temperature 1, would take a third at temperature 2
    stk_sampler *sampler = open_sampler(options, 5);
    const stk_candidate *candidates;
    assert_int_equal(stk_sampler_distribution(sampler, logits_of_halves(), &candidates), 2);
    double ratio = (double)candidates[0].probability / (double)candidates[1].probability;
    assert_true(fabs(ratio - sqrt(2)) < 1e-5);
    stk_sampler_close(&sampler);
}

static void penalty(void **state)
{
    (void)state;
    stk_sampler_options options = off;
    options.temperature = 0;
    options.repeat_penalty = 2;
    options.repeat_last = 2;
    stk_sampler *sampler = open_sampler(options, 4);
    const float logits[] = {4, 3, 2.5f, -1};
    assert_int_equal(stk_sampler_sample(sampler, logits), 0);
    stk_sampler_accept(sampler, 0); // 2, 3, 2.5, -1
    assert_int_equal(stk_sampler_sample(sampler, logits), 1);
    stk_sampler_accept(sampler, 1); // 2, 1.5, 2.5, -1
    assert_int_equal(stk_sampler_sample(sampler, logits), 2);
    stk_sampler_accept(sampler, 1); // 0 has left the window; 1 counts once though it is there twice
    assert_int_equal(stk_sampler_sample(sampler, logits), 0);
    assert_int_equal(stk_sampler_sample(sampler, (float[]){-9, 3, 1.6f, -1}), 2);
    assert_int_equal(stk_sampler_sample(sampler, (float[]){-9, 3, 1.4f, -1}), 1);
    stk_sampler_accept(sampler, 3); // negative logits move away from zero
    assert_int_equal(stk_sampler_sample(sampler, (float[]){-1.5f, -9, -9, -1}), 0);
    stk_sampler_accept(sampler, -1);
    stk_sampler_accept(sampler, 4); // outside the vocabulary
    stk_sampler_reset(sampler);
    assert_int_equal(stk_sampler_sample(sampler, logits), 0);
    stk_sampler_close(&sampler);
}

// 20000 draws against the stated probabilities: chi-square with 4 degrees of freedom stays under
// 18.5 in 999 of 1000 cases, and the seed is fixed.
static void frequencies(void **state)
{
    (void)state;
    const double expected[] = {0.25, 0.0625, 0.5, 0.0625, 0.125};
    stk_sampler *sampler = open_sampler(off, 5);
    uint32_t counts[5] = {0}, draws = 20000;
    for (uint32_t i = 0; i < draws; i++)
        counts[stk_sampler_sample(sampler, logits_of_halves())]++;
    double chi = 0;
    for (int i = 0; i < 5; i++) {
        double mean = expected[i] * draws, miss = counts[i] - mean;
        chi += miss * miss / mean;
    }
    assert_true(chi < 18.5);
    stk_sampler_close(&sampler);
}

static void reproducible(void **state)
{
    (void)state;
    stk_sampler_options options = off;
    stk_sampler *a = open_sampler(options, 5), *b = open_sampler(options, 5);
    options.seed = 8;
    stk_sampler *c = open_sampler(options, 5);
    int32_t first[100];
    int differ = 0;
    for (int i = 0; i < 100; i++) {
        first[i] = stk_sampler_sample(a, logits_of_halves());
        assert_int_equal(first[i], stk_sampler_sample(b, logits_of_halves()));
        differ += first[i] != stk_sampler_sample(c, logits_of_halves());
    }
    assert_true(differ > 10);
    stk_sampler_reset(a);
    for (int i = 0; i < 100; i++)
        assert_int_equal(first[i], stk_sampler_sample(a, logits_of_halves()));
    stk_sampler_close(&a);
    stk_sampler_close(&b);
    stk_sampler_close(&c);
}

// The generator's reference values: splitmix64 from 0 is published; the rest pins it down.
static void random_numbers(void **state)
{
    (void)state;
    stk_random random = stk_random_seeded(0);
    assert_true(random.state[0] == UINT64_C(0xe220a8397b1dcdaf));
    assert_true(random.state[1] == UINT64_C(0x6e789e6aa1b965f4));
    assert_true(stk_random_u64(&random) == UINT64_C(0x99ec5f36cb75f2b4));
    for (int i = 0; i < 1000; i++) {
        double unit = stk_random_unit(&random);
        assert_true(unit >= 0 && unit < 1);
    }
}

static void extremes(void **state)
{
    (void)state;
    const float n = NAN, inf = INFINITY;
    static const float temperatures[] = {0, 1e-30f, 1, 100};
    for (int t = 0; t < 4; t++)
        for (int f = 0; f < 4; f++) {
            stk_sampler_options options = off;
            options.temperature = temperatures[t];
            options.top_k = f == 1 ? 3 : 0;
            options.top_p = f == 2 ? 0.9f : 1;
            options.min_p = f == 3 ? 0.1f : 0;
            options.repeat_penalty = 1.5f;
            stk_sampler *sampler = open_sampler(options, 5);
            for (int32_t i = 0; i < 5; i++)
                stk_sampler_accept(sampler, i);
            assert_int_equal(stk_sampler_sample(sampler, (float[]){n, n, n, n, n}), 0);
            assert_int_equal(stk_sampler_sample(sampler, (float[]){-inf, -inf, n, -inf, n}), 0);
            assert_int_equal(stk_sampler_sample(sampler, (float[]){n, -inf, -1e38f, n, n}), 2);
            assert_int_equal(stk_sampler_sample(sampler, (float[]){1, n, inf, 3e38f, -inf}), 2);
            int32_t id = stk_sampler_sample(sampler, (float[]){0, inf, n, inf, 0});
            assert_true(id == 1 || id == 3);
            id = stk_sampler_sample(sampler, (float[]){n, 1, 1, -inf, n});
            assert_true(id == 1 || id == 2);
            stk_sampler_close(&sampler);
        }
}

static int best_first(const void *a, const void *b)
{
    const stk_candidate *x = a, *y = b;
    if (x->probability != y->probability)
        return x->probability > y->probability ? -1 : 1;
    return x->id < y->id ? -1 : 1;
}

// The partial selection against a full sort, with many ties, peaked and flat.
static void full_vocabulary(void **state)
{
    (void)state;
    float *logits = malloc(QWEN_VOCAB * sizeof *logits);
    stk_candidate *sorted = malloc(QWEN_VOCAB * sizeof *sorted);
    assert_non_null(logits);
    assert_non_null(sorted);
    stk_random random = stk_random_seeded(3);
    for (int flat = 0; flat < 2; flat++) {
        double mass = 0, sum = 0;
        for (int32_t i = 0; i < QWEN_VOCAB; i++) {
            logits[i] = floorf((float)stk_random_unit(&random) * 512) / (flat ? 512 : 16);
            sorted[i] = (stk_candidate){i, logits[i]};
            mass += exp((double)logits[i]);
        }
        qsort(sorted, QWEN_VOCAB, sizeof *sorted, best_first);
        uint32_t top_p_count = 0;
        while (sum < (double)0.9f * mass)
            sum += exp((double)sorted[top_p_count++].probability);

        for (int top_p = 0; top_p < 2; top_p++) {
            stk_sampler_options options = off;
            options.top_k = top_p ? 0 : 1000;
            options.top_p = top_p ? 0.9f : 1;
            stk_sampler *sampler = open_sampler(options, QWEN_VOCAB);
            const stk_candidate *candidates;
            uint32_t count = stk_sampler_distribution(sampler, logits, &candidates);
            // single precision may move the cut by a hair
            assert_in_range(count, top_p ? top_p_count - 5 : 1000, top_p ? top_p_count + 5 : 1000);
            for (uint32_t i = 0; i < count; i++)
                assert_int_equal(candidates[i].id, sorted[i].id);
            stk_sampler_close(&sampler);
        }
    }
    free(sorted);
    free(logits);
}

// Another sampler draws what this one would have, from any moment on.
static void saved_and_restored(void **state)
{
    (void)state;
    enum { VOCAB = 40, TOKENS = 60 };
    stk_sampler_options options = off;
    options.repeat_penalty = 1.5f;
    options.repeat_last = 7;
    stk_sampler *here = open_sampler(options, VOCAB), *skips = open_sampler(options, VOCAB);
    options.repeat_last = STK_SAMPLER_WINDOW_MAX;
    options.temperature = 0;
    stk_sampler *there = open_sampler(options, VOCAB);
    stk_random random = stk_random_seeded(3);
    stk_sampler_state saved;
    for (int i = 0; i < TOKENS; i++) {
        float logits[VOCAB];
        for (int k = 0; k < VOCAB; k++)
            logits[k] = (float)stk_random_unit(&random);
        assert_true(stk_sampler_save(here, &saved));
        assert_int_equal(stk_sampler_restore(there, &saved), STK_OK);
        int32_t token = stk_sampler_sample(here, logits);
        assert_int_equal(stk_sampler_sample(there, logits), token);
        stk_sampler_skip(skips);
        stk_sampler_accept(here, token);
    }
    assert_true(stk_sampler_random(here) == stk_sampler_random(skips));
    stk_sampler_state bad = saved;
    bad.options.top_p = NAN;
    assert_int_equal(stk_sampler_restore(there, &bad), STK_INVALID);
    bad = saved;
    bad.window[3] = VOCAB;
    assert_int_equal(stk_sampler_restore(there, &bad), STK_INVALID);
    bad = saved;
    bad.window_count = bad.options.repeat_last + 1;
    assert_int_equal(stk_sampler_restore(there, &bad), STK_INVALID);
    bad = saved;
    bad.options.repeat_last = STK_SAMPLER_WINDOW_MAX + 1;
    assert_int_equal(stk_sampler_restore(there, &bad), STK_INVALID);
    stk_sampler_close(&skips);
    options.repeat_last = STK_SAMPLER_WINDOW_MAX + 1; // looks back too far
    skips = open_sampler(options, VOCAB);
    assert_false(stk_sampler_save(skips, &saved));
    stk_sampler_close(&skips);
    stk_sampler_close(&here);
    stk_sampler_close(&there);
}

static void draws_from_given(void **state)
{
    (void)state;
    stk_sampler *sampler = open_sampler(off, 5);
    const stk_candidate given[] = {{9, 0}, {4, 3}, {2, 0}, {6, 1}, {8, 0}}; // unnormalised
    int fours = 0;
    for (int i = 0; i < 4000; i++) {
        int32_t id = stk_sampler_draw(sampler, given, 5);
        assert_true(id == 4 || id == 6);
        fours += id == 4;
    }
    assert_in_range(fours, 2900, 3100);
    stk_sampler_close(&sampler);
}

static void options(void **state)
{
    (void)state;
    stk_sampler_options o = {0};
    stk_options_set_defaults(&stk_sampler_option_table, &o);
    stk_sampler *sampler = open_sampler(o, 10);
    stk_sampler_close(&sampler);
    stk_sampler_close(&sampler);
    const stk_sampler_options wrong[] = {
        {.temperature = -1, .top_p = 1, .repeat_penalty = 1},
        {.temperature = NAN, .top_p = 1, .repeat_penalty = 1},
        {.temperature = INFINITY, .top_p = 1, .repeat_penalty = 1},
        {.temperature = 1, .top_p = 0, .repeat_penalty = 1},
        {.temperature = 1, .top_p = 1.5f, .repeat_penalty = 1},
        {.temperature = 1, .top_p = 1, .min_p = NAN, .repeat_penalty = 1},
        {.temperature = 1, .top_p = 1, .repeat_penalty = 0},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        assert_int_equal(stk_sampler_open(&wrong[i], 10, &sampler), STK_INVALID);
    assert_int_equal(stk_sampler_open(&off, 0, &sampler), STK_INVALID);
    assert_null(sampler);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(greedy),          cmocka_unit_test(filters),
        cmocka_unit_test(penalty),         cmocka_unit_test(temperature_comes_last),
        cmocka_unit_test(frequencies),     cmocka_unit_test(reproducible),
        cmocka_unit_test(random_numbers),  cmocka_unit_test(extremes),
        cmocka_unit_test(full_vocabulary), cmocka_unit_test(draws_from_given),
        cmocka_unit_test(options),         cmocka_unit_test(saved_and_restored),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
