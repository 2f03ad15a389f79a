// Q4_0: 32 values per block; a half scale, then 16 bytes: byte j holds value j in its low nibble
// and value j + 16 in its high one, each biased by 8.
#include "model/types/codec.h"

#include <math.h>

enum { LEN = 32, BYTES = 18 };

static void unpack32(const void *row, size_t index, stk_block32 *out)
{
    const uint8_t *p = (const uint8_t *)row + index * BYTES;
    out->d = stk_codec_half(p);
    out->m = 0;
    for (size_t j = 0; j < 16; j++) {
        out->q[j] = (int16_t)((p[2 + j] & 15) - 8);
        out->q[j + 16] = (int16_t)((p[2 + j] >> 4) - 8);
    }
}

static void dequantize(const void *row, float *out, size_t count)
{
    stk_codec_dequantize(unpack32, row, out, count);
}

// Written so that NaN and infinity give some nibble, never undefined behaviour.
static uint8_t nibble(float scaled)
{
    float biased = scaled + 8.5f;
    if (!(biased > 0))
        return 0;
    return biased < 15 ? (uint8_t)biased : 15;
}

// The value of largest magnitude becomes -8, whatever its sign, because the range is -8..7.
static void quantize_block(const float *in, uint8_t *p)
{
    float extreme = 0;
    for (size_t j = 0; j < LEN; j++) {
        if (fabsf(in[j]) > fabsf(extreme))
            extreme = in[j];
    }
    float d = extreme / -8, inverse = d != 0 ? 1 / d : 0;
    stk_codec_store_u16(p, stk_half_from_float(d));
    for (size_t j = 0; j < 16; j++) {
        unsigned low = nibble(in[j] * inverse), high = nibble(in[j + 16] * inverse);
        p[2 + j] = (uint8_t)(low | high << 4);
    }
}

static void quantize(const float *in, void *row, size_t count)
{
    for (size_t i = 0; i < count / LEN; i++)
        quantize_block(in + i * LEN, (uint8_t *)row + i * BYTES);
}

const stk_type stk_type_q4_0 = {
    .name = "Q4_0",
    .gguf_id = 2,
    .block_len = LEN,
    .block_bytes = BYTES,
    .unpack32 = unpack32,
    .dequantize = dequantize,
    .quantize = quantize,
};
