#include "cpu/ref/ref.h"

#include "cpu/math.h"

static void quantize_block(const float *x, int8_t *q, float *d, int32_t *sum)
{
    float m = 0;
    for (int i = 0; i < 32; i++)
        m = fabsf(x[i]) > m ? fabsf(x[i]) : m;
    int small = m < STK_QUANTIZE_MIN;
    float k = small ? 0 : stk_quantize_factor(m);
    *d = small ? 0 : m * STK_ONE_127TH;
    *sum = 0;
    for (int i = 0; i < 32; i++) {
        float v = rintf(x[i] * k);
        v = v > 127 ? 127 : v >= -127 ? v : -127; // the last also for NaN
        q[i] = (int8_t)v;
        *sum += q[i];
    }
}

void stk_quantize_ref(const float *x, uint32_t n, int8_t *q, float *d, int32_t *sum)
{
    for (uint32_t b = 0; b < n / 32; b++)
        quantize_block(x + 32 * b, q + 32 * b, d + b, sum + b);
}
