// The untyped ops of every instruction set against cpu/ref, bit for bit.
#include "tests/kernel/kernel_test.h"

#include <math.h>

#include "base/half.h"
#include "cpu/cpu.h"
#include "cpu/math.h"
#include "cpu/ref/ref.h"

static uint64_t seed = 11;

enum { N = 1536, HEADS_MAX = STK_ATTEND_QUERIES_MAX, POSITIONS = STK_SEGMENT_TOKENS };

static void fill(float *x, size_t n, float scale)
{
    for (size_t i = 0; i < n; i++)
        x[i] = test_float(&seed) * scale;
}

static void check_quantize(const stk_cpu *cpu)
{
    static const float scales[] = {1, 1e-3f, 1e6f, 1e-24f, 1e-30f, 0};
    float *x = test_alloc(N * 4), d[2][N / 32];
    int8_t q[2][N];
    int32_t sum[2][N / 32];
    for (size_t s = 0; s < sizeof scales / sizeof *scales; s++) {
        fill(x, N, scales[s]);
        x[5] = 0.5f * scales[s]; // ties appear with round numbers
        cpu->quantize(x, N, q[0], d[0], sum[0]);
        stk_quantize_ref(x, N, q[1], d[1], sum[1]);
        assert_memory_equal(q[0], q[1], sizeof q[0]);
        assert_memory_equal(d[0], d[1], sizeof d[0]);
        assert_memory_equal(sum[0], sum[1], sizeof sum[0]);
    }
    free(x);
}

static void check_norm_and_sums(const stk_cpu *cpu)
{
    float *x = test_alloc(N * 4), *w = test_alloc(N * 4), *parts = test_alloc(4 * N * 4);
    float *got = test_alloc(N * 4), *want = test_alloc(N * 4);
    uint16_t h[2][N];
    fill(x, N, 3);
    fill(w, N, 1);
    fill(parts, 4 * N, 1);
    cpu->rmsnorm(x, w, 1e-6f, N, got);
    stk_rmsnorm_ref(x, w, 1e-6f, N, want);
    assert_memory_equal(got, want, N * 4);
    cpu->sum_parts(parts, N, N, got);
    stk_sum_parts_ref(parts, N, N, want);
    assert_memory_equal(got, want, N * 4);
    const float *ys[3] = {parts, parts + N, parts + 2 * N};
    const float weights[3] = {0.5f, 0.3f, 0.2f};
    memcpy(got, x, N * 4);
    memcpy(want, x, N * 4);
    cpu->combine(got, ys, weights, 3, N);
    stk_combine_ref(want, ys, weights, 3, N);
    assert_memory_equal(got, want, N * 4);
    fill(x, N, 1e5f);
    fill(x, N / 2, 1e-6f);
    cpu->to_half(x, N - 3, h[0]);
    stk_to_half_ref(x, N - 3, h[1]);
    assert_memory_equal(h[0], h[1], (N - 3) * 2);
    free(x);
    free(w);
    free(parts);
    free(got);
    free(want);
}

// Some queries that see parts of [begin, end), the same ones if step is 0; two segments, merged.
static void check_attend(const stk_cpu *cpu, uint32_t heads, uint32_t dim, uint32_t begin,
                         uint32_t end, uint32_t step, float range)
{
    float *q = test_alloc(heads * dim * 4), *o = test_alloc(4 * heads * dim * 4);
    uint16_t *k = test_alloc(POSITIONS * dim * 2), *v = test_alloc(POSITIONS * dim * 2);
    fill(q, heads * dim, range);
    for (size_t i = 0; i < POSITIONS * dim; i++) {
        k[i] = stk_half_from_float(test_float(&seed) * range);
        v[i] = stk_half_from_float(test_float(&seed));
    }
    stk_attend_query s[4][HEADS_MAX];
    for (uint32_t h = 0; h < heads; h++)
        for (int i = 0; i < 4; i++) {
            s[i][h] = (stk_attend_query){q + h * dim, begin, end, {NULL, 0, 0}};
            s[i][h].state.o = o + ((size_t)i * heads + h) * dim;
            if (end - begin > step * heads) { // pairs of heads see the same
                s[i][h].begin += h / 4 * step;
                s[i][h].end -= (heads - h) / 2 * step;
            }
        }
    float scale = 1.0f / sqrtf((float)dim);
    const stk_attend_segment first = {k, v, v}, second = {v, k, NULL};
    cpu->attend(s[0], heads, dim, &first, scale);
    stk_attend_ref(s[1], heads, dim, &first, scale);
    cpu->attend(s[2], heads, dim, &second, scale);
    stk_attend_ref(s[3], heads, dim, &second, scale);
    for (uint32_t h = 0; h < heads; h++) {
        for (int i = 0; i < 4; i += 2) {
            assert_memory_equal(&s[i][h].state.m, &s[i + 1][h].state.m, 4);
            assert_memory_equal(&s[i][h].state.l, &s[i + 1][h].state.l, 4);
            assert_memory_equal(s[i][h].state.o, s[i + 1][h].state.o, dim * 4);
        }
        cpu->attend_merge(&s[0][h].state, &s[2][h].state, dim);
        stk_attend_merge_ref(&s[1][h].state, &s[3][h].state, dim);
        assert_memory_equal(&s[0][h].state.l, &s[1][h].state.l, 4);
        assert_memory_equal(s[0][h].state.o, s[1][h].state.o, dim * 4);
    }
    free(q);
    free(o);
    free(k);
    free(v);
}

static void test_ops_equal_reference(void **state)
{
    (void)state;
    for (size_t i = 0; i < TEST_MASK_COUNT; i++) {
        stk_cpu cpu;
        if (stk_cpu_init(test_masks_all[i], NULL, &cpu) != STK_OK) {
            print_message("not here: %s\n", test_masks_all[i]);
            continue;
        }
        for (int round = 0; round < 20; round++) {
            check_quantize(&cpu);
            check_norm_and_sums(&cpu);
        }
        static const uint32_t ranges[][2] = {{0, 256}, {0, 1},   {255, 256},
                                             {3, 17},  {16, 32}, {100, 201}};
        static const uint32_t dims[] = {64, 128, 80, 16, 256, STK_HEAD_DIM_MAX};
        for (size_t r = 0; r < sizeof ranges / sizeof *ranges; r++)
            for (size_t d = 0; d < sizeof dims / sizeof *dims; d++) {
                uint32_t begin = ranges[r][0], end = ranges[r][1];
                for (uint32_t heads = 1; heads <= 9; heads++)
                    check_attend(&cpu, heads, dims[d], begin, end, 0, heads % 2 ? 1 : 20);
                check_attend(&cpu, 28, dims[d], begin, end, 0, 1); // a prompt's rows
                check_attend(&cpu, HEADS_MAX, dims[d], begin, end, 0, 20);
                check_attend(&cpu, 7, dims[d], begin, end, 0, 20);
                check_attend(&cpu, 7, dims[d], begin, end, 1, 1);
                check_attend(&cpu, 7, dims[d], begin, end, 13, 20);
            }
    }
}

// The law's pieces mean what their names say.
static void test_law_is_accurate(void **state)
{
    (void)state;
    for (int i = 0; i < 100000; i++) {
        float x = test_float(&seed) * 80;
        double want = exp((double)x);
        assert_true(fabs((double)stk_exp(x) - want) <= 2e-7 * want);
        float m = ldexpf(1 + fabsf(test_float(&seed)), (int)(test_random(&seed) % 120) - 60);
        assert_true(fabs((double)stk_quantize_factor(m) * (double)m / 127.0 - 1) < 3e-7);
    }
    assert_true(stk_exp(-88) == 0 && stk_exp(-INFINITY) == 0 && stk_exp(1000) < INFINITY);
    float x[32], d;
    int8_t q[32];
    int32_t sum;
    for (int i = 0; i < 32; i++)
        x[i] = (float)(i - 16);
    x[0] = 31.75f; // the scale becomes a quarter
    stk_quantize_ref(x, 32, q, &d, &sum);
    assert_int_equal(q[0], 127);
    assert_int_equal(q[17], 4);
    assert_true(fabsf(d - 0.25f) < 1e-7f);
}

int main(int argc, char **argv)
{
    if (!test_masks_here(argc, argv))
        return 1;
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_ops_equal_reference),
                                       cmocka_unit_test(test_law_is_accurate)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
