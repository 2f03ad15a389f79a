// cpu/x86/x8.h: eight outputs side by side, one in each 32-bit lane of an AVX register.
#ifndef STK_CPU_X86_X8_H
#define STK_CPU_X86_X8_H

#include <immintrin.h>
#include <stdint.h>

enum { LANES = 8 };

static inline __m256i load32(const uint8_t *p)
{
    return _mm256_loadu_si256((const __m256i *)p);
}

static inline __m256 load_halves(const uint8_t *p)
{
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p));
}

static inline __m256i low_nibbles(__m256i a)
{
    return _mm256_and_si256(a, _mm256_set1_epi8(15));
}

static inline __m256i high_nibbles(__m256i a)
{
    return low_nibbles(_mm256_srli_epi16(a, 4));
}

static inline __m256i broadcast4(const int8_t *q)
{
    return _mm256_set1_epi32(*(const int32_t *)(const void *)q);
}

#endif
