// Dense products, AVX2 without VNNI: eight of a group's sixteen rows in the lanes of a register.
//
// Q4_0: a nibble times an int8 is at most 15*127, so the sums of eight byte pairs fit 16 bits and a
// block needs one widening at its end. Q8_0 moves the weight's sign to x and widens each time.
#include "cpu/x86/x86.h"

#include <immintrin.h>

enum { ROWS = 16 };

static inline __m256i broadcast4(const int8_t *q)
{
    return _mm256_set1_epi32(*(const int32_t *)(const void *)q);
}

static inline __m256i block_sum_q4_0(const uint8_t *values, const stk_act *act, uint32_t block)
{
    const __m256i low = _mm256_set1_epi8(15);
    const int8_t *q = act->q + 32 * (size_t)block;
    __m256i sum = _mm256_setzero_si256();
    for (int c = 0; c < 4; c++) {
        __m256i raw = _mm256_load_si256((const __m256i *)(values + 64 * c));
        __m256i lo = _mm256_and_si256(raw, low);
        __m256i hi = _mm256_and_si256(_mm256_srli_epi16(raw, 4), low);
        sum = _mm256_add_epi16(sum, _mm256_maddubs_epi16(lo, broadcast4(q + 4 * c)));
        sum = _mm256_add_epi16(sum, _mm256_maddubs_epi16(hi, broadcast4(q + 16 + 4 * c)));
    }
    sum = _mm256_madd_epi16(sum, _mm256_set1_epi16(1));
    return _mm256_sub_epi32(sum, _mm256_set1_epi32(8 * act->sum[block]));
}

static inline __m256i block_sum_q8_0(const uint8_t *values, const stk_act *act, uint32_t block)
{
    const int8_t *q = act->q + 32 * (size_t)block;
    __m256i sum = _mm256_setzero_si256();
    for (int c = 0; c < 8; c++) {
        __m256i w = _mm256_load_si256((const __m256i *)(values + 64 * c));
        __m256i x = _mm256_sign_epi8(broadcast4(q + 4 * c), w);
        __m256i pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(w), x);
        sum = _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
    }
    return sum;
}

typedef __m256i (*block_sum_fn)(const uint8_t *values, const stk_act *act, uint32_t block);

// Rows `half*8 .. +8` of a group with one token.
static inline __attribute__((always_inline)) void
dot_half(const uint8_t *group, uint32_t values_bytes, block_sum_fn block_sum, uint32_t half,
         uint32_t blocks, const stk_act *act, float *y)
{
    __m256 a[8];
    for (int i = 0; i < 8; i++)
        a[i] = _mm256_setzero_ps();
    for (uint32_t b = 0; b < blocks; b += 8) {
#pragma GCC unroll 8
        for (uint32_t i = 0; i < 8; i++) {
            if (b + i >= blocks)
                break;
            const uint8_t *pair = group + (size_t)((b + i) / 2) * (64 + 2 * values_bytes);
            const uint8_t *scales = pair + 32 * (i & 1) + 16 * half;
            const uint8_t *values = pair + 64 + (i & 1) * values_bytes + 32 * half;
            __m256 dw = _mm256_cvtph_ps(_mm_load_si128((const __m128i *)scales));
            __m256 scale = _mm256_mul_ps(dw, _mm256_set1_ps(act->d[b + i]));
            __m256 t = _mm256_cvtepi32_ps(block_sum(values, act, b + i));
            a[i] = _mm256_add_ps(a[i], _mm256_mul_ps(t, scale));
        }
    }
    for (int n = 4; n >= 1; n /= 2)
        for (int i = 0; i < n; i++)
            a[i] = _mm256_add_ps(a[i], a[i + n]);
    _mm256_storeu_ps(y, a[0]);
}

static inline __attribute__((always_inline)) void matmul(const stk_matrix *w, uint32_t values_bytes,
                                                         block_sum_fn block_sum, uint32_t row_begin,
                                                         uint32_t row_end, const stk_act *acts,
                                                         uint32_t count, float *y, size_t y_stride)
{
    uint32_t blocks = w->cols / 32;
    size_t group_bytes = (size_t)((blocks + 1) / 2) * (64 + 2 * values_bytes);
    for (uint32_t row = row_begin; row < row_end; row += ROWS, y += ROWS) {
        const uint8_t *group = (const uint8_t *)w->data + row / ROWS * group_bytes;
        for (uint32_t t = 0; t < count; t++)
            for (uint32_t half = 0; half < 2; half++)
                dot_half(group, values_bytes, block_sum, half, blocks, &acts[t],
                         y + t * y_stride + 8 * half);
    }
}

void stk_matmul_x16_q4_0_avx2(const stk_matrix *w, uint32_t row_begin, uint32_t row_end,
                              const stk_act *acts, uint32_t count, float *y, size_t y_stride)
{
    matmul(w, 256, block_sum_q4_0, row_begin, row_end, acts, count, y, y_stride);
}

void stk_matmul_x16_q8_0_avx2(const stk_matrix *w, uint32_t row_begin, uint32_t row_end,
                              const stk_act *acts, uint32_t count, float *y, size_t y_stride)
{
    matmul(w, 512, block_sum_q8_0, row_begin, row_end, acts, count, y, y_stride);
}
