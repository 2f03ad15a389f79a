// Q5_0: 32 values per block; a half scale, a 32-bit word with the fifth bit of value j at bit j,
// then nibbles as in Q4_0; biased by 16.
#include "model/types/codec.h"

enum { LEN = 32, BYTES = 22 };

static void unpack32(const void *row, size_t index, stk_block32 *out)
{
    const uint8_t *p = (const uint8_t *)row + index * BYTES;
    uint32_t fifth = stk_load_u16(p + 2) | (uint32_t)stk_load_u16(p + 4) << 16;
    out->d = stk_codec_half(p);
    out->m = 0;
    for (size_t j = 0; j < 16; j++) {
        out->q[j] = (int16_t)((int)((p[6 + j] & 15) | (fifth >> j & 1) << 4) - 16);
        out->q[j + 16] = (int16_t)((int)(p[6 + j] >> 4 | (fifth >> (j + 16) & 1) << 4) - 16);
    }
}

static void dequantize(const void *row, float *out, size_t count)
{
    stk_codec_dequantize(unpack32, row, out, count);
}

const stk_type stk_type_q5_0 = {
    .name = "Q5_0",
    .gguf_id = 6,
    .block_len = LEN,
    .block_bytes = BYTES,
    .unpack32 = unpack32,
    .dequantize = dequantize,
};
