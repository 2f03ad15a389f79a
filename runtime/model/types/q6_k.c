// Q6_K: 256 values per block in 16 sub-blocks of 16, each with a signed byte as its scale.
//
//   0    128 bytes  low four bits
//   128  64 bytes   high two bits
//   192  16 bytes   scales
//   208  d   half
//
// Each half of the block (128 values) has 64 bytes of low bits, 32 of high bits and 8 scales. Run g
// (0..3) of 32 values takes its low bits from bytes 32 * (g % 2) on, nibble g / 2, and its high
// bits from bit 2 * g of the 32 bytes. The scale is folded into q: 32 values have two of them.
#include "model/types/codec.h"

enum { LEN = 256, BYTES = 210 };

static void unpack32(const void *row, size_t index, stk_block32 *out)
{
    const uint8_t *p = (const uint8_t *)row + index / 8 * BYTES;
    size_t half = index % 8 / 4, run = index % 4;
    const uint8_t *low = p + half * 64 + run % 2 * 32;
    const uint8_t *high = p + 128 + half * 32;
    const uint8_t *scales = p + 192 + half * 8 + run * 2;
    out->d = stk_codec_half(p + 208);
    out->m = 0;
    for (size_t j = 0; j < 32; j++) {
        int value = (low[j] >> (run / 2 * 4) & 15) | (high[j] >> (run * 2) & 3) << 4;
        out->q[j] = (int16_t)((value - 32) * (int8_t)scales[j / 16]);
    }
}

static void dequantize(const void *row, float *out, size_t count)
{
    stk_codec_dequantize(unpack32, row, out, count);
}

const stk_type stk_type_q6_k = {
    .name = "Q6_K",
    .gguf_id = 14,
    .block_len = LEN,
    .block_bytes = BYTES,
    .unpack32 = unpack32,
    .dequantize = dequantize,
};
