// cpu/x86/dot_avxvnni.h: integer products of a block of 32 values, AVX-VNNI.
//
// w[c] holds values 4c..4c+3 of eight outputs, of Q4_0 as nibbles, of Q8_0 as load_bytes left them.
// vpdpbusd adds four byte products to 32 bits and saturates nothing.
#ifndef STK_CPU_X86_DOT_AVXVNNI_H
#define STK_CPU_X86_DOT_AVXVNNI_H

#include "cpu/x86/x8.h"

enum { BYTES_BIAS = 128 }; // what load_bytes adds to a value

static inline __m256i load_bytes(const uint8_t *p)
{
    return _mm256_xor_si256(load32(p), _mm256_set1_epi8((char)0x80));
}

// Two chains: one alone would wait for itself.
static inline __m256i dot_nibbles(const __m256i w[8], const int8_t *q, __m256i start)
{
    __m256i other = _mm256_set1_epi32(0);
    for (int c = 0; c < 8; c += 2) {
        start = _mm256_dpbusd_avx_epi32(start, w[c], broadcast4(q + 4 * c));
        other = _mm256_dpbusd_avx_epi32(other, w[c + 1], broadcast4(q + 4 * c + 4));
    }
    return _mm256_add_epi32(start, other);
}

static inline __m256i dot_bytes(const __m256i w[8], const int8_t *q, __m256i start)
{
    return dot_nibbles(w, q, start);
}

#endif
