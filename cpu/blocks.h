// cpu/blocks.h: eight blocks of 32 weights at a time, as a file holds them.
//
// Eight, because section 2 of docs/arithmetic.md adds block b to accumulator b mod 8: with block b
// in lane b the eight accumulators are a register or two, and 256 values are a K-quant's whole
// block. An instruction set says in its blocks_*.h what the blocks look like in registers (struct
// eight_blocks), how they are loaded, and what eight_floats are.
#ifndef STK_CPU_BLOCKS_H
#define STK_CPU_BLOCKS_H

#include "cpu/cpu.h"
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

// The eight 6-bit scales and minima of Q4_K and Q5_K, a byte each, from the twelve bytes that hold
// them (model/types/codec.h).
STK_INLINE void unpack_scales_minima(const uint8_t packed[12], uint64_t *scales, uint64_t *minima)
{
    const uint32_t six = 0x3f3f3f3f, four = 0x0f0f0f0f, two = 0x03030303;
    uint32_t w[3];
    memcpy(w, packed, sizeof w);
    *scales = (w[0] & six) | (uint64_t)((w[2] & four) | (w[0] >> 6 & two) << 4) << 32;
    *minima = (w[1] & six) | (uint64_t)((w[2] >> 4 & four) | (w[1] >> 6 & two) << 4) << 32;
}

#endif
