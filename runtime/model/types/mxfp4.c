// MXFP4 (OCP microscaling formats, E2M1 elements, E8M0 scale): 32 values per block; a power-of-two
// exponent biased by 127, then nibbles placed as in Q4_0.
//
// E2M1 has the magnitudes 0, 0.5, 1, 1.5, 2, 3, 4, 6: doubled they are integers, so d is half the
// block's scale.
#include "model/types/codec.h"

enum { LEN = 32, BYTES = 17 };

static const int8_t doubled[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

// 2^(exponent - 128): below 2 the result is a denormal.
static float half_scale(uint8_t exponent)
{
    return stk_float_from_bits(exponent < 2 ? 0x200000u << exponent
                                            : (uint32_t)(exponent - 1) << 23);
}

static void unpack32(const void *row, size_t index, stk_block32 *out)
{
    const uint8_t *p = (const uint8_t *)row + index * BYTES;
    out->d = half_scale(p[0]);
    out->m = 0;
    for (size_t j = 0; j < 16; j++) {
        out->q[j] = doubled[p[1 + j] & 15];
        out->q[j + 16] = doubled[p[1 + j] >> 4];
    }
}

static void dequantize(const void *row, float *out, size_t count)
{
    stk_codec_dequantize(unpack32, row, out, count);
}

const stk_type stk_type_mxfp4 = {
    .name = "MXFP4",
    .gguf_id = 39,
    .block_len = LEN,
    .block_bytes = BYTES,
    .unpack32 = unpack32,
    .dequantize = dequantize,
};
