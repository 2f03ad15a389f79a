// F16: IEEE half precision.
#include "model/types/codec.h"

static void dequantize(const void *row, float *out, size_t count)
{
    const uint8_t *p = row;
    for (size_t i = 0; i < count; i++)
        out[i] = stk_codec_half(p + 2 * i);
}

static void quantize(const float *in, void *row, size_t count)
{
    uint8_t *p = row;
    for (size_t i = 0; i < count; i++)
        stk_codec_store_u16(p + 2 * i, stk_half_from_float(in[i]));
}

const stk_type stk_type_f16 = {
    .name = "F16",
    .gguf_id = 1,
    .block_len = 1,
    .block_bytes = 2,
    .dequantize = dequantize,
    .quantize = quantize,
};
