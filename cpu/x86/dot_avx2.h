// cpu/x86/dot_avx2.h: integer products of a block of 32 values, AVX2.
//
// w[c] holds values 4c..4c+3 of eight outputs, of Q4_0 as nibbles, of Q8_0 as load_bytes left them.
// maddubs sums byte products in pairs, in 16 bits and with saturation, which is never reached: a
// nibble times an int8 is at most 15*127, so even the eight pairs of a block stay below 30481; a
// pair of Q8_0, whose weights give their signs to x, is at most 2*128*127 = 32512 and is widened
// at once.
#ifndef STK_CPU_X86_DOT_AVX2_H
#define STK_CPU_X86_DOT_AVX2_H

#include "cpu/x86/x8.h"

enum { BYTES_BIAS = 0 }; // what load_bytes adds to a value

static inline __m256i load_bytes(const uint8_t *p)
{
    return load32(p);
}

static inline __m256i dot_nibbles(const __m256i w[8], const int8_t *q, __m256i start)
{
    __m256i sum = _mm256_maddubs_epi16(w[0], broadcast4(q));
    for (int c = 1; c < 8; c++) {
        sum = _mm256_add_epi16(sum, _mm256_maddubs_epi16(w[c], broadcast4(q + 4 * c)));
        __asm__("" : "+x"(sum)); // in this order: a tree of sums takes registers from the weights
    }
    return _mm256_add_epi32(_mm256_madd_epi16(sum, _mm256_set1_epi16(1)), start);
}

static inline __m256i dot_bytes(const __m256i w[8], const int8_t *q, __m256i start)
{
    for (int c = 0; c < 8; c++) {
        __m256i x = _mm256_sign_epi8(broadcast4(q + 4 * c), w[c]);
        __m256i pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(w[c]), x);
        start = _mm256_add_epi32(start, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
    }
    return start;
}

#endif
