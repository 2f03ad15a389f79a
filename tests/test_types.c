// The tensor types: hand-made blocks with known values, the file format's own formulas written
// value by value, the integer view against dequantize, quantisation error, and half precision.
#include "base/half.h"
#include "model/types.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { VALUES_MAX = 1024, ROW_BYTES_MAX = 4096 };

static uint64_t state = 88172645463325252u;

static uint32_t random_u32(void)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (uint32_t)(state >> 32);
}

static float random_float(void)
{
    return (float)((double)random_u32() / 2147483648.0 - 1);
}

static float half_at(const uint8_t *p)
{
    return stk_half_to_float((uint16_t)(p[0] | p[1] << 8));
}

// Value i of block b as the format describes it, one value at a time, in double.
static double spec_value(const stk_type *type, const uint8_t *b, size_t i)
{
    size_t byte32 = i % 16;
    int nibble = i < 16 ? 0 : 4;
    switch (type->gguf_id) {
    case 2:
        return (double)half_at(b) * ((b[2 + byte32] >> nibble & 15) - 8);
    case 3:
        return (double)half_at(b) * (b[4 + byte32] >> nibble & 15) + (double)half_at(b + 2);
    case 6:
        return (double)half_at(b) *
               ((b[6 + byte32] >> nibble & 15) + 16 * (b[2 + i / 8] >> i % 8 & 1) - 16);
    case 7:
        return (double)half_at(b) *
                   ((b[8 + byte32] >> nibble & 15) + 16 * (b[4 + i / 8] >> i % 8 & 1)) +
               (double)half_at(b + 2);
    case 8:
        return (double)half_at(b) * (int8_t)b[2 + i];
    case 11: {
        size_t s = i / 16; // 16 scales of 6 bits
        int low = s < 8 ? b[96 + s] & 15 : b[96 + s - 8] >> 4;
        int scale = (low | (b[104 + s % 4] >> 2 * (s / 4) & 3) << 4) - 32;
        int q = (b[32 + i / 128 * 32 + i % 32] >> 2 * (i % 128 / 32) & 3) +
                4 * (b[i % 32] >> i / 32 & 1) - 4;
        return (double)half_at(b + 108) * scale * q;
    }
    case 12:
    case 13: {
        size_t s = i / 32, base = type->gguf_id == 12 ? 16 : 48;
        const uint8_t *k = b + 4;
        int scale = s < 4 ? k[s] % 64 : k[s + 4] % 16 + 16 * (k[s - 4] / 64);
        int min = s < 4 ? k[s + 4] % 64 : k[s + 4] / 16 + 16 * (k[s] / 64);
        int q = b[base + i / 64 * 32 + i % 32] >> (i % 64 < 32 ? 0 : 4) & 15;
        if (type->gguf_id == 13)
            q += 16 * (b[16 + i % 32] >> s & 1);
        return (double)half_at(b) * scale * q - (double)half_at(b + 2) * min;
    }
    case 14: {
        size_t half = i / 128, r = i % 128; // r / 32: which of the four runs
        int low = b[half * 64 + r % 64] >> (r < 64 ? 0 : 4) & 15;
        int high = b[128 + half * 32 + r % 32] >> 2 * (r / 32) & 3;
        return (double)half_at(b + 208) * (int8_t)b[192 + i / 16] * (low + 16 * high - 32);
    }
    case 20: {
        static const int levels[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                       1,    13,   25,  38,  53,  69,  89,  113};
        return (double)half_at(b) * levels[b[2 + byte32] >> nibble & 15];
    }
    case 23: {
        static const int levels[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                       1,    13,   25,  38,  53,  69,  89,  113};
        size_t s = i / 32;
        int scale = (b[4 + s / 2] >> (s % 2 ? 4 : 0) & 15) + 16 * (b[2 + s / 4] >> s % 4 * 2 & 3);
        int code = b[8 + 16 * s + byte32] >> (i % 32 < 16 ? 0 : 4) & 15;
        return (double)half_at(b) * (scale - 32) * levels[code];
    }
    case 39: {
        static const double e2m1[8] = {0, 0.5, 1, 1.5, 2, 3, 4, 6};
        int code = b[1 + byte32] >> nibble & 15;
        return ldexp(code & 8 ? -e2m1[code & 7] : e2m1[code & 7], b[0] - 127);
    }
    default:
        fail_msg("no formula for type %s", type->name);
        return 0;
    }
}

// Random bytes whose halves are finite, so that values compare.
static void random_rows(const stk_type *type, uint8_t *row, size_t bytes)
{
    size_t offset = 0, second = SIZE_MAX;
    if (type->gguf_id == 11)
        offset = 108;
    if (type->gguf_id == 14)
        offset = 208;
    if (type->gguf_id == 3 || type->gguf_id == 7 || type->gguf_id == 12 || type->gguf_id == 13)
        second = 2;
    for (size_t i = 0; i < bytes; i++)
        row[i] = (uint8_t)random_u32();
    for (size_t b = 0; b < bytes && type->gguf_id != 39; b += type->block_bytes) {
        row[b + offset + 1] &= 0xbf;
        if (second != SIZE_MAX)
            row[b + second + 1] &= 0xbf;
    }
}

static void test_values(void **unused)
{
    (void)unused;
    static uint8_t storage[ROW_BYTES_MAX + 8];
    static float out[VALUES_MAX + 1];
    for (size_t t = 0; stk_type_at(t); t++) {
        const stk_type *type = stk_type_at(t);
        if (!type->unpack32)
            continue;
        for (size_t round = 0; round < 64; round++) {
            uint8_t *row = storage + round % 8; // any alignment
            size_t bytes = (size_t)stk_type_row_bytes(type, VALUES_MAX);
            assert_true(bytes <= ROW_BYTES_MAX);
            random_rows(type, row, bytes);
            out[VALUES_MAX] = 12345;
            type->dequantize(row, out, VALUES_MAX);
            assert_true(out[VALUES_MAX] == 12345);
            for (size_t i = 0; i < VALUES_MAX; i++) {
                stk_block32 block;
                type->unpack32(row, i / 32, &block);
                int q = block.q[i % 32];
                assert_in_range(abs(q), 0, 4096);
                double exact = (double)block.d * q - (double)block.m;
                double spec = spec_value(type, row + i / type->block_len * type->block_bytes,
                                         i % type->block_len);
                if (exact != spec || out[i] != (float)spec)
                    fail_msg("%s value %zu: view %a, dequantized %a, format says %a", type->name, i,
                             exact, (double)out[i], spec);
            }
        }
    }
}

static void check_golden(const stk_type *type, const uint8_t *block, size_t index, float expected)
{
    static float out[256];
    type->dequantize(block, out, type->block_len);
    if (out[index] != expected)
        fail_msg("%s value %zu is %g, expected %g", type->name, index, (double)out[index],
                 (double)expected);
}

static void test_golden_small_blocks(void **unused)
{
    (void)unused;
    // d = 1.5 (0x3e00); byte 0 = 0xf1: value 0 is 1 - 8, value 16 is 15 - 8.
    uint8_t q4_0[18] = {0x00, 0x3e, 0xf1, 0x88};
    check_golden(&stk_type_q4_0, q4_0, 0, -10.5f);
    check_golden(&stk_type_q4_0, q4_0, 16, 10.5f);
    check_golden(&stk_type_q4_0, q4_0, 1, 0);
    check_golden(&stk_type_q4_0, q4_0, 31, -12);
    uint8_t q8_0[34] = {0x00, 0xc0, 127, 0x80}; // d = -2
    check_golden(&stk_type_q8_0, q8_0, 0, -254);
    check_golden(&stk_type_q8_0, q8_0, 1, 256);
    uint8_t q4_1[20] = {0x00, 0x3c, 0x00, 0x40, 0xa3}; // d = 1, offset 2
    check_golden(&stk_type_q4_1, q4_1, 0, 5);
    check_golden(&stk_type_q4_1, q4_1, 16, 12);
    uint8_t q5_0[22] = {0x00, 0x3c, 0x01, 0, 0x01, 0, 0x21};
    check_golden(&stk_type_q5_0, q5_0, 0, 1);
    check_golden(&stk_type_q5_0, q5_0, 16, 2);
    check_golden(&stk_type_q5_0, q5_0, 1, -16);
    uint8_t iq4_nl[18] = {0x00, 0x38, 0x0f}; // d = 0.5
    check_golden(&stk_type_iq4_nl, iq4_nl, 0, 56.5f);
    check_golden(&stk_type_iq4_nl, iq4_nl, 16, -63.5f);
    uint8_t mxfp4[17] = {128, 0xf7}; // scale 2
    check_golden(&stk_type_mxfp4, mxfp4, 0, 12);
    check_golden(&stk_type_mxfp4, mxfp4, 16, -12);
    uint8_t bf16[2] = {0x20, 0xc1}, f16[2] = {0x01, 0x00};
    check_golden(&stk_type_bf16, bf16, 0, -10);
    check_golden(&stk_type_f16, f16, 0, 0x1p-24f);
}

static void test_golden_large_blocks(void **unused)
{
    (void)unused;
    // d = 1, dmin = 0.5. Sub-block 0: scale 3, min 2; sub-block 5: scale 0x2a, min 0x15.
    uint8_t q4_k[144] = {0x00, 0x3c, 0x00, 0x38};
    q4_k[4 + 0] = 3;
    q4_k[4 + 4] = 2;
    q4_k[4 + 9] = 0x5a;    // low nibbles of scale 5 and min 5
    q4_k[4 + 1] |= 2 << 6; // top bits of scale 5
    q4_k[4 + 5] |= 1 << 6; // top bits of min 5
    q4_k[16] = 0x0b;       // sub-block 0, value 0
    q4_k[16 + 64] = 0x70;  // sub-block 5, value 0
    check_golden(&stk_type_q4_k, q4_k, 0, 3 * 11 - 1);
    check_golden(&stk_type_q4_k, q4_k, 160, 0x2a * 7 - 0.5f * 0x15);
    // d = 0.5. Sub-block 3: scale 0x2b - 32, value 16 is level 15; sub-block 7: scale -32.
    uint8_t iq4_xs[136] = {0x00, 0x38, 2 << 6, 0, 0, 0xb0};
    iq4_xs[8 + 3 * 16] = 0xf0;
    check_golden(&stk_type_iq4_xs, iq4_xs, 96 + 16, 0.5f * 11 * 113);
    check_golden(&stk_type_iq4_xs, iq4_xs, 96, 0.5f * 11 * -127);
    check_golden(&stk_type_iq4_xs, iq4_xs, 255, 0.5f * -32 * -127);
    uint8_t q6_k[210] = {0};
    q6_k[209] = 0x3c;      // d = 1
    q6_k[192 + 1] = 0x80;  // sub-block 1: scale -128
    q6_k[192 + 15] = 2;    // sub-block 15: scale 2
    q6_k[64 + 63] = 0x90;  // value 255: low bits 9
    q6_k[128 + 63] = 0x80; // and high bits 2
    check_golden(&stk_type_q6_k, q6_k, 16, 4096);
    check_golden(&stk_type_q6_k, q6_k, 255, 2 * (9 + 32 - 32));
}

static void test_lookup(void **unused)
{
    (void)unused;
    assert_ptr_equal(stk_type_find(2), &stk_type_q4_0);
    assert_ptr_equal(stk_type_find(14), &stk_type_q6_k);
    assert_null(stk_type_find(4));
    assert_null(stk_type_find(UINT32_MAX));
    assert_ptr_equal(stk_type_by_name("q4_k"), &stk_type_q4_k);
    assert_null(stk_type_by_name("Q9"));
    for (size_t i = 0; stk_type_at(i); i++) {
        assert_ptr_equal(stk_type_find(stk_type_at(i)->gguf_id), stk_type_at(i));
        assert_ptr_equal(stk_type_by_name(stk_type_at(i)->name), stk_type_at(i));
        assert_null(stk_type_foreign_name(stk_type_at(i)->gguf_id));
    }
    assert_string_equal(stk_type_foreign_name(10), "Q2_K");
    assert_null(stk_type_foreign_name(4)); // no longer in files
    assert_null(stk_type_foreign_name(UINT32_MAX));
}

// Largest error in units of the block's largest magnitude.
static double quantize_error(const stk_type *type, float scale)
{
    static float in[VALUES_MAX], out[VALUES_MAX];
    static uint8_t row[ROW_BYTES_MAX];
    double worst = 0;
    for (size_t i = 0; i < VALUES_MAX; i++)
        in[i] = random_float() * scale;
    type->quantize(in, row, VALUES_MAX);
    type->dequantize(row, out, VALUES_MAX);
    for (size_t b = 0; b < VALUES_MAX; b += 32) {
        double amax = 0;
        for (size_t i = b; i < b + 32; i++)
            amax = fmax(amax, fabs((double)in[i]));
        for (size_t i = b; i < b + 32; i++)
            worst = fmax(worst, fabs((double)out[i] - (double)in[i]) / amax);
    }
    return worst;
}

static void test_quantize_error(void **unused)
{
    (void)unused;
    // Half a step, except that Q4_0 has one step of -8..7 fewer on the side of the small extreme.
    static const struct {
        const stk_type *type;
        double low, high;
    } bounds[] = {
        {&stk_type_f32, 0, 0},
        {&stk_type_f16, 0x1p-14, 0x1p-11},
        {&stk_type_bf16, 0x1p-11, 0x1p-8},
        {&stk_type_q8_0, 0.4 / 127, 0.51 / 127 + 0x1p-11},
        {&stk_type_q4_0, 0.49 / 8, 1.0 / 8 + 0x1p-11},
    };
    for (size_t i = 0; i < sizeof bounds / sizeof bounds[0]; i++) {
        for (float scale = 0.01f; scale < 200; scale *= 7) {
            double error = quantize_error(bounds[i].type, scale);
            if (error < bounds[i].low || error > bounds[i].high)
                fail_msg("%s: error %g is not in %g..%g", bounds[i].type->name, error,
                         bounds[i].low, bounds[i].high);
        }
    }
}

static void test_quantize_golden(void **unused)
{
    (void)unused;
    float in[32] = {0};
    uint8_t row[34];
    in[0] = 8; // the extreme is positive: d = -1, so 8 is stored as nibble 0
    in[1] = -7;
    in[16] = 2.4f;
    stk_type_q4_0.quantize(in, row, 32);
    assert_int_equal(stk_load_u16(row), 0xbc00);
    assert_int_equal(row[2], 0x60);
    assert_int_equal(row[3], 0x8f);
    assert_int_equal(row[4], 0x88);
    in[0] = -127;
    in[1] = 2.5f; // halves round away from zero
    stk_type_q8_0.quantize(in, row, 32);
    assert_int_equal(stk_load_u16(row), 0x3c00);
    assert_int_equal((int8_t)row[2], -127);
    assert_int_equal((int8_t)row[3], 3);
    memset(in, 0, sizeof in);
    stk_type_q4_0.quantize(in, row, 32);
    assert_int_equal(stk_load_u16(row) & 0x7fff, 0);
    assert_int_equal(row[2], 0x88);
    // Nothing a caller can pass may trap.
    in[3] = NAN;
    in[4] = INFINITY;
    in[5] = 1e-45f;
    stk_type_q4_0.quantize(in, row, 32);
    stk_type_q8_0.quantize(in, row, 32);
    in[4] = 0;
    stk_type_q4_0.quantize(in, row, 32);
    stk_type_q8_0.quantize(in, row, 32);
}

static void test_half(void **unused)
{
    (void)unused;
    for (uint32_t h = 0; h < 65536; h++) {
        float f = stk_half_to_float((uint16_t)h);
        uint32_t exponent = h >> 10 & 31, mantissa = h & 1023;
        if (exponent == 31 && mantissa) {
            assert_true(isnan(f));
            assert_true(isnan(stk_half_to_float(stk_half_from_float(f))));
            continue;
        }
        double value = exponent == 31  ? (double)INFINITY
                       : exponent == 0 ? ldexp(mantissa, -24)
                                       : ldexp(1024 + mantissa, (int)exponent - 25);
        assert_true((double)f == (h & 0x8000 ? -value : value));
        assert_int_equal(signbit(f) != 0, h >> 15);
        assert_int_equal(stk_half_from_float(f), h);
        // Every midpoint to the next magnitude goes to the even one; beside it, to the nearer.
        if (exponent == 31 || (h & 0x7fff) == 0x7bff)
            continue;
        float next = stk_half_to_float((uint16_t)(h + 1)), middle = (f + next) / 2;
        assert_int_equal(stk_half_from_float(middle), h + (h & 1));
        assert_int_equal(stk_half_from_float(nextafterf(middle, f)), h);
        assert_int_equal(stk_half_from_float(nextafterf(middle, next)), h + 1);
    }
    assert_int_equal(stk_half_from_float(65519.996f), 0x7bff);
    assert_int_equal(stk_half_from_float(65520), 0x7c00);
    assert_int_equal(stk_half_from_float(-1e30f), 0xfc00);
    assert_int_equal(stk_half_from_float(0x1p-25f), 0);
    assert_int_equal(stk_half_from_float(0x1.000002p-25f), 1);
}

static void test_bfloat_rounding(void **unused)
{
    (void)unused;
    static const struct {
        uint32_t in;
        uint16_t out;
    } cases[] = {{0x3f808000, 0x3f80}, {0x3f818000, 0x3f82}, {0x3f808001, 0x3f81},
                 {0x7f7fffff, 0x7f80}, {0x7f800000, 0x7f80}, {0x7f800001, 0x7fc0},
                 {0xff800001, 0xffc0}, {0x80000000, 0x8000}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        float in = stk_float_from_bits(cases[i].in);
        uint8_t out[2];
        stk_type_bf16.quantize(&in, out, 1);
        assert_int_equal(stk_load_u16(out), cases[i].out);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values),
        cmocka_unit_test(test_golden_small_blocks),
        cmocka_unit_test(test_golden_large_blocks),
        cmocka_unit_test(test_lookup),
        cmocka_unit_test(test_quantize_error),
        cmocka_unit_test(test_quantize_golden),
        cmocka_unit_test(test_half),
        cmocka_unit_test(test_bfloat_rounding),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
