#include "cpu/ref/ref.h"

#include "cpu/math.h"

void stk_rmsnorm_ref(const float *x, const float *weight, float eps, uint32_t n, float *y)
{
    float a[16] = {0};
    for (uint32_t i = 0; i < n; i++) {
        float t = x[i] * x[i];
        a[i % 16] = a[i % 16] + t;
    }
    float mean = stk_halve(a, 16) / (float)n;
    float s = 1.0f / sqrtf(mean + eps);
    for (uint32_t i = 0; i < n; i++) {
        float t = x[i] * s;
        y[i] = t * weight[i];
    }
}

void stk_to_half_ref(const float *x, uint32_t n, uint16_t *y)
{
    for (uint32_t i = 0; i < n; i++)
        y[i] = stk_half_from_float(x[i]);
}

void stk_combine_ref(float *x, const float *const *y, const float *weights, uint32_t count,
                     uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        float c = weights[0] * y[0][i];
        for (uint32_t k = 1; k < count; k++) {
            float t = weights[k] * y[k][i];
            c = c + t;
        }
        x[i] = x[i] + c;
    }
}

void stk_sum_parts_ref(const float *parts, size_t stride, uint32_t n, float *out)
{
    for (uint32_t i = 0; i < n; i++) {
        float even = parts[i] + parts[2 * stride + i];
        float odd = parts[stride + i] + parts[3 * stride + i];
        out[i] = even + odd;
    }
}
