// Every line of cpu/kernels.def against cpu/ref: equal to the bit, for random, extreme and odd
// inputs, and nothing written outside the result.
#include "tests/kernel/styles.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <time.h>

#include "base/half.h"
#include "cpu/cpu.h"
#include "cpu/ref/ref.h"

enum { CANARY = 0x5c, FFN_MAX = 256 };

static bool is_bench; // --bench: times instead of comparing

static void random_half(uint8_t *at, style s)
{
    float d = test_float(&seed) * (s == STYLE_TINY ? 1e-7f : s == STYLE_EXTREME ? 6e4f : 0.1f);
    uint16_t half = stk_half_from_float(d);
    memcpy(at, &half, 2);
}

// A block of random bytes gets scales that are finite.
static void random_scales(const stk_type *type, uint8_t *block, style s)
{
    const stk_type *t = type;
    if (t == &stk_type_mxfp4)
        block[0] = (uint8_t)(s == STYLE_TINY ? block[0] % 8 : 100 + block[0] % 40);
    else
        random_half(block + (t == &stk_type_q6_k ? 208 : t == &stk_type_q3_k ? 108 : 0), s);
    if (t == &stk_type_q4_1 || t == &stk_type_q5_1 || t == &stk_type_q4_k || t == &stk_type_q5_k)
        random_half(block + 2, s); // of the minima
}

static uint8_t *random_rows(const stk_type *type, uint32_t rows, uint32_t cols, style s)
{
    size_t bytes = rows * stk_type_row_bytes(type, cols);
    uint8_t *p = test_alloc(bytes);
    // The largest products: two nibbles of 15, or of -128 and 127.
    uint8_t high = type == &stk_type_q8_0 ? 0x7f : 0xff;
    for (size_t i = 0; i < bytes; i++)
        p[i] = s == STYLE_EXTREME ? (uint8_t)(test_random(&seed) & 1 ? ~high : high)
                                  : (uint8_t)test_random(&seed);
    if (!type->unpack32) {
        for (size_t i = 0; i < rows * (size_t)cols; i++) {
            float v = test_float(&seed) * (s == STYLE_TINY ? 1e-6f : 2.0f);
            type->quantize(&v, p + i * type->block_bytes, 1);
        }
        return p;
    }
    for (size_t b = 0; b < bytes; b += type->block_bytes)
        random_scales(type, p + b, s);
    return p;
}

typedef struct act_buffer {
    float *x;
    int8_t *q;
    float *d;
    int32_t *sum;
} act_buffer;

static act_buffer random_act(uint32_t n, style s)
{
    act_buffer a = {test_alloc(n * 4), test_alloc(n), test_alloc(n / 8 + 4), test_alloc(n / 8 + 4)};
    random_x(a.x, n, s);
    stk_quantize_ref(a.x, n, a.q, a.d, a.sum);
    return a;
}

static void free_act(act_buffer *a)
{
    free(a->x);
    free(a->q);
    free(a->d);
    free(a->sum);
}

static void expect_floats(const char *name, const float *got, const float *want, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (memcmp(&got[i], &want[i], 4) != 0)
            fail_msg("%s: value %zu is %a, the reference says %a", name, i, (double)got[i],
                     (double)want[i]);
}

// An expert's up or down weights in the kernel's format.
static stk_matrix expert_matrix(const stk_kernel *k, uint32_t width, uint32_t ffn, style s,
                                void **storage)
{
    int transposed = k->format == STK_FORMAT_BUNDLE_T_UP || k->format == STK_FORMAT_BUNDLE_T_DOWN;
    int down = k->format == STK_FORMAT_BUNDLE_DOWN || k->format == STK_FORMAT_BUNDLE_T_DOWN;
    if (k->format == STK_FORMAT_ROWS && (k->op == STK_OP_DOWN || k->op == STK_OP_DOWN_ROWS)) {
        *storage = random_rows(k->type, width, ffn, s);
        return (stk_matrix){k->type, k->format, width, ffn, *storage};
    }
    uint8_t *up_rows = random_rows(k->type, ffn, width, s);
    if (k->format == STK_FORMAT_ROWS || k->format == STK_FORMAT_ROWS_T) {
        *storage = up_rows;
        return (stk_matrix){k->type, k->format, ffn, width, up_rows};
    }
    uint8_t *down_rows = transposed ? random_rows(k->type, ffn, width, s)
                                    : random_rows(k->type, width, ffn, s);
    stk_bundle b = stk_bundle_of(width, ffn, transposed);
    *storage = test_alloc(stk_bundle_bytes(&b));
    stk_bundle_pack_up(&b, up_rows, *storage);
    stk_bundle_pack_down(&b, down_rows, *storage);
    free(up_rows);
    free(down_rows);
    stk_matrix m = {k->type, k->format, ffn, width, *storage};
    if (down && !transposed) {
        m.rows = width;
        m.cols = ffn;
    }
    return m;
}

// A matrix for a matmul kernel, whichever of the formats it reads.
static stk_matrix matmul_matrix(const stk_kernel *k, uint32_t rows, uint32_t cols, style s,
                                void **storage)
{
    if (k->format == STK_FORMAT_BUNDLE_UP || k->format == STK_FORMAT_BUNDLE_T_UP)
        return expert_matrix(k, cols, (rows + 31) / 32 * 32, s, storage);
    uint8_t *source = random_rows(k->type, rows, cols, s);
    *storage = source;
    if (k->format == STK_FORMAT_X16) {
        *storage = test_alloc(stk_dense_bytes(k->type, k->format, rows, cols));
        stk_dense_pack(k->type, k->format, rows, cols, 0, rows, source, *storage);
        free(source);
    }
    return (stk_matrix){k->type, k->format, rows, cols, *storage};
}

// Tokens one after another in memory, as batches are, or (sparse) in no order.
static void check_matmul(const stk_kernel *k, uint32_t rows, uint32_t cols, uint32_t count, style s)
{
    enum { COUNT_MAX = 140 };
    void *storage;
    stk_matrix m = matmul_matrix(k, rows, cols, s, &storage);
    act_buffer a = random_act(cols * count, s);
    stk_act acts[COUNT_MAX];
    for (uint32_t t = 0; t < count; t++) {
        uint32_t at = s == STYLE_SPARSE ? t * 7 % count : t;
        acts[t] = (stk_act){a.x + (size_t)at * cols, a.q + (size_t)at * cols,
                            a.d + (size_t)at * cols / 32, a.sum + (size_t)at * cols / 32};
    }
    uint32_t begin = rows > 16 ? 16 : 0, stride = (rows + 15) / 16 * 16;
    float *got = test_alloc((count * stride + 1) * 4), *want = test_alloc(count * stride * 4);
    memset(&got[count * stride], CANARY, 4);
    ((stk_matmul_fn)k->function)(&m, begin, rows, acts, count, got, stride);
    stk_matmul_ref(&m, begin, rows, acts, count, want, stride);
    for (uint32_t t = 0; t < count; t++) {
        expect_floats(k->name, got + t * stride, want + t * stride, rows - begin);
        for (uint32_t r = rows - begin; r < stride && k->format == STK_FORMAT_ROWS; r++)
            assert_int_equal(((uint8_t *)&got[t * stride + r])[0], TEST_FRESH);
    }
    assert_int_equal(((uint8_t *)&got[count * stride])[0], CANARY);
    free_act(&a);
    free(got);
    free(want);
    free(storage);
}

// Rows of a gate, while other memory is asked for: all of it, spread over several places or not.
static void check_gate(const stk_kernel *k, uint32_t rows, uint32_t cols, uint32_t runs, style s)
{
    void *storage;
    stk_matrix m = matmul_matrix(k, rows, cols, s, &storage);
    act_buffer a = random_act(cols, s);
    stk_act act = {a.x, a.q, a.d, a.sum};
    stk_ahead ahead;
    stk_ahead_clear(&ahead, 64 + (uint32_t)(test_random(&seed) >> 8) % 2000);
    for (; ahead.count < runs; ahead.count++)
        ahead.runs[ahead.count] = (const char *)storage + ahead.count;
    uint32_t begin = rows > 16 ? 16 : 0, padded = (rows - begin + 15) / 16 * 16;
    float *got = test_alloc((padded + 1) * 4), *want = test_alloc(padded * 4);
    memset(&got[padded], CANARY, 4);
    ((stk_gate_fn)k->function)(&m, begin, rows, &act, &ahead, got);
    stk_matmul_ref(&m, begin, rows, &act, 1, want, padded);
    expect_floats(k->name, got, want, rows - begin);
    assert_int_equal(((uint8_t *)&got[padded])[0], CANARY);
    assert_int_equal(ahead.count, runs);
    assert_int_equal(ahead.next, runs);
    free_act(&a);
    free(got);
    free(want);
    free(storage);
}

static void check_gather(const stk_kernel *k, uint32_t width, uint32_t ffn, style s)
{
    void *storage;
    stk_matrix m = expert_matrix(k, width, ffn, s, &storage);
    act_buffer a = random_act(width, s);
    stk_act act = {a.x, a.q, a.d, a.sum};
    uint32_t rows[FFN_MAX], count = 0;
    for (uint32_t j = 0; j < ffn; j++)
        if (test_random(&seed) % 3 == 0)
            rows[count++] = j;
    float got[FFN_MAX + 1], want[FFN_MAX];
    memset(&got[count], CANARY, 4);
    ((stk_gather_fn)k->function)(&m, rows, count, &act, got);
    stk_gather_ref(&m, rows, count, &act, want);
    expect_floats(k->name, got, want, count);
    assert_int_equal(((uint8_t *)&got[count])[0], CANARY);
    free_act(&a);
    free(storage);
}

static void check_down(const stk_kernel *k, uint32_t width, uint32_t ffn, style s)
{
    void *storage;
    stk_matrix m = expert_matrix(k, width, ffn, s, &storage);
    act_buffer h = random_act(ffn, s);
    uint32_t active[FFN_MAX], first[FFN_MAX / 32 + 1], count = 0;
    for (uint32_t j = 0; j < ffn; j++) {
        if (j % 32 == 0)
            first[j / 32] = count;
        if ((test_random(&seed) >> 9) % 3 == 0 && j / 32 != 2) // and one group without any
            active[count++] = j;
        else
            h.x[j] = 0;
    }
    first[ffn / 32] = count;
    stk_quantize_ref(h.x, ffn, h.q, h.d, h.sum);
    stk_neurons n = {h.x, h.q, h.d, h.sum, active, first};
    uint32_t padded = (width + 127) / 128 * 128;
    float *got = test_alloc((padded + 1) * 4), *want = test_alloc(padded * 4);
    for (uint32_t o = 0; o < padded; o++)
        got[o] = want[o] = o % 2 ? 0 : test_float(&seed);
    memset(&got[padded], CANARY, 4);
    uint32_t begin = ffn > 64, end = ffn / 32 - begin; // all of few groups, not all of many
    ((stk_down_fn)k->function)(&m, &n, begin, end, got);
    stk_down_ref(&m, &n, begin, end, want);
    expect_floats(k->name, got, want, width);
    assert_int_equal(((uint8_t *)&got[padded])[0], CANARY);
    free(got);
    free(want);
    free_act(&h);
    free(storage);
}

// Rows of tokens against one token after another, in parts.
static void check_down_rows(const stk_kernel *k, uint32_t width, uint32_t ffn, uint32_t count,
                            style s)
{
    enum { COUNT_MAX = 80 };
    void *storage;
    stk_matrix m = expert_matrix(k, width, ffn, s, &storage);
    act_buffer h = random_act(ffn * count, s);
    for (size_t j = 0; j < (size_t)ffn * count; j++)
        if ((test_random(&seed) >> 9) % 3 == 0 || j / 32 % 5 == 1) // some groups without any
            h.x[j] = 0;
    stk_quantize_ref(h.x, ffn * count, h.q, h.d, h.sum);
    uint32_t padded = (width + 127) / 128 * 128, groups = ffn / 32;
    float *got = test_alloc((padded * count + 1) * 4), *want = test_alloc(padded * 4);
    float *parts = test_alloc(4 * (size_t)padded * 4), *y[COUNT_MAX];
    stk_act acts[COUNT_MAX];
    for (size_t t = 0; t < count; t++) {
        acts[t] = (stk_act){h.x + t * ffn, h.q + t * ffn, h.d + t * groups, h.sum + t * groups};
        y[t] = got + (count - 1 - t) * padded;
    }
    memset(&got[padded * count], CANARY, 4);
    int done = ((stk_down_rows_fn)k->function)(&m, acts, count, y);
    assert_true(done || count < 4);
    for (uint32_t t = 0; t < count && done; t++) {
        stk_neurons n = {acts[t].x, acts[t].q, acts[t].d, acts[t].sum, NULL, NULL};
        memset(parts, 0, 4 * (size_t)padded * 4);
        for (uint32_t p = 0; p < 4; p++)
            stk_down_ref(&m, &n, groups * p / 4, groups * (p + 1) / 4, parts + p * padded);
        stk_sum_parts_ref(parts, padded, width, want);
        expect_floats(k->name, y[t], want, width);
    }
    assert_int_equal(((uint8_t *)&got[padded * count])[0], CANARY);
    free(parts);
    free(got);
    free(want);
    free_act(&h);
    free(storage);
}

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

// Multiply-adds per nanosecond of the kernel in an expert's gate, by number of tokens.
static void bench_matmul(const stk_kernel *k)
{
    enum { ROWS = 768, COLS = 1536, TOKENS_MAX = 128 };
    void *storage;
    stk_matrix m = matmul_matrix(k, ROWS, COLS, STYLE_RANDOM, &storage);
    act_buffer a = random_act(COLS * TOKENS_MAX, STYLE_RANDOM);
    stk_act acts[TOKENS_MAX];
    for (size_t t = 0; t < TOKENS_MAX; t++)
        acts[t] = (stk_act){a.x + t * COLS, a.q + t * COLS, a.d + t * COLS / 32,
                            a.sum + t * COLS / 32};
    float *y = test_alloc(ROWS * TOKENS_MAX * 4);
    print_message("%-32s", k->name);
    for (uint32_t count = 1; count <= TOKENS_MAX; count *= count < 4 ? 4 : 2) {
        double best = 1e9;
        for (int rep = 0; rep < 20; rep++) {
            double start = seconds();
            ((stk_matmul_fn)k->function)(&m, 0, ROWS, acts, count, y, ROWS);
            double took = seconds() - start;
            best = took < best ? took : best;
        }
        print_message(" %4u: %6.1f", count, 1e-9 * ROWS * COLS * count / best);
    }
    print_message("\n");
    free_act(&a);
    free(y);
    free(storage);
}

// Whether rows of so many values exist in the kernel's type.
static bool has_rows_of(const stk_kernel *k, uint32_t cols)
{
    return cols % k->type->block_len == 0;
}

static void check_kernel(const stk_kernel *k)
{
    static const uint32_t widths[] = {32, 96, 128, 256, 288, 416, 512, 1536};
    for (size_t w = 0; w < sizeof widths / sizeof *widths; w++)
        for (style s = 0; s < STYLE_COUNT; s++) {
            bool is_down_row = (k->op == STK_OP_DOWN || k->op == STK_OP_DOWN_ROWS) &&
                               k->format == STK_FORMAT_ROWS;
            if (!is_down_row && !has_rows_of(k, widths[w]))
                continue;
            if (k->format == STK_FORMAT_ROWS && widths[w] > 512 && s != STYLE_RANDOM)
                continue; // many kernels, whose blocks do not depend on how many follow
            switch (k->op) {
            case STK_OP_MATMUL:
                for (uint32_t count = 1; count <= 19; count += count < 6 ? 1 : 13)
                    check_matmul(k, 48, widths[w], count, s);
                check_matmul(k, 16, widths[w], 1, s);
                check_matmul(k, 37, widths[w], 3, s);
                check_matmul(k, 39, widths[w], 2, s);
                check_matmul(k, 37, widths[w], 13, s);
                break;
            case STK_OP_GATE:
                check_gate(k, 48, widths[w], STK_AHEAD_RUNS_MAX, s);
                check_gate(k, 16, widths[w], 3, s);
                check_gate(k, 37, widths[w], 0, s);
                break;
            case STK_OP_GATHER:
                check_gather(k, widths[w], 64, s);
                check_gather(k, widths[w], FFN_MAX, s);
                break;
            case STK_OP_DOWN:
                if (!is_down_row || has_rows_of(k, 32))
                    check_down(k, widths[w], 32, s);
                check_down(k, widths[w], FFN_MAX, s);
                break;
            case STK_OP_DOWN_ROWS:
                if (!is_down_row || has_rows_of(k, 96)) {
                    check_down_rows(k, widths[w], 96, 3, s);
                    check_down_rows(k, widths[w], 96, 13, s);
                }
                check_down_rows(k, widths[w], FFN_MAX, 4, s);
                check_down_rows(k, widths[w], 768, 32, s);
                break;
            }
        }
}

// More columns than a kernel may unpack at once, more tokens than it may take at once.
static void check_large(const stk_kernel *k)
{
    if (k->op == STK_OP_DOWN_ROWS)
        check_down_rows(k, 160, has_rows_of(k, 2336) ? 2336 : 2304, 67, STYLE_RANDOM);
    if (k->op != STK_OP_MATMUL)
        return;
    if (has_rows_of(k, 4384))
        check_matmul(k, 32, 4384, 21, STYLE_RANDOM);
    check_matmul(k, 32, 256, 130, STYLE_RANDOM);
}

static void test_all_kernels(void **state)
{
    (void)state;
    uint32_t ran = 0;
    stk_cpu cpu;
    assert_int_equal(stk_cpu_init(NULL, NULL, &cpu), STK_OK);
    for (size_t i = 0; stk_cpu_kernel_at(i); i++) {
        const stk_kernel *k = stk_cpu_kernel_at(i);
        if (!(cpu.isas & k->isa)) {
            print_message("not here: %s\n", k->name);
            continue;
        }
        if (!is_bench) {
            check_kernel(k);
            check_large(k);
        } else if (k->op == STK_OP_MATMUL)
            bench_matmul(k);
        ran++;
    }
    print_message("%u kernels equal the reference\n", ran);
}

// A mask that this machine has brings its own kernels: all of the table's lines for its set.
static void test_masks_bring_kernels(void **state)
{
    (void)state;
    for (size_t m = 0; m < TEST_MASK_COUNT; m++) {
        stk_cpu cpu;
        if (stk_cpu_init(test_masks_all[m], NULL, &cpu) != STK_OK)
            continue;
        assert_string_equal(cpu.name, test_masks_all[m]);
        assert_ptr_not_equal(cpu.quantize, stk_quantize_ref);
        uint32_t found = 0, widest = 1;
        while (widest <= cpu.isas / 2)
            widest *= 2;
        for (size_t i = 0; stk_cpu_kernel_at(i); i++) {
            const stk_kernel *k = stk_cpu_kernel_at(i);
            if (!(cpu.isas & k->isa))
                continue;
            found++;
            if (k->op == STK_OP_MATMUL)
                assert_ptr_not_equal(stk_cpu_matmul(&cpu, k->format, k->type), stk_matmul_ref);
            else if (k->op == STK_OP_GATE)
                assert_non_null(stk_cpu_gate(&cpu, k->format, k->type));
            else if (k->op == STK_OP_GATHER)
                assert_ptr_not_equal(stk_cpu_gather(&cpu, k->format, k->type), stk_gather_ref);
            else if (k->op == STK_OP_DOWN)
                assert_ptr_not_equal(stk_cpu_down(&cpu, k->format, k->type), stk_down_ref);
            else if (k->format == STK_FORMAT_ROWS)
                assert_non_null(stk_cpu_down_rows(&cpu, k->format, k->type));
            else // many tokens: only the widest set's own
                assert_int_equal(stk_cpu_down_rows(&cpu, k->format, k->type) ==
                                     (stk_down_rows_fn)k->function,
                                 k->isa == widest);
        }
        assert_true(found > 0);
    }
}

// The list is in order, and every mask in it works.
static void test_masks_listed(void **state)
{
    (void)state;
    stk_cpu widest, cpu;
    uint32_t count = 0;
    assert_int_equal(stk_cpu_init(NULL, NULL, &widest), STK_OK);
    assert_string_equal(stk_cpu_mask_at(0), widest.name);
    for (const char *name; (name = stk_cpu_mask_at(count)); count++) {
        assert_int_equal(stk_cpu_init(name, NULL, &cpu), STK_OK);
        assert_string_equal(cpu.name, name);
    }
    assert_string_equal(cpu.name, "scalar");
    for (size_t m = 0; m < TEST_MASK_COUNT; m++)
        count -= stk_cpu_init(test_masks_all[m], NULL, &cpu) == STK_OK;
    assert_int_equal(count, 1); // "scalar"
}

static void test_masks(void **state)
{
    (void)state;
    stk_cpu cpu;
    assert_int_equal(stk_cpu_init("scalar", NULL, &cpu), STK_OK);
    assert_ptr_equal(stk_cpu_matmul(&cpu, STK_FORMAT_X16, &stk_type_q4_0), stk_matmul_ref);
    assert_int_equal(stk_cpu_init("mmx", NULL, &cpu), STK_INVALID);
    assert_int_equal(stk_cpu_init("f32", NULL, &cpu), STK_OK);
    assert_ptr_equal(stk_cpu_down(&cpu, STK_FORMAT_BUNDLE_DOWN, &stk_type_q4_0), stk_down_f32_ref);
}

int main(int argc, char **argv)
{
    is_bench = argc > 1 && strcmp(argv[1], "--bench") == 0;
    if (!is_bench && !test_masks_here(argc, argv))
        return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_kernels), cmocka_unit_test(test_masks_bring_kernels),
        cmocka_unit_test(test_masks_listed), cmocka_unit_test(test_masks)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
