// IQ4_NL: 32 values per block; a half scale, then nibbles placed as in Q4_0 that index a table of
// levels, denser around zero.
#include "model/types/codec.h"

enum { LEN = 32, BYTES = 18 };

static const int8_t levels[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                  1,    13,   25,  38,  53,  69,  89,  113};

static void unpack32(const void *row, size_t index, stk_block32 *out)
{
    const uint8_t *p = (const uint8_t *)row + index * BYTES;
    out->d = stk_codec_half(p);
    out->m = 0;
    for (size_t j = 0; j < 16; j++) {
        out->q[j] = levels[p[2 + j] & 15];
        out->q[j + 16] = levels[p[2 + j] >> 4];
    }
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
