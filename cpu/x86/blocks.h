// cpu/x86/blocks.h: what blocks_avx2.h and blocks_avx512.h have in common: eight floats are an AVX
// register.
#ifndef STK_CPU_X86_BLOCKS_H
#define STK_CPU_X86_BLOCKS_H

#include "base/half.h"
#include "cpu/blocks.h"
#include "cpu/x86/x8.h"

// The lanes below count.
STK_INLINE __m256i first_lanes(uint32_t count)
{
    return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)count),
                              _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

STK_INLINE __m128i load16(const uint8_t *p)
{
    return _mm_loadu_si128((const __m128i *)p);
}

// The halves at p, p + step, ..: one in each lane.
STK_INLINE __m256 strided_halves(const uint8_t *p, size_t step, uint32_t count)
{
    uint16_t h[8] = {0};
    for (uint32_t b = 0; b < count; b++)
        h[b] = stk_load_u16(p + b * step);
    return _mm256_cvtph_ps(_mm_setr_epi16((short)h[0], (short)h[1], (short)h[2], (short)h[3],
                                          (short)h[4], (short)h[5], (short)h[6], (short)h[7]));
}

// Those of Q4_K and Q5_K at p, times d and dmin.
STK_INLINE void load_scales_minima(const uint8_t *p, __m256 *scales, __m256 *minima)
{
    uint64_t s, m;
    unpack_scales_minima(p + 4, &s, &m);
    __m256 sf = _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_cvtsi64_si128((long long)s)));
    __m256 mf = _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_cvtsi64_si128((long long)m)));
    *scales = _mm256_mul_ps(_mm256_set1_ps(_cvtsh_ss(stk_load_u16(p))), sf);
    *minima = _mm256_mul_ps(_mm256_set1_ps(_cvtsh_ss(stk_load_u16(p + 2))), mf);
}

typedef __m256 eight_floats;

STK_INLINE eight_floats eight_zero(void)
{
    return _mm256_setzero_ps();
}

STK_INLINE eight_floats eight_load(const float *p)
{
    return _mm256_loadu_ps(p);
}

STK_INLINE void eight_store(float *p, eight_floats a)
{
    _mm256_storeu_ps(p, a);
}

STK_INLINE eight_floats eight_add(eight_floats a, eight_floats b)
{
    return _mm256_add_ps(a, b);
}

// The halving tree of docs/arithmetic.md.
STK_INLINE float eight_tree(eight_floats a)
{
    __m128 c = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    c = _mm_add_ps(c, _mm_movehl_ps(c, c));
    return _mm_cvtss_f32(_mm_add_ss(c, _mm_shuffle_ps(c, c, 1)));
}

// Eight times eight become their columns.
STK_INLINE void eight_transpose(eight_floats r[8])
{
    __m256 a[8], b[8];
    for (int i = 0; i < 8; i += 2) {
        a[i] = _mm256_unpacklo_ps(r[i], r[i + 1]);
        a[i + 1] = _mm256_unpackhi_ps(r[i], r[i + 1]);
    }
    for (int i = 0; i < 8; i += 4) {
        b[i] = _mm256_shuffle_ps(a[i], a[i + 2], 0x44);
        b[i + 1] = _mm256_shuffle_ps(a[i], a[i + 2], 0xee);
        b[i + 2] = _mm256_shuffle_ps(a[i + 1], a[i + 3], 0x44);
        b[i + 3] = _mm256_shuffle_ps(a[i + 1], a[i + 3], 0xee);
    }
    for (int i = 0; i < 4; i++) {
        r[i] = _mm256_permute2f128_ps(b[i], b[i + 4], 0x20);
        r[i + 4] = _mm256_permute2f128_ps(b[i], b[i + 4], 0x31);
    }
}

// Lane b: the sum of block b's products with q[32*b ..], whose own sums are given, too.
STK_INLINE __m256i sum_lanes(blocks_of type, const eight_blocks *w, const int8_t *q,
                             const int32_t *sums, uint32_t count);
STK_INLINE __m256 block_scales(const eight_blocks *w);
STK_INLINE __m256 block_minima(const eight_blocks *w);

// Lane i: what section 2 calls t, of block b + i.
STK_INLINE __m256 terms(blocks_of type, const eight_blocks *w, const stk_act *act, uint32_t b,
                        uint32_t count)
{
    __m256i lanes = first_lanes(count);
    __m256 scale = _mm256_maskload_ps(act->d + b, lanes);
    __m256i isum = sum_lanes(type, w, act->q + 32 * (size_t)b, act->sum + b, count);
    __m256 t = _mm256_mul_ps(_mm256_cvtepi32_ps(isum), _mm256_mul_ps(block_scales(w), scale));
    if (type.is_unsigned) {
        __m256 s = _mm256_cvtepi32_ps(_mm256_maskload_epi32(act->sum + b, lanes));
        t = _mm256_sub_ps(t, _mm256_mul_ps(s, _mm256_mul_ps(block_minima(w), scale)));
    }
    return t;
}

#endif
