// cpu/math.h: scalar pieces of docs/arithmetic.md that several kernels need.
#ifndef STK_CPU_MATH_H
#define STK_CPU_MATH_H

#include "base/half.h"
#include <math.h>
#include <stdint.h>

// 127/m, section 1: a guess by integer subtraction, then three Newton steps.
static inline float stk_quantize_factor(float m)
{
    float r = stk_float_from_bits(0x7EF311C7u - stk_float_bits(m));
    for (int step = 0; step < 3; step++) {
        float t = m * r;
        t = 2.0f - t;
        r = r * t;
    }
    return r * 127.0f;
}

#define STK_QUANTIZE_MIN 0x1p-80f
#define STK_ONE_127TH    0x1.020408p-7f // 0x3c010204

// Section 6. fmaf is one rounding, in hardware or in the C library.
static inline float stk_exp(float x)
{
    if (x > 88.0f)
        x = 88.0f;
    if (!(x >= -87.0f))
        return 0.0f;
    float n = rintf(x * 1.44269504f);
    float r = fmaf(n, -0.693359375f, x);
    r = fmaf(n, 2.12194440e-4f, r);
    float p = 1.9875691500e-4f;
    p = fmaf(p, r, 1.3981999507e-3f);
    p = fmaf(p, r, 8.3334519073e-3f);
    p = fmaf(p, r, 4.1665795894e-2f);
    p = fmaf(p, r, 1.6666665459e-1f);
    p = fmaf(p, r, 5.0000001201e-1f);
    float y = fmaf(p, r * r, r) + 1.0f;
    return stk_float_from_bits(stk_float_bits(y) + ((uint32_t)(int32_t)n << 23));
}

// The halving tree over a[0..n), n a power of two; destroys a.
static inline float stk_halve(float *a, uint32_t n)
{
    while (n > 1) {
        n /= 2;
        for (uint32_t i = 0; i < n; i++)
            a[i] = a[i] + a[i + n];
    }
    return a[0];
}

#endif
