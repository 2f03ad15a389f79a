// Products with float weights, NEON: the law's sixteen accumulators are four registers, and four
// rows run side by side to share the loads of x.
#include "cpu/arm/arm.h"

#include <arm_neon.h>
#include <string.h>

#include "base/half.h"
#include "cpu/arm/lanes_neon.h"
#include "cpu/float_rows.h"

typedef float32x4_t (*load_fn)(const void *);
typedef float (*load_one_fn)(const void *);

static inline float32x4_t load_f32(const void *p)
{
    return vreinterpretq_f32_u8(vld1q_u8((const uint8_t *)p));
}

static inline float load_one_f32(const void *p)
{
    float f;
    memcpy(&f, p, sizeof f);
    return f;
}

static inline float load_one_f16(const void *p)
{
    return stk_half_to_float(stk_load_u16(p));
}

static inline __attribute__((always_inline)) void dot_rows(const uint8_t *const *rows, int count,
                                                           load_fn load, load_one_fn load_one,
                                                           size_t size, uint32_t cols,
                                                           const float *x, float *y)
{
    float32x4_t a[4][4]; // [row][accumulators 4k..4k+4)
    for (int r = 0; r < count; r++)
        for (int k = 0; k < 4; k++)
            a[r][k] = vdupq_n_f32(0);
    uint32_t i = 0;
    for (; i + 16 <= cols; i += 16)
        for (uint32_t k = 0; k < 4; k++) {
            float32x4_t v = vld1q_f32(x + i + 4 * k);
            for (int r = 0; r < count; r++)
                a[r][k] = vaddq_f32(a[r][k], vmulq_f32(load(rows[r] + (i + 4 * k) * size), v));
        }
    for (int r = 0; r < count; r++) {
        float lanes[16];
        for (int k = 0; k < 4; k++)
            vst1q_f32(lanes + 4 * k, a[r][k]);
        for (uint32_t j = i; j < cols; j++)
            lanes[j - i] = lanes[j - i] + load_one(rows[r] + j * size) * x[j];
        float32x4_t even = vaddq_f32(vld1q_f32(lanes), vld1q_f32(lanes + 8));
        float32x4_t odd = vaddq_f32(vld1q_f32(lanes + 4), vld1q_f32(lanes + 12));
        y[r] = stk_halve4_neon(vaddq_f32(even, odd));
    }
}

static inline __attribute__((always_inline)) void dot_f32(const uint8_t *const *rows, int count,
                                                          uint32_t cols, const float *x, float *y)
{
    dot_rows(rows, count, load_f32, load_one_f32, 4, cols, x, y);
}

static inline __attribute__((always_inline)) void dot_f16(const uint8_t *const *rows, int count,
                                                          uint32_t cols, const float *x, float *y)
{
    dot_rows(rows, count, stk_load_half4_neon, load_one_f16, 2, cols, x, y);
}

void stk_matmul_f32_neon(const stk_matrix *w, uint32_t row_begin, uint32_t row_end,
                         const stk_act *acts, uint32_t count, float *y, size_t y_stride)
{
    stk_float_matmul(w, dot_f32, 4, row_begin, row_end, acts, count, y, y_stride);
}

void stk_matmul_f16_neon(const stk_matrix *w, uint32_t row_begin, uint32_t row_end,
                         const stk_act *acts, uint32_t count, float *y, size_t y_stride)
{
    stk_float_matmul(w, dot_f16, 2, row_begin, row_end, acts, count, y, y_stride);
}

void stk_gather_f16_neon(const stk_matrix *w, const uint32_t *rows, uint32_t count,
                         const stk_act *act, float *y)
{
    stk_float_gather(w, dot_f16, 2, rows, count, act, y);
}
