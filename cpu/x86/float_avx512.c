// Products with float weights, AVX-512: the law's sixteen accumulators are one register, so four
// rows run side by side to hide the latency of its additions.
#include "cpu/x86/x86.h"

#include <immintrin.h>

#include "cpu/float_rows.h"

static inline __m512 load_f32(const void *p, __mmask16 mask)
{
    return _mm512_maskz_loadu_ps(mask, p);
}

static inline __m512 load_f16(const void *p, __mmask16 mask)
{
    return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(mask, p));
}

static inline float halve(__m512 a)
{
    __m256 b = _mm256_add_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1));
    __m128 c = _mm_add_ps(_mm256_castps256_ps128(b), _mm256_extractf128_ps(b, 1));
    c = _mm_add_ps(c, _mm_movehl_ps(c, c));
    c = _mm_add_ss(c, _mm_shuffle_ps(c, c, 1));
    return _mm_cvtss_f32(c);
}

typedef __m512 (*load_fn)(const void *, __mmask16);

static inline __attribute__((always_inline)) void dot_rows(const uint8_t *const *rows, int count,
                                                           load_fn load, size_t size, uint32_t cols,
                                                           const float *x, float *y)
{
    __m512 a[4];
    for (int r = 0; r < count; r++)
        a[r] = _mm512_setzero_ps();
    for (uint32_t i = 0; i < cols; i += 16) {
        __mmask16 mask = cols - i >= 16 ? 0xffff : (__mmask16)((1u << (cols - i)) - 1);
        __m512 v = _mm512_maskz_loadu_ps(mask, x + i);
        for (int r = 0; r < count; r++)
            a[r] = _mm512_add_ps(a[r], _mm512_mul_ps(load(rows[r] + i * size, mask), v));
    }
    for (int r = 0; r < count; r++)
        y[r] = halve(a[r]);
}

static inline __attribute__((always_inline)) void dot_f32(const uint8_t *const *rows, int count,
                                                          uint32_t cols, const float *x, float *y)
{
    dot_rows(rows, count, load_f32, 4, cols, x, y);
}

static inline __attribute__((always_inline)) void dot_f16(const uint8_t *const *rows, int count,
                                                          uint32_t cols, const float *x, float *y)
{
    dot_rows(rows, count, load_f16, 2, cols, x, y);
}

void stk_matmul_f32_avx512(const stk_matrix *w, uint32_t row_begin, uint32_t row_end,
                           const stk_act *acts, uint32_t count, float *y, size_t y_stride)
{
    stk_float_matmul(w, dot_f32, 4, row_begin, row_end, acts, count, y, y_stride);
}

void stk_matmul_f16_avx512(const stk_matrix *w, uint32_t row_begin, uint32_t row_end,
                           const stk_act *acts, uint32_t count, float *y, size_t y_stride)
{
    stk_float_matmul(w, dot_f16, 2, row_begin, row_end, acts, count, y, y_stride);
}
