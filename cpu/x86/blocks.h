// cpu/x86/blocks.h: eight blocks of 32 weights at a time, as a file holds them.
//
// Eight, because section 2 of docs/arithmetic.md adds block b to accumulator b mod 8: with block b
// in lane b the eight accumulators are one register, and 256 values are a K-quant's whole block.
// What the blocks look like in registers is the instruction set's: blocks_avx2.h, blocks_avx512.h.
#ifndef STK_CPU_X86_BLOCKS_H
#define STK_CPU_X86_BLOCKS_H

#include "base/half.h"
#include "cpu/cpu.h"
#include "cpu/x86/x8.h"
#include <stdbool.h>
#include <string.h>

#define STK_INLINE static inline __attribute__((always_inline))

typedef struct eight_blocks eight_blocks;

// p: the first block. count: how many there are, 8 but at the end of a row of a type whose blocks
// have 32 values; the others become zero.
typedef void (*load_blocks_fn)(const uint8_t *p, uint32_t count, eight_blocks *out);

// What tells one type from another. Always a constant, so that nothing of it is left at run time.
typedef struct blocks_of {
    load_blocks_fn load;
    uint32_t bytes;   // of one block of 32; of eight, where they come together only
    bool is_super;    // they do: K-quants
    bool is_unsigned; // weights are, and there are minima
    bool has_sub;     // two scales per block
    bool is_wide;     // weights are beyond -32..32
} blocks_of;

STK_INLINE size_t blocks_at(blocks_of type, uint32_t block)
{
    return type.is_super ? (size_t)(block / 8) * type.bytes : (size_t)block * type.bytes;
}

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

// The eight 6-bit scales and minima of Q4_K and Q5_K (model/types/codec.h), times d and dmin.
STK_INLINE void scales_minima(const uint8_t *p, __m256 *scales_out, __m256 *minima_out)
{
    const uint32_t six = 0x3f3f3f3f, four = 0x0f0f0f0f, two = 0x03030303;
    uint32_t w[3];
    memcpy(w, p + 4, sizeof w);
    uint64_t scales = (w[0] & six) | (uint64_t)((w[2] & four) | (w[0] >> 6 & two) << 4) << 32;
    uint64_t minima = (w[1] & six) | (uint64_t)((w[2] >> 4 & four) | (w[1] >> 6 & two) << 4) << 32;
    __m256i s = _mm256_cvtepu8_epi32(_mm_cvtsi64_si128((long long)scales));
    __m256i m = _mm256_cvtepu8_epi32(_mm_cvtsi64_si128((long long)minima));
    *scales_out = _mm256_mul_ps(_mm256_set1_ps(_cvtsh_ss(stk_load_u16(p))), _mm256_cvtepi32_ps(s));
    *minima_out = _mm256_mul_ps(_mm256_set1_ps(_cvtsh_ss(stk_load_u16(p + 2))),
                                _mm256_cvtepi32_ps(m));
}

#endif
