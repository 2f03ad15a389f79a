// cpu/x86/blocks_avx2.h: blocks.h in AVX registers.
//
// q[b] are the weights of block b as signed bytes (unsigned where the type has minima), d and m its
// scale and minimum in lane b. A K-quant with two scales per block keeps them in `sub`, in the
// order in which sum_lanes leaves the two halves of each block: sub[0] is 0a 1a 2a 3a 0b 1b 2b 3b
// (block, half), sub[1] the same of blocks 4 to 7.
#ifndef STK_CPU_X86_BLOCKS_AVX2_H
#define STK_CPU_X86_BLOCKS_AVX2_H

#include "cpu/x86/blocks.h"

struct eight_blocks {
    __m256i q[8];
    __m256i sub[2];
    __m256 d, m;
};

// 16 bytes of nibbles: the low ones, then the high ones.
STK_INLINE __m256i nibbles_in_order(const uint8_t *p)
{
    __m128i v = load16(p);
    return low_nibbles(_mm256_set_m128i(_mm_srli_epi16(v, 4), v));
}

// 16 where bit j of a 32-bit word is set, in byte j.
STK_INLINE __m256i fifth_bits(const uint8_t *p)
{
    uint32_t word;
    memcpy(&word, p, sizeof word);
    const __m256i byte = _mm256_setr_epi64x(0, 0x0101010101010101, 0x0202020202020202,
                                            0x0303030303030303);
    const __m256i bit = _mm256_set1_epi64x((long long)0x8040201008040201);
    __m256i spread = _mm256_shuffle_epi8(_mm256_set1_epi32((int)word), byte);
    __m256i is_set = _mm256_cmpeq_epi8(_mm256_and_si256(spread, bit), bit);
    return _mm256_and_si256(is_set, _mm256_set1_epi8(16));
}

STK_INLINE void no_blocks_from(uint32_t count, eight_blocks *out)
{
    for (uint32_t b = count; b < 8; b++)
        out->q[b] = _mm256_setzero_si256();
}

STK_INLINE void load_q8_0(const uint8_t *p, uint32_t count, eight_blocks *out)
{
    for (uint32_t b = 0; b < count; b++)
        out->q[b] = load32(p + 34 * b + 2);
    no_blocks_from(count, out);
    out->d = strided_halves(p, 34, count);
}

STK_INLINE void load_q4_1(const uint8_t *p, uint32_t count, eight_blocks *out)
{
    for (uint32_t b = 0; b < count; b++)
        out->q[b] = nibbles_in_order(p + 20 * b + 4);
    no_blocks_from(count, out);
    out->d = strided_halves(p, 20, count);
    out->m = _mm256_xor_ps(strided_halves(p + 2, 20, count), _mm256_set1_ps(-0.0f));
}

STK_INLINE void load_q5_0(const uint8_t *p, uint32_t count, eight_blocks *out)
{
    for (uint32_t b = 0; b < count; b++) {
        __m256i q = _mm256_or_si256(nibbles_in_order(p + 22 * b + 6), fifth_bits(p + 22 * b + 2));
        out->q[b] = _mm256_sub_epi8(q, _mm256_set1_epi8(16));
    }
    no_blocks_from(count, out);
    out->d = strided_halves(p, 22, count);
}

STK_INLINE void load_q5_1(const uint8_t *p, uint32_t count, eight_blocks *out)
{
    for (uint32_t b = 0; b < count; b++)
        out->q[b] = _mm256_or_si256(nibbles_in_order(p + 24 * b + 8), fifth_bits(p + 24 * b + 4));
    no_blocks_from(count, out);
    out->d = strided_halves(p, 24, count);
    out->m = _mm256_xor_ps(strided_halves(p + 2, 24, count), _mm256_set1_ps(-0.0f));
}

STK_INLINE void load_q4_0(const uint8_t *p, uint32_t count, eight_blocks *out)
{
    for (uint32_t b = 0; b < count; b++)
        out->q[b] = _mm256_sub_epi8(nibbles_in_order(p + 18 * b + 2), _mm256_set1_epi8(8));
    no_blocks_from(count, out);
    out->d = strided_halves(p, 18, count);
}

STK_INLINE __m256i levels_in_order(const uint8_t *p)
{
    const __m256i levels = _mm256_broadcastsi128_si256(
        _mm_setr_epi8(-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113));
    return _mm256_shuffle_epi8(levels, nibbles_in_order(p));
}

STK_INLINE void load_iq4_nl(const uint8_t *p, uint32_t count, eight_blocks *out)
{
    for (uint32_t b = 0; b < count; b++)
        out->q[b] = levels_in_order(p + 18 * b + 2);
    no_blocks_from(count, out);
    out->d = strided_halves(p, 18, count);
}

STK_INLINE void load_iq4_xs(const uint8_t *p, uint32_t count, eight_blocks *out)
{
    (void)count;
    for (int b = 0; b < 8; b++)
        out->q[b] = levels_in_order(p + 8 + 16 * b);
    uint32_t low, high = stk_load_u16(p + 2);
    memcpy(&low, p + 4, sizeof low);
    __m256i lows = _mm256_srlv_epi32(_mm256_set1_epi32((int)low),
                                     _mm256_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28));
    __m256i tops = _mm256_srlv_epi32(_mm256_set1_epi32((int)high),
                                     _mm256_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14));
    lows = _mm256_and_si256(lows, _mm256_set1_epi32(15));
    tops = _mm256_slli_epi32(_mm256_and_si256(tops, _mm256_set1_epi32(3)), 4);
    __m256i scales = _mm256_sub_epi32(_mm256_or_si256(lows, tops), _mm256_set1_epi32(32));
    out->d = _mm256_mul_ps(_mm256_set1_ps(_cvtsh_ss(stk_load_u16(p))), _mm256_cvtepi32_ps(scales));
}

STK_INLINE void load_mxfp4(const uint8_t *p, uint32_t count, eight_blocks *out)
{
    const __m256i doubled = _mm256_broadcastsi128_si256(
        _mm_setr_epi8(0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12));
    uint32_t halved[8] = {0}; // the bits of 2^(exponent - 128)
    for (uint32_t b = 0; b < count; b++) {
        uint32_t exponent = p[17 * b];
        halved[b] = exponent < 2 ? 0x200000u << exponent : (exponent - 1) << 23;
        out->q[b] = _mm256_shuffle_epi8(doubled, nibbles_in_order(p + 17 * b + 1));
    }
    no_blocks_from(count, out);
    out->d = _mm256_castsi256_ps(load32((const uint8_t *)halved));
}

STK_INLINE void load_q4_k(const uint8_t *p, uint32_t count, eight_blocks *out)
{
    (void)count;
    for (int b = 0; b < 8; b += 2) {
        __m256i pair = load32(p + 16 + 16 * b);
        out->q[b] = low_nibbles(pair);
        out->q[b + 1] = high_nibbles(pair);
    }
    load_scales_minima(p, &out->d, &out->m);
}

STK_INLINE void load_q5_k(const uint8_t *p, uint32_t count, eight_blocks *out)
{
    (void)count;
    __m256i fifth = load32(p + 16);
    const __m256i bit = _mm256_set1_epi8(16);
    for (int b = 0; b < 8; b += 2) {
        __m256i pair = load32(p + 48 + 16 * b);
        __m256i even = b < 4 ? _mm256_slli_epi16(fifth, 4 - b) : _mm256_srli_epi16(fifth, b - 4);
        __m256i odd = b < 3 ? _mm256_slli_epi16(fifth, 3 - b) : _mm256_srli_epi16(fifth, b + 1 - 4);
        out->q[b] = _mm256_or_si256(low_nibbles(pair), _mm256_and_si256(even, bit));
        out->q[b + 1] = _mm256_or_si256(high_nibbles(pair), _mm256_and_si256(odd, bit));
    }
    load_scales_minima(p, &out->d, &out->m);
}

// Sixteen signed bytes, scale s of half s % 2 of block s / 2, in the order of `sub`.
STK_INLINE void spread_sub_scales(__m128i scales, eight_blocks *out)
{
    const __m128i order = _mm_setr_epi8(0, 2, 4, 6, 1, 3, 5, 7, 8, 10, 12, 14, 9, 11, 13, 15);
    scales = _mm_shuffle_epi8(scales, order);
    out->sub[0] = _mm256_cvtepi8_epi32(scales);
    out->sub[1] = _mm256_cvtepi8_epi32(_mm_srli_si128(scales, 8));
}

STK_INLINE void load_q6_k(const uint8_t *p, uint32_t count, eight_blocks *out)
{
    (void)count;
    const __m256i two = _mm256_set1_epi8(0x30), bias = _mm256_set1_epi8(32);
    for (int half = 0; half < 2; half++) {
        __m256i first = load32(p + 64 * half), second = load32(p + 64 * half + 32);
        __m256i high = load32(p + 128 + 32 * half);
        __m256i *q = out->q + 4 * half;
        q[0] = _mm256_or_si256(low_nibbles(first),
                               _mm256_and_si256(_mm256_slli_epi16(high, 4), two));
        q[1] = _mm256_or_si256(low_nibbles(second),
                               _mm256_and_si256(_mm256_slli_epi16(high, 2), two));
        q[2] = _mm256_or_si256(high_nibbles(first), _mm256_and_si256(high, two));
        q[3] = _mm256_or_si256(high_nibbles(second),
                               _mm256_and_si256(_mm256_srli_epi16(high, 2), two));
        for (int r = 0; r < 4; r++)
            q[r] = _mm256_sub_epi8(q[r], bias);
    }
    spread_sub_scales(load16(p + 192), out);
    out->d = _mm256_set1_ps(_cvtsh_ss(stk_load_u16(p + 208)));
}

STK_INLINE void load_q3_k(const uint8_t *p, uint32_t count, eight_blocks *out)
{
    (void)count;
    const __m256i two = _mm256_set1_epi8(3), four = _mm256_set1_epi8(4);
    __m256i third = load32(p);
    for (int b = 0; b < 8; b++) {
        __m256i low = _mm256_srli_epi16(load32(p + 32 + b / 4 * 32), 2 * (b % 4));
        __m256i top = b < 2 ? _mm256_slli_epi16(third, 2 - b) : _mm256_srli_epi16(third, b - 2);
        __m256i q = _mm256_or_si256(_mm256_and_si256(low, two), _mm256_and_si256(top, four));
        out->q[b] = _mm256_sub_epi8(q, four);
    }
    uint64_t low;
    uint32_t high;
    memcpy(&low, p + 96, sizeof low);
    memcpy(&high, p + 104, sizeof high);
    __m128i nibbles = _mm_and_si128(_mm_set_epi64x((long long)(low >> 4), (long long)low),
                                    _mm_set1_epi8(15));
    __m128i tops = _mm_srlv_epi32(_mm_set1_epi32((int)high), _mm_setr_epi32(0, 2, 4, 6));
    tops = _mm_slli_epi16(_mm_and_si128(tops, _mm_set1_epi8(3)), 4);
    spread_sub_scales(_mm_sub_epi8(_mm_or_si128(nibbles, tops), _mm_set1_epi8(32)), out);
    out->d = _mm256_set1_ps(_cvtsh_ss(stk_load_u16(p + 108)));
}

STK_INLINE __m256i pair_products(blocks_of type, __m256i w, __m256i x)
{
    return type.is_unsigned ? _mm256_maddubs_epi16(w, x)
                            : _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(x, w));
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
    (void)sums;
    const __m256i ones = _mm256_set1_epi16(1);
    __m256i s[8], half[2];
    for (uint32_t b = 0; b < 8; b++) {
        __m256i x = b < count ? load32((const uint8_t *)q + 32 * b) : _mm256_setzero_si256();
        s[b] = pair_products(type, w->q[b], x);
    }
    for (int i = 0; i < 2; i++) {
        __m256i *t = s + 4 * i;
        if (type.is_wide) {
            for (int b = 0; b < 4; b++)
                t[b] = _mm256_madd_epi16(t[b], ones);
            half[i] = _mm256_hadd_epi32(_mm256_hadd_epi32(t[0], t[1]),
                                        _mm256_hadd_epi32(t[2], t[3]));
        } else { // at most 2*4*32*127 = 32512
            __m256i u = _mm256_hadd_epi16(_mm256_hadd_epi16(t[0], t[1]),
                                          _mm256_hadd_epi16(t[2], t[3]));
            half[i] = _mm256_madd_epi16(u, ones);
        }
        if (type.has_sub)
            half[i] = _mm256_mullo_epi32(half[i], w->sub[i]);
    }
    return _mm256_add_epi32(_mm256_permute2x128_si256(half[0], half[1], 0x20),
                            _mm256_permute2x128_si256(half[0], half[1], 0x31));
}

#endif
