// Every packed layout holds exactly the values of the file's rows.
#include "tests/kernel/kernel_test.h"

#include "base/half.h"
#include "model/matrix.h"

// Random blocks with sane half scales.
static uint8_t *random_rows(const stk_type *type, uint32_t rows, uint32_t cols, uint64_t *seed)
{
    size_t bytes = rows * stk_type_row_bytes(type, cols);
    uint8_t *p = test_alloc(bytes);
    for (size_t i = 0; i < bytes; i++)
        p[i] = (uint8_t)test_random(seed);
    for (size_t b = 0; b < bytes; b += type->block_bytes) {
        uint16_t d = stk_half_from_float(test_float(seed));
        memcpy(p + b, &d, 2);
    }
    return p;
}

static void expect_same(const stk_matrix *packed, const stk_matrix *plain, uint32_t rows,
                        uint32_t cols)
{
    for (uint32_t r = 0; r < rows; r++)
        for (uint32_t b = 0; b < cols / 32; b++) {
            stk_block32 x, y;
            stk_matrix_unpack32(packed, r, b, &x);
            stk_matrix_unpack32(plain, r, b, &y);
            assert_memory_equal(&x.d, &y.d, sizeof x.d);
            assert_memory_equal(x.q, y.q, sizeof x.q);
        }
}

static void test_x16(void **state)
{
    (void)state;
    static const uint32_t shapes[][2] = {{16, 32},  {32, 64}, {48, 96},
                                         {21, 160}, {1, 32},  {64, 256}};
    const stk_type *types[] = {&stk_type_q4_0, &stk_type_q8_0};
    uint64_t seed = 1;
    for (size_t t = 0; t < 2; t++)
        for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
            uint32_t rows = shapes[s][0], cols = shapes[s][1];
            uint8_t *source = random_rows(types[t], rows, cols, &seed);
            uint64_t bytes = stk_dense_bytes(types[t], STK_FORMAT_X16, rows, cols);
            uint8_t *packed = test_alloc(bytes + 1);
            packed[bytes] = 0x5c;
            uint32_t half = rows > 16 ? 16 : rows; // in two calls, as a loader would
            stk_dense_pack(types[t], STK_FORMAT_X16, rows, cols, 0, half, source, packed);
            if (rows > half)
                stk_dense_pack(types[t], STK_FORMAT_X16, rows, cols, half, rows - half,
                               source + half * stk_type_row_bytes(types[t], cols), packed);
            assert_int_equal(packed[bytes], 0x5c);
            stk_matrix m = {types[t], STK_FORMAT_X16, rows, cols, packed};
            stk_matrix plain = {types[t], STK_FORMAT_ROWS, rows, cols, source};
            expect_same(&m, &plain, rows, cols);
            free(packed);
            free(source);
        }
}

static void check_bundle(uint32_t width, uint32_t ffn, int transposed, uint64_t *seed)
{
    const stk_type *q4 = &stk_type_q4_0;
    stk_bundle b = stk_bundle_of(width, ffn, transposed);
    uint8_t *up = random_rows(q4, ffn, width, seed);
    uint8_t *down = transposed ? random_rows(q4, ffn, width, seed)
                               : random_rows(q4, width, ffn, seed);
    uint8_t *packed = test_alloc(stk_bundle_bytes(&b) + 1);
    packed[stk_bundle_bytes(&b)] = 0x5c;
    stk_bundle_pack_up(&b, up, packed);
    stk_bundle_pack_down(&b, down, packed);
    assert_int_equal(packed[stk_bundle_bytes(&b)], 0x5c);
    stk_matrix plain_up = {q4, STK_FORMAT_ROWS, ffn, width, up};
    stk_matrix bundle_up = plain_up, bundle_down, plain_down;
    bundle_up.format = transposed ? STK_FORMAT_BUNDLE_T_UP : STK_FORMAT_BUNDLE_UP;
    bundle_up.data = packed;
    expect_same(&bundle_up, &plain_up, ffn, width);
    plain_down = (stk_matrix){q4, STK_FORMAT_ROWS, transposed ? ffn : width,
                              transposed ? width : ffn, down};
    bundle_down = plain_down;
    bundle_down.format = transposed ? STK_FORMAT_BUNDLE_T_DOWN : STK_FORMAT_BUNDLE_DOWN;
    bundle_down.data = packed;
    expect_same(&bundle_down, &plain_down, plain_down.rows, plain_down.cols);
    free(packed);
    free(down);
    free(up);
}

static void test_bundle(void **state)
{
    (void)state;
    uint64_t seed = 2;
    for (int transposed = 0; transposed < 2; transposed++) {
        check_bundle(128, 32, transposed, &seed);
        check_bundle(256, 128, transposed, &seed);
        check_bundle(96, 64, transposed, &seed); // padded to a whole chunk
        check_bundle(1536, 96, transposed, &seed);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_x16), cmocka_unit_test(test_bundle)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
