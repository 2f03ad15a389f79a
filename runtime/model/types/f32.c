// F32: IEEE single precision, as it is.
#include "model/types/codec.h"

static void dequantize(const void *row, float *out, size_t count)
{
    memcpy(out, row, count * sizeof *out);
}

static void quantize(const float *in, void *row, size_t count)
{
    memcpy(row, in, count * sizeof *in);
}

const stk_type stk_type_f32 = {
    .name = "F32",
    .gguf_id = 0,
    .block_len = 1,
    .block_bytes = 4,
    .dequantize = dequantize,
    .quantize = quantize,
};
