// cpu/x86/blocks_avx512.h: blocks.h in AVX-512 registers.
//
// q[i] are the weights of blocks 2i and 2i+1 as unsigned bytes: as the type holds them, so Q6_K's
// are 32 and Q8_0's 128 too large, which sum_lanes takes off again. d and m are as in AVX, one
// block to a lane. `sub` are Q6_K's scales in the order in which sum_lanes leaves the halves of
// blocks: in 128-bit lane L, element i, half L % 2 of block 2i + L / 2.
#ifndef STK_CPU_X86_BLOCKS_AVX512_H
#define STK_CPU_X86_BLOCKS_AVX512_H

#include "cpu/x86/blocks.h"

struct eight_blocks {
    __m512i q[4];
    __m512i sub;
    __m256 d, m;
};

// The same 256 bits twice.
STK_INLINE __m512i load_twice(const uint8_t *p)
{
    return _mm512_broadcast_i64x4(load32(p));
}

// Shift counts for the 16-bit elements of the lower and of the upper 256 bits.
STK_INLINE __m512i by(short low, short high)
{
    return _mm512_inserti64x4(_mm512_set1_epi16(low), _mm256_set1_epi16(high), 1);
}

// a | (b & c)
STK_INLINE __m512i or_and(__m512i a, __m512i b, __m512i c)
{
    return _mm512_ternarylogic_epi64(a, b, c, 0xf8);
}

STK_INLINE void load_q8_0(const uint8_t *p, uint32_t count, eight_blocks *out)
{
    const __m512i bias = _mm512_set1_epi8(-128);
    for (uint32_t i = 0; i < 4; i++) { // past the end there are no values to multiply with
        __m256i even = 2 * i < count ? load32(p + 68 * i + 2) : _mm256_setzero_si256();
        __m256i odd = 2 * i + 1 < count ? load32(p + 68 * i + 36) : _mm256_setzero_si256();
        out->q[i] = _mm512_xor_si512(_mm512_inserti64x4(_mm512_castsi256_si512(even), odd, 1),
                                     bias);
    }
    out->d = strided_halves(p, 34, count);
}

// 32 bytes of nibbles: those of one block in the low ones, of the next in the high ones.
STK_INLINE __m512i two_of_nibbles(const uint8_t *p)
{
    return _mm512_and_si512(_mm512_srlv_epi16(load_twice(p), by(0, 4)), _mm512_set1_epi8(15));
}

STK_INLINE void load_q4_k(const uint8_t *p, uint32_t count, eight_blocks *out)
{
    (void)count;
    for (int i = 0; i < 4; i++)
        out->q[i] = two_of_nibbles(p + 16 + 32 * i);
    load_scales_minima(p, &out->d, &out->m);
}

STK_INLINE void load_q5_k(const uint8_t *p, uint32_t count, eight_blocks *out)
{
    (void)count;
    const __m512i bit = _mm512_set1_epi8(16);
    __m512i fifth = _mm512_srlv_epi16(load_twice(p + 16), by(0, 1)); // of block 2i: bit 2i
    for (int i = 0; i < 4; i++) {
        __m512i there = i < 2 ? _mm512_slli_epi16(fifth, 4 - 2 * i)
                              : _mm512_srli_epi16(fifth, 2 * i - 4);
        out->q[i] = or_and(two_of_nibbles(p + 48 + 32 * i), there, bit);
    }
    load_scales_minima(p, &out->d, &out->m);
}

STK_INLINE void load_q6_k(const uint8_t *p, uint32_t count, eight_blocks *out)
{
    (void)count;
    const __m512i nibble = _mm512_set1_epi8(15), two = _mm512_set1_epi8(0x30);
    for (int half = 0; half < 2; half++) {
        __m512i low = _mm512_loadu_si512(p + 64 * half), high = load_twice(p + 128 + 32 * half);
        out->q[2 * half] = or_and(_mm512_and_si512(low, nibble), _mm512_sllv_epi16(high, by(4, 2)),
                                  two);
        out->q[2 * half + 1] = or_and(_mm512_and_si512(_mm512_srli_epi16(low, 4), nibble),
                                      _mm512_srlv_epi16(high, by(0, 2)), two);
    }
    const __m128i order = _mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    out->sub = _mm512_cvtepi8_epi32(_mm_shuffle_epi8(load16(p + 192), order));
    out->d = _mm256_set1_ps(_cvtsh_ss(stk_load_u16(p + 208)));
}

// The values of blocks 2i and 2i+1 of eight, of which there are count.
STK_INLINE __m512i load_values(const int8_t *q, uint32_t i, uint32_t count)
{
    uint32_t there = count < 2 * i ? 0 : count - 2 * i;
    if (there >= 2)
        return _mm512_loadu_si512(q + 64 * i);
    return there == 1 ? _mm512_zextsi256_si512(load32((const uint8_t *)q + 64 * i))
                      : _mm512_setzero_si512();
}

// Element i of each 128-bit lane: the sum of s[i]'s there.
STK_INLINE __m512i add_within_lanes(const __m512i s[4])
{
    __m512i a = _mm512_add_epi32(_mm512_unpacklo_epi32(s[0], s[1]),
                                 _mm512_unpackhi_epi32(s[0], s[1]));
    __m512i b = _mm512_add_epi32(_mm512_unpacklo_epi32(s[2], s[3]),
                                 _mm512_unpackhi_epi32(s[2], s[3]));
    return _mm512_add_epi32(_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b));
}

STK_INLINE __m256 block_scales(const eight_blocks *w)
{
    return w->d;
}

STK_INLINE __m256 block_minima(const eight_blocks *w)
{
    return w->m;
}

STK_INLINE __m256i sum_lanes(blocks_of type, const eight_blocks *w, const int8_t *q,
                             const int32_t *sums, uint32_t count)
{
    const __m512i zero = _mm512_setzero_si512(), halves_bias = _mm512_set1_epi8(32);
    __m512i s[4];
    for (uint32_t i = 0; i < 4; i++) {
        __m512i x = load_values(q, i, count);
        s[i] = _mm512_dpbusd_epi32(zero, w->q[i], x);
        if (type.has_sub) // each half has its own scale, so the bias goes before
            s[i] = _mm512_sub_epi32(s[i], _mm512_dpbusd_epi32(zero, halves_bias, x));
    }
    __m512i halves = add_within_lanes(s);
    if (type.has_sub)
        halves = _mm512_mullo_epi32(halves, w->sub);
    __m512i whole = _mm512_add_epi32(halves, _mm512_shuffle_i32x4(halves, halves, 0xb1));
    const __m512i order = _mm512_setr_epi32(0, 8, 1, 9, 2, 10, 3, 11, 0, 0, 0, 0, 0, 0, 0, 0);
    __m256i sum = _mm512_castsi512_si256(_mm512_permutexvar_epi32(order, whole));
    if (type.is_wide)
        sum = _mm256_sub_epi32(
            sum, _mm256_slli_epi32(_mm256_maskload_epi32(sums, first_lanes(count)), 7));
    return sum;
}

#endif
