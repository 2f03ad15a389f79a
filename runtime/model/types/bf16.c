// BF16: the upper half of an IEEE single.
#include "model/types/codec.h"

static void dequantize(const void *row, float *out, size_t count)
{
    const uint8_t *p = row;
    for (size_t i = 0; i < count; i++)
        out[i] = stk_bfloat_to_float(stk_load_u16(p + 2 * i));
}

// Rounds to nearest, ties to even; NaN keeps its sign and stays NaN.
static uint16_t bfloat_from_float(float f)
{
    uint32_t bits = stk_float_bits(f);
    if ((bits & 0x7fffffffu) > 0x7f800000u)
        return (uint16_t)(bits >> 16 | 0x40u);
    return (uint16_t)((bits + 0x7fffu + (bits >> 16 & 1)) >> 16);
}

static void quantize(const float *in, void *row, size_t count)
{
    uint8_t *p = row;
    for (size_t i = 0; i < count; i++)
        stk_codec_store_u16(p + 2 * i, bfloat_from_float(in[i]));
}

const stk_type stk_type_bf16 = {
    .name = "BF16",
    .gguf_id = 30,
    .block_len = 1,
    .block_bytes = 2,
    .dequantize = dequantize,
    .quantize = quantize,
};
