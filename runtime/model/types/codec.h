// model/types/codec.h: what the codecs of model/types/*.c share. Private to that folder.
//
// Rows may start at any address: blocks are 18, 34 or 210 bytes long, so nothing in them is
// aligned and every multi-byte field goes through memcpy.
#ifndef STK_MODEL_TYPES_CODEC_H
#define STK_MODEL_TYPES_CODEC_H

#include "base/half.h"
#include "model/types.h"

// Dequantises through the integer view, which is the definition of a type's values. d has at most
// 19 significant bits and d * q at most 24, so the product is exact and the subtraction of m is
// the only rounding.
static inline void stk_codec_dequantize(void (*unpack32)(const void *, size_t, stk_block32 *),
                                        const void *row, float *out, size_t count)
{
    for (size_t i = 0; i < count / 32; i++) {
        stk_block32 block;
        unpack32(row, i, &block);
        for (size_t j = 0; j < 32; j++)
            out[32 * i + j] = block.d * (float)block.q[j] - block.m;
    }
}

static inline float stk_codec_half(const uint8_t *p)
{
    return stk_half_to_float(stk_load_u16(p));
}

static inline void stk_codec_store_u16(uint8_t *p, uint16_t value)
{
    memcpy(p, &value, sizeof value);
}

// The 6-bit scale and minimum of sub-block j (0..7) in the 12 bytes that Q4_K and Q5_K share:
// 0..3 lie in the low six bits of bytes j and j + 4; 4..7 have their low four bits in byte j + 4
// and their top two in what is left of bytes j - 4 and j.
static inline void stk_codec_scale_min(const uint8_t packed[12], size_t j, uint8_t *scale,
                                       uint8_t *min)
{
    if (j < 4) {
        *scale = packed[j] & 63;
        *min = packed[j + 4] & 63;
    } else {
        *scale = (uint8_t)((packed[j + 4] & 15) | packed[j - 4] >> 6 << 4);
        *min = (uint8_t)(packed[j + 4] >> 4 | packed[j] >> 6 << 4);
    }
}

// Sixteen bytes of nibbles, placed as in Q4_0, that index the levels of IQ4_NL and IQ4_XS.
static inline void stk_codec_levels(const uint8_t nibbles[16], int16_t q[32])
{
    static const int8_t levels[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                      1,    13,   25,  38,  53,  69,  89,  113};
    for (size_t j = 0; j < 16; j++) {
        q[j] = levels[nibbles[j] & 15];
        q[j + 16] = levels[nibbles[j] >> 4];
    }
}

#endif
