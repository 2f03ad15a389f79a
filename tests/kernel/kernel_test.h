// tests/kernel/kernel_test.h: random inputs for kernel tests.
#ifndef STK_TESTS_KERNEL_TEST_H
#define STK_TESTS_KERNEL_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static inline uint64_t test_random(uint64_t *state)
{
    uint64_t z = (*state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

// Uniform in [-1, 1).
static inline float test_float(uint64_t *state)
{
    return (float)(int32_t)(test_random(state) >> 32) * 0x1p-31f;
}

static inline void *test_alloc(size_t bytes)
{
    void *p = aligned_alloc(64, (bytes + 127) / 64 * 64);
    assert_non_null(p);
    memset(p, 0xa5, (bytes + 127) / 64 * 64);
    return p;
}

#endif
