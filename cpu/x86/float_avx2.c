// Products with float weights, AVX2: the law's sixteen accumulators are two registers, so four
// rows run side by side to hide the latency of their additions.
#include "cpu/x86/x86.h"

#include <immintrin.h>
#include <string.h>

#include "base/half.h"
#include "cpu/float_rows.h"

typedef __m256 (*load_fn)(const void *);
typedef float (*load_one_fn)(const void *);

static inline __m256 load_f32(const void *p)
{
    return _mm256_loadu_ps(p);
}

static inline float load_one_f32(const void *p)
{
    float f;
    memcpy(&f, p, sizeof f);
    return f;
}

static inline __m256 load_f16(const void *p)
{
    return _mm256_cvtph_ps(_mm_loadu_si128(p));
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
    __m256 a[4], b[4];
    for (int r = 0; r < count; r++)
        a[r] = b[r] = _mm256_setzero_ps();
    uint32_t i = 0;
    for (; i + 16 <= cols; i += 16) {
        __m256 v = _mm256_loadu_ps(x + i), u = _mm256_loadu_ps(x + i + 8);
        for (int r = 0; r < count; r++) {
            a[r] = _mm256_add_ps(a[r], _mm256_mul_ps(load(rows[r] + i * size), v));
            b[r] = _mm256_add_ps(b[r], _mm256_mul_ps(load(rows[r] + (i + 8) * size), u));
        }
    }
    for (int r = 0; r < count; r++) {
        float lanes[16];
        _mm256_storeu_ps(lanes, a[r]);
        _mm256_storeu_ps(lanes + 8, b[r]);
        for (uint32_t j = i; j < cols; j++)
            lanes[j - i] = lanes[j - i] + load_one(rows[r] + j * size) * x[j];
        __m256 s = _mm256_add_ps(_mm256_loadu_ps(lanes), _mm256_loadu_ps(lanes + 8));
        __m128 c = _mm_add_ps(_mm256_castps256_ps128(s), _mm256_extractf128_ps(s, 1));
        c = _mm_add_ps(c, _mm_movehl_ps(c, c));
        y[r] = _mm_cvtss_f32(_mm_add_ss(c, _mm_shuffle_ps(c, c, 1)));
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
    dot_rows(rows, count, load_f16, load_one_f16, 2, cols, x, y);
}

void stk_matmul_f32_avx2(const stk_matrix *w, uint32_t row_begin, uint32_t row_end,
                         const stk_act *acts, uint32_t count, float *y, size_t y_stride)
{
    stk_float_matmul(w, dot_f32, 4, row_begin, row_end, acts, count, y, y_stride);
}

void stk_matmul_f16_avx2(const stk_matrix *w, uint32_t row_begin, uint32_t row_end,
                         const stk_act *acts, uint32_t count, float *y, size_t y_stride)
{
    stk_float_matmul(w, dot_f16, 2, row_begin, row_end, acts, count, y, y_stride);
}

void stk_gather_f16_avx2(const stk_matrix *w, const uint32_t *rows, uint32_t count,
                         const stk_act *act, float *y)
{
    stk_float_gather(w, dot_f16, 2, rows, count, act, y);
}
