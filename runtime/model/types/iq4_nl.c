// IQ4_NL: 32 values per block; a half scale, then nibbles placed as in Q4_0 that index a table of
// levels, denser around zero.
#include "model/types/codec.h"

enum { LEN = 32, BYTES = 18 };

static void unpack32(const void *row, size_t index, stk_block32 *out)
{
    const uint8_t *p = (const uint8_t *)row + index * BYTES;
    out->d = stk_codec_half(p);
    out->m = 0;
    stk_codec_levels(p + 2, out->q);
}

static void dequantize(const void *row, float *out, size_t count)
{
    stk_codec_dequantize(unpack32, row, out, count);
}

const stk_type stk_type_iq4_nl = {
    .name = "IQ4_NL",
    .gguf_id = 20,
    .block_len = LEN,
    .block_bytes = BYTES,
    .unpack32 = unpack32,
    .dequantize = dequantize,
};
