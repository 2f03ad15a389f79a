// Q4_K: 256 values per block in 8 sub-blocks of 32, each with a 6-bit scale and a 6-bit minimum.
//
//   0   d      half  scale of the scales
//   2   dmin   half  scale of the minima
//   4   12 bytes     scales and minima (stk_codec_scale_min)
//   16  128 bytes    32 bytes per pair of sub-blocks, the even one in the low nibbles
#include "model/types/codec.h"

enum { LEN = 256, BYTES = 144 };

static void unpack32(const void *row, size_t index, stk_block32 *out)
{
    const uint8_t *p = (const uint8_t *)row + index / 8 * BYTES;
    size_t sub = index % 8;
    uint8_t scale, min;
    stk_codec_scale_min(p + 4, sub, &scale, &min);
    out->d = stk_codec_half(p) * (float)scale;
    out->m = stk_codec_half(p + 2) * (float)min;

    const uint8_t *nibbles = p + 16 + sub / 2 * 32;
    for (size_t j = 0; j < 32; j++)
        out->q[j] = nibbles[j] >> (sub % 2 * 4) & 15;
}

static void dequantize(const void *row, float *out, size_t count)
{
    stk_codec_dequantize(unpack32, row, out, count);
}

const stk_type stk_type_q4_k = {
    .name = "Q4_K",
    .gguf_id = 12,
    .block_len = LEN,
    .block_bytes = BYTES,
    .unpack32 = unpack32,
    .dequantize = dequantize,
};
