// IQ4_XS: 256 values per block in 8 sub-blocks of 32, each with a 6-bit scale biased by 32; nibbles
// index the levels of IQ4_NL.
//
//   0   d     half
//   2   2 bytes    the top two bits of scale s at bit 2 * s
//   4   4 bytes    the low four bits of scale s in byte s / 2, of even s in the low nibble
//   8   128 bytes  16 bytes per sub-block, nibbles placed as in Q4_0
#include "model/types/codec.h"

enum { LEN = 256, BYTES = 136 };

static int scale_of(const uint8_t *p, size_t s)
{
    int top = (p[2] | p[3] << 8) >> (2 * s) & 3;
    return ((p[4 + s / 2] >> s % 2 * 4 & 15) | top << 4) - 32;
}

static void unpack32(const void *row, size_t index, stk_block32 *out)
{
    const uint8_t *p = (const uint8_t *)row + index / 8 * BYTES;
    size_t sub = index % 8;
    out->d = stk_codec_half(p) * (float)scale_of(p, sub);
    out->m = 0;
    stk_codec_levels(p + 8 + 16 * sub, out->q);
}

static void dequantize(const void *row, float *out, size_t count)
{
    stk_codec_dequantize(unpack32, row, out, count);
}

const stk_type stk_type_iq4_xs = {
    .name = "IQ4_XS",
    .gguf_id = 23,
    .block_len = LEN,
    .block_bytes = BYTES,
    .unpack32 = unpack32,
    .dequantize = dequantize,
};
