// Q8_0: 32 values per block; a half scale, then 32 signed bytes.
#include "model/types/codec.h"

#include <math.h>

enum { LEN = 32, BYTES = 34 };

static void unpack32(const void *row, size_t index, stk_block32 *out)
{
    const uint8_t *p = (const uint8_t *)row + index * BYTES;
    out->d = stk_codec_half(p);
    out->m = 0;
    for (size_t j = 0; j < LEN; j++)
        out->q[j] = (int8_t)p[2 + j];
}

static void dequantize(const void *row, float *out, size_t count)
{
    stk_codec_dequantize(unpack32, row, out, count);
}

// Halves round away from zero; NaN becomes 0.
static int8_t round_to_byte(float scaled)
{
    float rounded = roundf(scaled);
    if (!(rounded >= -127))
        return rounded < 0 ? -127 : 0;
    return rounded < 127 ? (int8_t)rounded : 127;
}

static void quantize_block(const float *in, uint8_t *p)
{
    float amax = 0;
    for (size_t j = 0; j < LEN; j++) {
        if (fabsf(in[j]) > amax)
            amax = fabsf(in[j]);
    }
    float d = amax / 127, inverse = d != 0 ? 1 / d : 0;
    stk_codec_store_u16(p, stk_half_from_float(d));
    for (size_t j = 0; j < LEN; j++)
        p[2 + j] = (uint8_t)round_to_byte(in[j] * inverse);
}

static void quantize(const float *in, void *row, size_t count)
{
    for (size_t i = 0; i < count / LEN; i++)
        quantize_block(in + i * LEN, (uint8_t *)row + i * BYTES);
}

const stk_type stk_type_q8_0 = {
    .name = "Q8_0",
    .gguf_id = 8,
    .block_len = LEN,
    .block_bytes = BYTES,
    .unpack32 = unpack32,
    .dequantize = dequantize,
    .quantize = quantize,
};
