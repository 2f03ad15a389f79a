// Products, quantisation and combining (test_vulkan_dense.c and test_vulkan_experts.c have the
// other shaders) against cpu/ref: to the bit where
// docs/arithmetic.md says so, and nothing written outside the result.
#include "tests/vulkan/shader_run.h"

#include "engine/engine_impl.h"

static void test_quantize(void **state)
{
    (void)state;
    static const uint32_t blocks[] = {1, 3, 4, 48};
    static const float scales[] = {1, 1e-3f, 1e6f, 1e-24f, 1e-30f, 0};
    for (size_t b = 0; b < 4; b++)
        for (size_t s = 0; s < 6; s++) {
            uint32_t n = blocks[b] * 32;
            float x[48 * 32], d[2][48];
            int8_t q[2][48 * 32];
            int32_t sum[2][48];
            for (uint32_t i = 0; i < n; i++)
                x[i] = i % 7 == 0 ? 0.5f * scales[s] : test_float(&seed) * scales[s];
            const stk_vk_run_buffer buffers[] = {{x, n * 4, false},
                                                 {q[0], n, true},
                                                 {d[0], blocks[b] * 4, true},
                                                 {sum[0], blocks[b] * 4, true}};
            run(STK_VK_SHADER_quantize_q8, buffers, 4, &blocks[b], 1, (blocks[b] + 3) / 4, 1);
            stk_quantize_ref(x, n, q[1], d[1], sum[1]);
            assert_memory_equal(q[0], q[1], n);
            assert_memory_equal(d[0], d[1], blocks[b] * 4);
            assert_memory_equal(sum[0], sum[1], blocks[b] * 4);
        }
}

// Which of the shaders for X16 matrices.
typedef enum x16 { X16_ROW, X16_BATCH, X16_TILE } x16;

// Rows and activation rows past the end are left alone.
static void check_x16(const stk_type *type, x16 kind, uint32_t rows, uint32_t cols, uint32_t count,
                      style s)
{
    static const stk_vk_shader shaders[][2] = {
        [X16_ROW] = {STK_VK_SHADER_matmul_x16_q4_0, STK_VK_SHADER_matmul_x16_q8_0},
        [X16_BATCH] = {STK_VK_SHADER_matmul_x16_q4_0_batch, STK_VK_SHADER_matmul_x16_q8_0_batch},
        [X16_TILE] = {STK_VK_SHADER_matmul_x16_q4_0_tile, STK_VK_SHADER_matmul_x16_q8_0_tile}};
    stk_vk_shader shader = shaders[kind][type == &stk_type_q8_0];
    uint8_t *source = random_rows(type, 0, rows, cols, s);
    size_t bytes = stk_dense_bytes(type, STK_FORMAT_X16, rows, cols);
    uint8_t *packed = test_alloc(bytes);
    stk_dense_pack(type, STK_FORMAT_X16, rows, cols, 0, rows, source, packed);
    stk_matrix m = {type, STK_FORMAT_X16, rows, cols, packed};
    act_rows a = random_acts(cols, count, s);
    uint32_t stride = rows + 3, batch[2] = {count, 0};
    size_t size = (size_t)count * stride;
    float *got = result_alloc(size), *want = test_alloc(size * 4);
    const stk_vk_run_buffer buffers[] = {{packed, bytes, false},
                                         {a.q, (size_t)cols * count, false},
                                         {a.d, (size_t)cols / 8 * count, false},
                                         {a.sum, (size_t)cols / 8 * count, false},
                                         {got, (size + CANARIES) * 4, true},
                                         {batch, sizeof batch, false}};
    const uint32_t constants[] = {rows, cols, count, stride},
                   tile_constants[] = {rows, cols, stride};
    if (kind == X16_TILE)
        run(shader, buffers, 6, tile_constants, 3, (rows + 31) / 32, (count + 31) / 32);
    else
        run(shader, buffers, 5, constants, 4, (rows + 15) / 16,
            kind == X16_BATCH ? (count + 7) / 8 : count);
    for (uint32_t t = 0; t < count; t++) {
        stk_act act = act_of(&a, t);
        stk_matmul_ref(&m, 0, rows, &act, 1, want, stride);
        expect_floats(stk_vk_shader_name(shader), got + (size_t)t * stride, want, rows);
        expect_untouched(got + (size_t)t * stride + rows, stride - rows);
    }
    expect_canaries(got, size);
    free(got);
    free(want);
    free_acts(&a);
    free(packed);
    free(source);
}

static void test_matmul_x16(void **state)
{
    (void)state;
    static const uint32_t widths[] = {32, 96, 128, 256, 288, 416, 512, 1536};
    for (size_t w = 0; w < sizeof widths / sizeof *widths; w++)
        for (style s = 0; s < STYLE_COUNT; s++)
            for (int q8 = 0; q8 < 2; q8++) {
                const stk_type *type = q8 ? &stk_type_q8_0 : &stk_type_q4_0;
                check_x16(type, X16_ROW, 16, widths[w], 1, s);
                check_x16(type, X16_ROW, 37, widths[w], 2, s);
                check_x16(type, X16_BATCH, 48, widths[w], 3, s);
                check_x16(type, X16_BATCH, 21, widths[w], 19, s);
                check_x16(type, X16_TILE, 16, widths[w], 1, s);
                check_x16(type, X16_TILE, 53, widths[w], 35, s);
            }
}

static void check_rows(const stk_type *type, stk_vk_shader shader, uint32_t rows_per_group,
                       uint32_t rows, uint32_t cols, style s)
{
    enum { COUNT = 2 };
    bool quantized = type->unpack32 != NULL, has_minima = type->block_bytes < 208;
    uint8_t *source = random_rows(type, has_minima ? 0 : 208, rows, cols, s);
    size_t bytes = rows * stk_type_row_bytes(type, cols);
    stk_matrix m = {type, STK_FORMAT_ROWS, rows, cols, source};
    for (size_t b = 0; quantized && has_minima && b < bytes; b += type->block_bytes)
        memcpy(source + b + 2, source + (b * 7 / type->block_bytes % 5) * type->block_bytes, 2);
    act_rows a = random_acts(cols, COUNT, s);
    float *got = result_alloc(COUNT * rows), *want = test_alloc(rows * 4);
    const stk_vk_run_buffer result = {got, (COUNT * rows + CANARIES) * 4, true};
    const uint32_t constants[] = {rows, cols, rows}, constants_sum[] = {rows, cols, COUNT, rows};
    uint32_t groups = (rows + rows_per_group - 1) / rows_per_group;
    if (quantized && has_minima) {
        const stk_vk_run_buffer buffers[] = {{source, bytes, false},
                                             {a.q, (size_t)cols * COUNT, false},
                                             {a.d, (size_t)cols / 8 * COUNT, false},
                                             {a.sum, (size_t)cols / 8 * COUNT, false},
                                             result};
        run(shader, buffers, 5, constants_sum, 4, groups, COUNT);
    } else if (quantized) {
        const stk_vk_run_buffer buffers[] = {{source, bytes, false},
                                             {a.q, (size_t)cols * COUNT, false},
                                             {a.d, (size_t)cols / 8 * COUNT, false},
                                             result};
        run(shader, buffers, 4, constants, 3, groups, COUNT);
    } else {
        const stk_vk_run_buffer buffers[] = {
            {source, bytes, false}, {a.x, (size_t)cols * COUNT * 4, false}, result};
        run(shader, buffers, 3, constants, 3, groups, COUNT);
    }
    for (uint32_t t = 0; t < COUNT; t++) {
        stk_act act = act_of(&a, t);
        stk_matmul_ref(&m, 0, rows, &act, 1, want, rows);
        expect_floats(stk_vk_shader_name(shader), got + t * rows, want, rows);
    }
    expect_canaries(got, COUNT * rows);
    free(got);
    free(want);
    free_acts(&a);
    free(source);
}

static void test_matmul_rows(void **state)
{
    (void)state;
    static const uint32_t widths[] = {2, 32, 50, 96, 1536};
    for (size_t w = 0; w < sizeof widths / sizeof *widths; w++)
        for (style s = 0; s < STYLE_COUNT; s++) {
            check_rows(&stk_type_f32, STK_VK_SHADER_matmul_f32, 8, 21, widths[w], s);
            check_rows(&stk_type_f16, STK_VK_SHADER_matmul_f16, 8, 21, widths[w], s);
            check_rows(&stk_type_bf16, STK_VK_SHADER_matmul_bf16, 8, 21, widths[w], s);
        }
    for (uint32_t cols = 256; cols <= 1536; cols += 256)
        for (style s = 0; s < STYLE_COUNT; s++) {
            check_rows(&stk_type_q6_k, STK_VK_SHADER_matmul_q6_k, 16, 37, cols, s);
            check_rows(&stk_type_q4_k, STK_VK_SHADER_matmul_q4_k, 16, 37, cols, s);
            check_rows(&stk_type_q5_k, STK_VK_SHADER_matmul_q5_k, 16, 37, cols, s);
        }
}

static void test_combine(void **state)
{
    (void)state;
    enum { WIDTH = 200, ROWS = 3, USED = 4 };
    float x[ROWS * WIDTH], want[ROWS * WIDTH], y[ROWS * USED * WIDTH], weights[ROWS * USED];
    random_x(x, ROWS * WIDTH, STYLE_RANDOM);
    random_x(y, ROWS * USED * WIDTH, STYLE_RANDOM);
    random_x(weights, ROWS * USED, STYLE_RANDOM);
    memcpy(want, x, sizeof x);
    const stk_vk_run_buffer buffers[] = {
        {x, sizeof x, true}, {y, sizeof y, false}, {weights, sizeof weights, false}};
    const uint32_t constants[] = {WIDTH, USED};
    run(STK_VK_SHADER_combine, buffers, 3, constants, 2, (WIDTH + 127) / 128, ROWS);
    for (uint32_t r = 0; r < ROWS; r++) {
        const float *ys[USED];
        for (uint32_t k = 0; k < USED; k++)
            ys[k] = y + (r * USED + k) * WIDTH;
        stk_combine_ref(want + r * WIDTH, ys, weights + r * USED, USED, WIDTH);
    }
    expect_floats("combine", x, want, ROWS * WIDTH);
}

// nans: how many logits are none; what they weigh is not said.
static void check_route(uint32_t experts, uint32_t used, bool softmax, float scale, uint32_t nans)
{
    enum { ROWS = 3, EXPERTS = 1024, USED = 32 };
    static float logits[ROWS * (EXPERTS + 3)], weights[ROWS * USED];
    static uint32_t slots[EXPERTS][2], pairs[ROWS * USED][4], host[ROWS * USED][2];
    uint32_t stride = experts + 3;
    for (uint32_t i = 0; i < ROWS * stride; i++)
        logits[i] = i % 5 == 1 ? scale / 3 : test_float(&seed) * scale; // some are equal
    for (uint32_t i = 0; i < nans; i++)
        logits[(stride / 2 + 7 * i) % (ROWS * stride)] = NAN;
    for (uint32_t e = 0; e < experts; e++)
        for (int i = 0; i < 2; i++)
            slots[e][i] = (uint32_t)test_random(&seed);
    const stk_vk_run_buffer buffers[] = {{logits, ROWS * stride * 4, false},
                                         {slots, experts * 8, false},
                                         {pairs, ROWS * used * 16, true},
                                         {weights, ROWS * used * 4, true},
                                         {host, ROWS * used * 8, true}};
    const uint32_t constants[] = {stride, experts, used, softmax};
    run(STK_VK_SHADER_route, buffers, 5, constants, 4, ROWS, 1);
    for (uint32_t r = 0; r < ROWS; r++) {
        uint32_t chosen[USED];
        float want[USED];
        stk_choose_experts(logits + r * stride, experts, used, chosen);
        stk_weigh_experts(logits + r * stride, chosen, used,
                          softmax ? STK_GATING_SOFTMAX : STK_GATING_SIGMOID, want);
        if (nans == 0)
            expect_floats("route", weights + r * used, want, used);
        for (uint32_t k = 0; k < used; k++) {
            const uint32_t *pair = pairs[r * used + k], *slot = slots[chosen[k]];
            assert_int_equal(host[r * used + k][0], chosen[k]);
            assert_memory_equal(&host[r * used + k][1], &weights[r * used + k], 4);
            assert_memory_equal(pair, slot, 8);
            assert_int_equal(pair[2], r);
            assert_int_equal(pair[3], 1);
        }
    }
}

static void test_route(void **state)
{
    (void)state;
    static const float scales[] = {1, 1e-6f, 8, 50};
    for (int softmax = 0; softmax < 2; softmax++)
        for (size_t s = 0; s < sizeof scales / sizeof *scales; s++) {
            check_route(8, 8, softmax, scales[s], 0);
            check_route(37, 5, softmax, scales[s], 0);
            check_route(37, 5, softmax, scales[s], 9);
            check_route(8, 4, softmax, scales[s], 33);
            for (int again = 0; again < 6; again++)
                check_route(64, 32, softmax, scales[s], 0);
            check_route(1024, 32, softmax, scales[s], 0);
        }
}

static int run_round(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_quantize),    cmocka_unit_test(test_matmul_x16),
        cmocka_unit_test(test_matmul_rows), cmocka_unit_test(test_combine),
        cmocka_unit_test(test_route),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

int main(int argc, char **argv)
{
    return run_on_devices(argc, argv, run_round);
}
