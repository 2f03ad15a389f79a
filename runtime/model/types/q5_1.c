// Q5_1: 32 values per block; a half scale, a half offset that is added, a 32-bit word with the
// fifth bit of value j at bit j, then nibbles as in Q4_0; no bias.
#include "model/types/codec.h"

enum { LEN = 32, BYTES = 24 };

static void unpack32(const void *row, size_t index, stk_block32 *out)
{
    const uint8_t *p = (const uint8_t *)row + index * BYTES;
    uint32_t fifth = stk_load_u16(p + 4) | (uint32_t)stk_load_u16(p + 6) << 16;
    out->d = stk_codec_half(p);
    out->m = -stk_codec_half(p + 2);
    for (size_t j = 0; j < 16; j++) {
        out->q[j] = (int16_t)((p[8 + j] & 15) | (fifth >> j & 1) << 4);
        out->q[j + 16] = (int16_t)(p[8 + j] >> 4 | (fifth >> (j + 16) & 1) << 4);
    }
}

static void dequantize(const void *row, float *out, size_t count)
{
    stk_codec_dequantize(unpack32, row, out, count);
}

const stk_type stk_type_q5_1 = {
    .name = "Q5_1",
    .gguf_id = 7,
    .block_len = LEN,
    .block_bytes = BYTES,
    .unpack32 = unpack32,
    .dequantize = dequantize,
};
