// Every shader but the expert's (test_vulkan_experts.c) against cpu/ref: to the bit where
// docs/arithmetic.md says so, and nothing written outside the result.
#include "tests/vulkan/vulkan_test.h"

#include "vulkan/run.h"

enum { CANARIES = 8 };

static float *result_alloc(size_t n)
{
    float *y = test_alloc((n + CANARIES) * 4);
    memset(y, 0x5c, (n + CANARIES) * 4);
    return y;
}

static void expect_untouched(const float *y, size_t n)
{
    for (size_t i = 0; i < n * 4; i++)
        assert_int_equal(((const uint8_t *)y)[i], 0x5c);
}

static void expect_canaries(const float *y, size_t n)
{
    expect_untouched(y + n, CANARIES);
}

static void run(stk_vk_shader shader, const stk_vk_run_buffer *buffers, uint32_t buffer_count,
                const uint32_t *constants, uint32_t constant_count, uint32_t x, uint32_t y)
{
    const uint32_t groups[3] = {x, y, 1};
    assert_int_equal(
        stk_vk_run(vk, shader, buffers, buffer_count, constants, constant_count, groups), STK_OK);
}

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

static void check_x16(const stk_type *type, bool batch, uint32_t rows, uint32_t cols,
                      uint32_t count, style s)
{
    uint8_t *source = random_rows(type, 0, rows, cols, s);
    size_t bytes = stk_dense_bytes(type, STK_FORMAT_X16, rows, cols);
    uint8_t *packed = test_alloc(bytes);
    stk_dense_pack(type, STK_FORMAT_X16, rows, cols, 0, rows, source, packed);
    stk_matrix m = {type, STK_FORMAT_X16, rows, cols, packed};
    act_rows a = random_acts(cols, count, s);
    uint32_t stride = rows + 3;
    size_t size = (size_t)count * stride;
    float *got = result_alloc(size), *want = test_alloc(size * 4);
    const stk_vk_run_buffer buffers[] = {{packed, bytes, false},
                                         {a.q, (size_t)cols * count, false},
                                         {a.d, (size_t)cols / 8 * count, false},
                                         {a.sum, (size_t)cols / 8 * count, false},
                                         {got, (size + CANARIES) * 4, true}};
    const uint32_t constants[] = {rows, cols, count, stride};
    stk_vk_shader q4 = batch ? STK_VK_SHADER_matmul_x16_q4_0_batch : STK_VK_SHADER_matmul_x16_q4_0;
    stk_vk_shader q8 = batch ? STK_VK_SHADER_matmul_x16_q8_0_batch : STK_VK_SHADER_matmul_x16_q8_0;
    stk_vk_shader shader = type == &stk_type_q4_0 ? q4 : q8;
    run(shader, buffers, 5, constants, 4, (rows + 15) / 16, batch ? (count + 7) / 8 : count);
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
                check_x16(type, false, 16, widths[w], 1, s);
                check_x16(type, false, 37, widths[w], 2, s);
                check_x16(type, true, 48, widths[w], 3, s);
                check_x16(type, true, 21, widths[w], 19, s);
            }
}

static void check_rows(const stk_type *type, stk_vk_shader shader, uint32_t rows_per_group,
                       uint32_t rows, uint32_t cols, style s)
{
    enum { COUNT = 2 };
    bool quantized = type->unpack32 != NULL;
    uint8_t *source = random_rows(type, 208, rows, cols, s);
    size_t bytes = rows * stk_type_row_bytes(type, cols);
    stk_matrix m = {type, STK_FORMAT_ROWS, rows, cols, source};
    act_rows a = random_acts(cols, COUNT, s);
    float *got = result_alloc(COUNT * rows), *want = test_alloc(rows * 4);
    const stk_vk_run_buffer result = {got, (COUNT * rows + CANARIES) * 4, true};
    const uint32_t constants[] = {rows, cols, rows};
    uint32_t groups = (rows + rows_per_group - 1) / rows_per_group;
    if (quantized) {
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
        for (style s = 0; s < STYLE_COUNT; s++)
            check_rows(&stk_type_q6_k, STK_VK_SHADER_matmul_q6_k, 16, 37, cols, s);
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

// Division and square root are the device's: within a few units in the last place.
static void test_rmsnorm(void **state)
{
    (void)state;
    enum { N = 1536, ROWS = 3 };
    float *x = test_alloc(ROWS * N * 4), *w = test_alloc(N * 4), *got = result_alloc(ROWS * N);
    float *want = test_alloc(N * 4), eps = 1e-6f;
    random_x(x, ROWS * N, STYLE_RANDOM);
    random_x(w, N, STYLE_RANDOM);
    const stk_vk_run_buffer buffers[] = {
        {x, ROWS * N * 4, false}, {w, N * 4, false}, {got, (ROWS * N + CANARIES) * 4, true}};
    const uint32_t constants[] = {N, stk_float_bits(eps)};
    run(STK_VK_SHADER_rmsnorm, buffers, 3, constants, 2, ROWS, 1);
    for (uint32_t r = 0; r < ROWS; r++) {
        stk_rmsnorm_ref(x + r * N, w, eps, N, want);
        expect_near("rmsnorm", got + r * N, want, N, 1e-6);
    }
    expect_canaries(got, ROWS * N);
    free(x);
    free(w);
    free(got);
    free(want);
}

static void test_rope_and_append(void **state)
{
    (void)state;
    enum { DIM = 80, TURNED = 32, HEADS = 3, ROWS = 2, CAPACITY = 8 };
    float x[ROWS * HEADS * DIM], want[ROWS * HEADS * DIM], angles[ROWS * 2 * TURNED];
    uint32_t positions[ROWS] = {7, 8};
    uint16_t cache[HEADS * CAPACITY * DIM], want_cache[HEADS * CAPACITY * DIM];
    random_x(x, ROWS * HEADS * DIM, STYLE_RANDOM);
    random_x(angles, ROWS * 2 * TURNED, STYLE_RANDOM);
    memcpy(want, x, sizeof x);
    for (uint32_t r = 0; r < ROWS; r++)
        for (uint32_t h = 0; h < HEADS; h++)
            for (uint32_t i = 0; i < TURNED; i++) {
                float *v = want + (r * HEADS + h) * DIM, a = v[i], b = v[i + TURNED];
                float c = angles[r * 2 * TURNED + i], s = angles[r * 2 * TURNED + TURNED + i];
                float ac = a * c, bs = b * s, bc = b * c, as = a * s;
                v[i] = ac - bs;
                v[i + TURNED] = bc + as;
            }
    const stk_vk_run_buffer rope[] = {{x, sizeof x, true}, {angles, sizeof angles, false}};
    const uint32_t rope_constants[] = {DIM, TURNED};
    run(STK_VK_SHADER_rope, rope, 2, rope_constants, 2, HEADS, ROWS);
    expect_floats("rope", x, want, ROWS * HEADS * DIM);

    x[0] = 1e-6f; // a denormal half, an overflow and a tie
    x[1] = 1e6f;
    x[2] = 1.00048828125f;
    memset(cache, 0x5c, sizeof cache);
    memset(want_cache, 0x5c, sizeof cache);
    for (uint32_t r = 0; r < ROWS; r++)
        for (uint32_t h = 0; h < HEADS; h++)
            stk_to_half_ref(x + (r * HEADS + h) * DIM, DIM,
                            want_cache + (h * CAPACITY + positions[r] % CAPACITY) * DIM);
    const stk_vk_run_buffer append[] = {
        {x, sizeof x, false}, {positions, sizeof positions, false}, {cache, sizeof cache, true}};
    const uint32_t append_constants[] = {DIM, CAPACITY};
    run(STK_VK_SHADER_kv_append, append, 3, append_constants, 2, HEADS, ROWS);
    assert_memory_equal(cache, want_cache, sizeof cache);
}

// Positions [begin, end) in a ring of `capacity`. Fused or not and the device's division: 1e-5.
static void check_attention(uint32_t dim, uint32_t capacity, uint32_t begin, uint32_t end)
{
    enum { HEADS = 6, PER_KV = 3 };
    uint32_t first = begin / 256, segments = (end + 255) / 256 - first;
    size_t cached = (size_t)(HEADS / PER_KV) * capacity * dim, stride = dim + 2;
    float *q = test_alloc(HEADS * dim * 4), *got = result_alloc(HEADS * dim);
    float *want = test_alloc(HEADS * dim * 4), *o = test_alloc(dim * 4);
    float *states = test_alloc(HEADS * segments * stride * 4);
    uint16_t *k = test_alloc(cached * 2), *v = test_alloc(cached * 2);
    float scale = 1.0f / sqrtf((float)dim);
    random_x(q, HEADS * dim, STYLE_RANDOM);
    for (size_t i = 0; i < cached; i++) {
        k[i] = stk_half_from_float(test_float(&seed) * 4);
        v[i] = stk_half_from_float(test_float(&seed));
    }
    for (uint32_t h = 0; h < HEADS; h++) {
        stk_attend_state total = {.o = want + h * dim}, part = {.o = o};
        for (uint32_t s = 0; s < segments; s++) {
            uint32_t at = (first + s) * 256;
            size_t base = ((size_t)(h / PER_KV) * capacity + at % capacity) * dim;
            uint32_t from = begin > at ? begin - at : 0, to = end - at < 256 ? end - at : 256;
            stk_attend_query query = {q + h * dim, from, to, s == 0 ? total : part};
            stk_attend_ref(&query, 1, dim, k + base, v + base, scale);
            *(s == 0 ? &total : &part) = query.state;
            if (s != 0)
                stk_attend_merge_ref(&total, &part, dim);
        }
        for (uint32_t i = 0; i < dim; i++)
            total.o[i] /= total.l;
    }
    const stk_vk_run_buffer segment[] = {{q, HEADS * dim * 4, false},
                                         {k, cached * 2, false},
                                         {v, cached * 2, false},
                                         {states, HEADS * segments * stride * 4, true}};
    const uint32_t constants[] = {dim, PER_KV, capacity, begin, end, stk_float_bits(scale)};
    run(STK_VK_SHADER_attend_segment, segment, 4, constants, 6, HEADS, segments);
    const stk_vk_run_buffer merge[] = {{states, HEADS * segments * stride * 4, false},
                                       {got, (HEADS * dim + CANARIES) * 4, true}};
    const uint32_t merge_constants[] = {dim, segments};
    run(STK_VK_SHADER_attend_merge, merge, 2, merge_constants, 2, HEADS, 1);
    expect_near("attention", got, want, HEADS * dim, 1e-5);
    expect_canaries(got, HEADS * dim);
    free(q);
    free(got);
    free(want);
    free(o);
    free(states);
    free(k);
    free(v);
}

static void test_attention(void **state)
{
    (void)state;
    check_attention(64, 256, 0, 1);
    check_attention(128, 512, 0, 256);
    check_attention(128, 1024, 0, 700);
    check_attention(80, 768, 300, 1000); // a window over a ring that has wrapped
    check_attention(16, 512, 255, 257);
    check_attention(256, 512, 0, 300);
}

static void test_argmax(void **state)
{
    (void)state;
    static const uint32_t sizes[] = {1, 5, 256, 257, 9001};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        enum { ROWS = 3 };
        uint32_t n = sizes[i], got[ROWS];
        float *x = test_alloc(ROWS * n * 4);
        for (uint32_t j = 0; j < ROWS * n; j++) // few values, so that many are equal
            x[j] = (float)(test_random(&seed) % 11) - 12;
        const stk_vk_run_buffer buffers[] = {{x, ROWS * n * 4, false}, {got, sizeof got, true}};
        run(STK_VK_SHADER_argmax, buffers, 2, &n, 1, ROWS, 1);
        for (uint32_t r = 0; r < ROWS; r++) {
            uint32_t best = 0;
            for (uint32_t j = 1; j < n; j++)
                best = x[r * n + j] > x[r * n + best] ? j : best;
            assert_int_equal(got[r], best);
        }
        free(x);
    }
}

static int run_round(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_quantize),    cmocka_unit_test(test_matmul_x16),
        cmocka_unit_test(test_matmul_rows), cmocka_unit_test(test_combine),
        cmocka_unit_test(test_rmsnorm),     cmocka_unit_test(test_rope_and_append),
        cmocka_unit_test(test_attention),   cmocka_unit_test(test_argmax),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

int main(int argc, char **argv)
{
    return run_on_devices(argc, argv, run_round);
}
