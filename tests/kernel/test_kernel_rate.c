// The product whose speed `stoker topo --probe` measures.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "cpu/cpu.h"
#include "engine/kernel_rate.h"
#include <stdbool.h>
#include <string.h>

static void counts_what_it_does(void **state)
{
    (void)state;
    for (uint32_t rows = 1; rows <= STK_KERNEL_RATE_ROWS_MAX; rows += 21) {
        const stk_kernel_rate_options options = {.row_count = rows, .worker_count = 2};
        stk_kernel_rate *rate = NULL;
        assert_int_equal(stk_kernel_rate_open(&options, NULL, &rate), STK_OK);
        uint64_t done = stk_kernel_rate_run(rate, 1);
        assert_true(done > 0);
        assert_int_equal(done % (64 * 1024 * rows), 0);
        assert_true(stk_kernel_rate_run(rate, 0) == done);
        stk_kernel_rate_close(&rate);
        assert_null(rate);
    }
}

// What each product computes of the neurons that rest; every kind of layout, and a float type.
static void products_count(void **state)
{
    (void)state;
    const uint64_t up = 64 * 1024, down = 768 * 256, active = 13;
    const struct {
        stk_product product;
        uint64_t one, many; // multiply-adds of a row
    } cases[] = {
        {{STK_PRODUCT_DENSE, STK_FORMAT_ROWS, &stk_type_q4_k}, up, up},
        {{STK_PRODUCT_DENSE, STK_FORMAT_X16, &stk_type_q8_0}, up, up},
        {{STK_PRODUCT_DENSE, STK_FORMAT_ROWS, &stk_type_f16}, up, up},
        {{STK_PRODUCT_DENSE, STK_FORMAT_ROWS, &stk_type_f32}, up, up},
        {{STK_PRODUCT_UP, STK_FORMAT_ROWS, &stk_type_bf16}, up * active / 32, up * active / 32},
        {{STK_PRODUCT_DOWN, STK_FORMAT_ROWS, &stk_type_f16}, down * active / 32, 0},
        {{STK_PRODUCT_UP, STK_FORMAT_ROWS, &stk_type_q6_k}, up * active / 32, up * active / 32},
        {{STK_PRODUCT_UP, STK_FORMAT_BUNDLE_UP, &stk_type_q4_0}, up * active / 32, 0},
        {{STK_PRODUCT_DOWN, STK_FORMAT_ROWS, &stk_type_q4_k}, down, down},
        {{STK_PRODUCT_DOWN, STK_FORMAT_ROWS_T, &stk_type_q5_k}, down * active / 32, 0},
        {{STK_PRODUCT_DOWN, STK_FORMAT_BUNDLE_DOWN, &stk_type_q4_0}, down * active / 32, 0},
        {{STK_PRODUCT_DOWN, STK_FORMAT_BUNDLE_T_DOWN, &stk_type_q4_0}, down * active / 32, 0},
    };
    bool has_wide = strcmp(stk_cpu_mask_at(0), "scalar") != 0;
    for (size_t i = 0; has_wide && i < sizeof cases / sizeof *cases; i++)
        for (uint32_t rows = 1; rows <= 32; rows += 31) {
            uint64_t want = rows == 1 ? cases[i].one : cases[i].many;
            const stk_kernel_rate_options options = {
                .product = &cases[i].product, .row_count = rows, .worker_count = 1};
            stk_kernel_rate *rate = NULL;
            assert_int_equal(stk_kernel_rate_open(&options, NULL, &rate), STK_OK);
            uint64_t done = stk_kernel_rate_run(rate, 0);
            assert_true(done >= 1 << 22);
            if (want) // else some machines' kernels skip neurons
                assert_int_equal(done % (want * rows), 0);
            if (want)
                assert_true(done < (1 << 22) + want * rows);
            stk_kernel_rate_close(&rate);
        }
}

// A name and a code for each that a model has, and they differ.
static void a_models_products(void **state)
{
    (void)state;
    stk_product products[STK_PRODUCTS_MAX];
    char names[STK_PRODUCTS_MAX][STK_PRODUCT_NAME_BYTES];
    uint32_t count = stk_products_of_file(STK_MODELS "/stories-q4_0.gguf", products);
    assert_in_range(count, 3, STK_PRODUCTS_MAX);
    for (uint32_t i = 0; i < count; i++) {
        stk_product_name(&products[i], names[i]);
        assert_int_not_equal(stk_product_code(&products[i]), 0);
        for (uint32_t k = 0; k < i; k++) {
            assert_int_not_equal(stk_product_code(&products[i]), stk_product_code(&products[k]));
            assert_string_not_equal(names[i], names[k]);
        }
    }
    assert_int_equal(stk_products_of_file(STK_MODELS "/no-such.gguf", products), 0);
}

static void refuses(void **state)
{
    (void)state;
    const stk_kernel_rate_options bad[] = {
        {.row_count = 0, .worker_count = 1},
        {.row_count = STK_KERNEL_RATE_ROWS_MAX + 1, .worker_count = 1},
        {.row_count = 1, .worker_count = 0},
        {.row_count = 1, .worker_count = 1, .cpu_mask = "no-such-mask"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        stk_kernel_rate *rate = NULL;
        assert_int_equal(stk_kernel_rate_open(&bad[i], NULL, &rate), STK_INVALID);
        assert_null(rate);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(counts_what_it_does),
        cmocka_unit_test(products_count),
        cmocka_unit_test(a_models_products),
        cmocka_unit_test(refuses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
