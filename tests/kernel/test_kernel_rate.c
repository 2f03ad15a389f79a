// The product whose speed `stoker topo --probe` measures.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "engine/kernel_rate.h"

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
        cmocka_unit_test(refuses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
