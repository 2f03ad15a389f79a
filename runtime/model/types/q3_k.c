// Q3_K: 256 values per block in 16 sub-blocks of 16, each with a 6-bit scale biased by 32.
//
//   0    32 bytes  third bits: bit r of byte j belongs to value j of run r (0..7) of 32 values;
//                  a cleared bit subtracts 4
//   32   64 bytes  low two bits: 32 bytes per half of the block, run r % 4 at bit 2 * (r % 4)
//   96   12 bytes  scales: low nibbles of scales 0..7, high nibbles 8..15 in bytes 0..7, then the
//                  top two bits of scale s in byte 8 + s % 4 at bit 2 * (s / 4)
//   108  d   half
#include "model/types/codec.h"

enum { LEN = 256, BYTES = 110 };

static int scale_of(const uint8_t packed[12], size_t s)
{
    int low = packed[s % 8] >> (s / 8 * 4) & 15;
    int high = packed[8 + s % 4] >> (s / 4 * 2) & 3;
    return (low | high << 4) - 32;
}

static void unpack32(const void *row, size_t index, stk_block32 *out)
{
    const uint8_t *p = (const uint8_t *)row + index / 8 * BYTES;
    size_t run = index % 8;
    const uint8_t *third = p, *low = p + 32 + run / 4 * 32;
    int scales[2] = {scale_of(p + 96, 2 * run), scale_of(p + 96, 2 * run + 1)};
    out->d = stk_codec_half(p + 108);
    out->m = 0;
    for (size_t j = 0; j < 32; j++) {
        int value = (low[j] >> (run % 4 * 2) & 3) - (third[j] >> run & 1 ? 0 : 4);
        out->q[j] = (int16_t)(value * scales[j / 16]);
    }
}

static void dequantize(const void *row, float *out, size_t count)
{
    stk_codec_dequantize(unpack32, row, out, count);
}

const stk_type stk_type_q3_k = {
    .name = "Q3_K",
    .gguf_id = 11,
    .block_len = LEN,
    .block_bytes = BYTES,
    .unpack32 = unpack32,
    .dequantize = dequantize,
};
