#include "model/synth_types.h"

#include <assert.h>
#include <stdbool.h>
#include <string.h>

enum { Q4_BYTES = 18, SUPER = 8 }; // blocks of 32 in one of a K-quant

// Layers whose tensors get the better of a mixture's two types.
static bool has_more_bits(int layer, int layers)
{
    int eighth = layers / 8;
    return layer < eighth || layer >= 7 * layers / 8 || (layer - eighth) % 3 == 2;
}

static const stk_type *wanted_type(stk_synth_weights weights, const char *name, int layer,
                                   int layers)
{
    bool is_better = strstr(name, "attn_v") || strstr(name, "ffn_down");
    switch (weights) {
    case STK_SYNTH_Q8_0:
        return &stk_type_q8_0;
    case STK_SYNTH_Q6_K:
        return &stk_type_q6_k;
    case STK_SYNTH_Q4_0:
        return layer < 0 ? &stk_type_q6_k : &stk_type_q4_0;
    case STK_SYNTH_Q4_K_M:
        return layer < 0 || (is_better && has_more_bits(layer, layers)) ? &stk_type_q6_k
                                                                        : &stk_type_q4_k;
    case STK_SYNTH_PURE_Q4_0:
        break;
    }
    return &stk_type_q4_0;
}

const stk_type *stk_synth_type(stk_synth_weights weights, const char *name, int layer, int layers,
                               uint64_t cols)
{
    const stk_type *type = wanted_type(weights, name, layer, layers);
    return cols % type->block_len == 0 ? type : &stk_type_q8_0;
}

uint32_t stk_synth_file_type(stk_synth_weights weights)
{
    switch (weights) {
    case STK_SYNTH_Q8_0:
        return 7;
    case STK_SYNTH_Q6_K:
        return 18;
    case STK_SYNTH_Q4_K_M:
        return 15;
    case STK_SYNTH_Q4_0:
    case STK_SYNTH_PURE_Q4_0:
        break;
    }
    return 2;
}

// Value i of a block of Q4_0, before its bias of 8 is taken off.
static uint8_t nibble(const uint8_t *block, int i)
{
    return i < 16 ? block[2 + i] & 15 : block[2 + i - 16] >> 4;
}

static void to_q8_0(const uint8_t *q4, uint8_t *out)
{
    memcpy(out, q4, 2);
    for (int i = 0; i < 32; i++)
        out[2 + i] = (uint8_t)(nibble(q4, i) - 8);
}

// The scales of eight blocks are equal, those of the sub-blocks 1 and the minima 8: d*q - 8*d.
static void to_q4_k(const uint8_t *q4, uint8_t *out)
{
    static const uint8_t packed[12] = {1, 1, 1, 1, 8, 8, 8, 8, 0x81, 0x81, 0x81, 0x81};
    memcpy(out, q4, 2);
    memcpy(out + 2, q4, 2);
    memcpy(out + 4, packed, sizeof packed);
    for (int b = 0; b < SUPER; b += 2, q4 += 2 * Q4_BYTES)
        for (int i = 0; i < 32; i++)
            out[16 + 16 * b + i] = (uint8_t)(nibble(q4, i) | nibble(q4 + Q4_BYTES, i) << 4);
}

// The scales of the sub-blocks are 1, and 24 takes the bias of 8 to that of 32.
static void to_q6_k(const uint8_t *q4, uint8_t *out)
{
    memset(out, 0, 192);
    memset(out + 192, 1, 16);
    memcpy(out + 208, q4, 2);
    for (int b = 0; b < SUPER; b++, q4 += Q4_BYTES) {
        uint8_t *low = out + b / 4 * 64 + b % 2 * 32, *high = out + 128 + b / 4 * 32;
        for (int i = 0; i < 32; i++) {
            int value = nibble(q4, i) + 24;
            low[i] |= (uint8_t)((value & 15) << (b % 4 / 2 * 4));
            high[i] |= (uint8_t)(value >> 4 << (b % 4 * 2));
        }
    }
}

void stk_synth_transcode(const stk_type *type, const uint8_t *q4, uint64_t blocks, uint8_t *out)
{
    void (*rewrite)(const uint8_t *, uint8_t *) = type == &stk_type_q8_0   ? to_q8_0
                                                  : type == &stk_type_q4_k ? to_q4_k
                                                                           : to_q6_k;
    uint64_t step = type->block_len / 32;
    if (type == &stk_type_q4_0) {
        memcpy(out, q4, blocks * Q4_BYTES);
        return;
    }
    assert(type == &stk_type_q8_0 || type == &stk_type_q4_k || type == &stk_type_q6_k);
    for (uint64_t b = 0; b < blocks; b += step, q4 += step * Q4_BYTES, out += type->block_bytes)
        rewrite(q4, out);
}
