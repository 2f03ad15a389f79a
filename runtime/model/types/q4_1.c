// Q4_1: 32 values per block; a half scale, a half offset that is added, then nibbles as in Q4_0
// but without bias.
#include "model/types/codec.h"

enum { LEN = 32, BYTES = 20 };

static void unpack32(const void *row, size_t index, stk_block32 *out)
{
    const uint8_t *p = (const uint8_t *)row + index * BYTES;
    out->d = stk_codec_half(p);
    out->m = -stk_codec_half(p + 2);
    for (size_t j = 0; j < 16; j++) {
        out->q[j] = p[4 + j] & 15;
        out->q[j + 16] = p[4 + j] >> 4;
    }
}

static void dequantize(const void *row, float *out, size_t count)
{
    stk_codec_dequantize(unpack32, row, out, count);
}

const stk_type stk_type_q4_1 = {
    .name = "Q4_1",
    .gguf_id = 3,
    .block_len = LEN,
    .block_bytes = BYTES,
    .unpack32 = unpack32,
    .dequantize = dequantize,
};
