// tests/kernel/styles.h: the kinds of input that kernels and shaders are tried with.
#ifndef STK_TESTS_KERNEL_STYLES_H
#define STK_TESTS_KERNEL_STYLES_H

#include "tests/kernel/kernel_test.h"

typedef enum style { STYLE_RANDOM, STYLE_EXTREME, STYLE_TINY, STYLE_SPARSE, STYLE_COUNT } style;

static uint64_t seed = 7; // of this program's inputs

static inline void random_x(float *x, size_t n, style s)
{
    for (size_t i = 0; i < n; i++) {
        float v = test_float(&seed);
        if (s == STYLE_EXTREME)
            v = v > 0 ? 1e6f : -1e6f;
        else if (s == STYLE_TINY)
            v *= test_random(&seed) & 1 ? 1e-20f : 1e-30f;
        else if (s == STYLE_SPARSE)
            v = (test_random(&seed) >> 20) % 32 ? 0 : v;
        x[i] = v;
    }
}

#endif
