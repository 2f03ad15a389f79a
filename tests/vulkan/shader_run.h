// tests/vulkan/shader_run.h: one shader on arrays of the test, and marks behind its result.
#ifndef STK_TESTS_SHADER_RUN_H
#define STK_TESTS_SHADER_RUN_H

#include "tests/vulkan/vulkan_test.h"

#include "vulkan/run.h"

enum { CANARIES = 8 };

static inline float *result_alloc(size_t n)
{
    float *y = test_alloc((n + CANARIES) * 4);
    memset(y, 0x5c, (n + CANARIES) * 4);
    return y;
}

static inline void expect_untouched(const float *y, size_t n)
{
    for (size_t i = 0; i < n * 4; i++)
        assert_int_equal(((const uint8_t *)y)[i], 0x5c);
}

static inline void expect_canaries(const float *y, size_t n)
{
    expect_untouched(y + n, CANARIES);
}

static inline void run(stk_vk_shader shader, const stk_vk_run_buffer *buffers,
                       uint32_t buffer_count, const uint32_t *constants, uint32_t constant_count,
                       uint32_t x, uint32_t y)
{
    const uint32_t groups[3] = {x, y, 1};
    assert_int_equal(
        stk_vk_run(vk, shader, buffers, buffer_count, constants, constant_count, groups), STK_OK);
}

#endif
