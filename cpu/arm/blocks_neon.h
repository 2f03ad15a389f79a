// cpu/arm/blocks_neon.h: cpu/blocks.h in NEON registers, with the dot-product extension.
//
// q[b] are the two halves of block b as signed bytes; d and m its scale and minimum, four blocks to
// a register. `sub` are the scales of K-quants that have two per block: of the first halves of
// blocks 0 to 3, of their second halves, and the same of blocks 4 to 7.
#ifndef STK_CPU_ARM_BLOCKS_NEON_H
#define STK_CPU_ARM_BLOCKS_NEON_H

#include "base/half.h"
#include "cpu/arm/lanes_neon.h"
#include "cpu/blocks.h"
#include <arm_neon.h>

struct eight_blocks {
    int8x16x2_t q[8];
    int32x4_t sub[4];
    float32x4x2_t d, m;
};

typedef float32x4x2_t eight_floats;

STK_INLINE eight_floats eight_zero(void)
{
    return (eight_floats){{vdupq_n_f32(0), vdupq_n_f32(0)}};
}

STK_INLINE eight_floats eight_load(const float *p)
{
    return (eight_floats){{vld1q_f32(p), vld1q_f32(p + 4)}};
}

STK_INLINE void eight_store(float *p, eight_floats a)
{
    vst1q_f32(p, a.val[0]);
    vst1q_f32(p + 4, a.val[1]);
}

STK_INLINE eight_floats eight_add(eight_floats a, eight_floats b)
{
    return (eight_floats){{vaddq_f32(a.val[0], b.val[0]), vaddq_f32(a.val[1], b.val[1])}};
}

STK_INLINE eight_floats eight_mul(eight_floats a, eight_floats b)
{
    return (eight_floats){{vmulq_f32(a.val[0], b.val[0]), vmulq_f32(a.val[1], b.val[1])}};
}

STK_INLINE eight_floats eight_of_ints(int32x4x2_t a)
{
    return (eight_floats){{vcvtq_f32_s32(a.val[0]), vcvtq_f32_s32(a.val[1])}};
}

// The halving tree of docs/arithmetic.md.
STK_INLINE float eight_tree(eight_floats a)
{
    return stk_halve4_neon(vaddq_f32(a.val[0], a.val[1]));
}

// Four registers of four become their columns.
STK_INLINE void transpose_four(float32x4_t r[4])
{
    float32x4_t a = vtrn1q_f32(r[0], r[1]), b = vtrn2q_f32(r[0], r[1]);
    float32x4_t c = vtrn1q_f32(r[2], r[3]), d = vtrn2q_f32(r[2], r[3]);
    r[0] = vcombine_f32(vget_low_f32(a), vget_low_f32(c));
    r[1] = vcombine_f32(vget_low_f32(b), vget_low_f32(d));
    r[2] = vcombine_f32(vget_high_f32(a), vget_high_f32(c));
    r[3] = vcombine_f32(vget_high_f32(b), vget_high_f32(d));
}

// Eight times eight become their columns.
STK_INLINE void eight_transpose(eight_floats r[8])
{
    float32x4_t quarter[2][2][4]; // [rows 4i..][columns 4j..]
    for (int i = 0; i < 2; i++)
        for (int j = 0; j < 2; j++) {
            for (int k = 0; k < 4; k++)
                quarter[i][j][k] = r[4 * i + k].val[j];
            transpose_four(quarter[i][j]);
        }
    for (int j = 0; j < 2; j++)
        for (int k = 0; k < 4; k++)
            r[4 * j + k] = (eight_floats){{quarter[0][j][k], quarter[1][j][k]}};
}

// The halves at p, p + step, ..: one in each lane.
STK_INLINE eight_floats strided_halves(const uint8_t *p, size_t step, uint32_t count)
{
    uint16_t h[8] = {0};
    for (uint32_t b = 0; b < count; b++)
        h[b] = stk_load_u16(p + b * step);
    float16x8_t v = vreinterpretq_f16_u16(vld1q_u16(h));
    return (eight_floats){{vcvt_f32_f16(vget_low_f16(v)), vcvt_f32_f16(vget_high_f16(v))}};
}

STK_INLINE eight_floats all_halves(const uint8_t *p)
{
    float32x4_t f = vdupq_n_f32(stk_half_to_float(stk_load_u16(p)));
    return (eight_floats){{f, f}};
}

STK_INLINE void no_blocks_from(uint32_t count, eight_blocks *out)
{
    for (uint32_t b = count; b < 8; b++)
        out->q[b].val[0] = out->q[b].val[1] = vdupq_n_s8(0);
}

STK_INLINE int8x16_t low_nibbles(uint8x16_t v)
{
    return vreinterpretq_s8_u8(vandq_u8(v, vdupq_n_u8(15)));
}

STK_INLINE int8x16_t high_nibbles(uint8x16_t v)
{
    return vreinterpretq_s8_u8(vshrq_n_u8(v, 4));
}

STK_INLINE void load_q8_0(const uint8_t *p, uint32_t count, eight_blocks *out)
{
    for (uint32_t b = 0; b < count; b++)
        for (int half = 0; half < 2; half++)
            out->q[b].val[half] = vreinterpretq_s8_u8(vld1q_u8(p + 34 * b + 2 + 16 * half));
    no_blocks_from(count, out);
    out->d = strided_halves(p, 34, count);
}

STK_INLINE void load_scales_minima(const uint8_t *p, eight_blocks *out)
{
    uint64_t scales, minima;
    unpack_scales_minima(p + 4, &scales, &minima);
    uint16x8_t s = vmovl_u8(vcreate_u8(scales)), m = vmovl_u8(vcreate_u8(minima));
    eight_floats fs = {
        {vcvtq_f32_u32(vmovl_u16(vget_low_u16(s))), vcvtq_f32_u32(vmovl_u16(vget_high_u16(s)))}};
    eight_floats fm = {
        {vcvtq_f32_u32(vmovl_u16(vget_low_u16(m))), vcvtq_f32_u32(vmovl_u16(vget_high_u16(m)))}};
    out->d = eight_mul(all_halves(p), fs);
    out->m = eight_mul(all_halves(p + 2), fm);
}

STK_INLINE void load_q4_k(const uint8_t *p, uint32_t count, eight_blocks *out)
{
    (void)count;
    for (int b = 0; b < 8; b += 2)
        for (int half = 0; half < 2; half++) {
            uint8x16_t v = vld1q_u8(p + 16 + 16 * b + 16 * half);
            out->q[b].val[half] = low_nibbles(v);
            out->q[b + 1].val[half] = high_nibbles(v);
        }
    load_scales_minima(p, out);
}

// 16 where bit `bit` of a byte is set.
STK_INLINE int8x16_t fifth_bit(uint8x16_t v, int bit)
{
    uint8x16_t is_set = vtstq_u8(v, vdupq_n_u8((uint8_t)(1 << bit)));
    return vreinterpretq_s8_u8(vandq_u8(is_set, vdupq_n_u8(16)));
}

STK_INLINE void load_q5_k(const uint8_t *p, uint32_t count, eight_blocks *out)
{
    (void)count;
    for (int b = 0; b < 8; b += 2)
        for (int half = 0; half < 2; half++) {
            uint8x16_t v = vld1q_u8(p + 48 + 16 * b + 16 * half);
            uint8x16_t fifth = vld1q_u8(p + 16 + 16 * half);
            out->q[b].val[half] = vorrq_s8(low_nibbles(v), fifth_bit(fifth, b));
            out->q[b + 1].val[half] = vorrq_s8(high_nibbles(v), fifth_bit(fifth, b + 1));
        }
    load_scales_minima(p, out);
}

// Sixteen signed bytes, scale s of half s % 2 of block s / 2, in the order of `sub`.
STK_INLINE void spread_sub_scales(const uint8_t *p, eight_blocks *out)
{
    int8x8x2_t s = vld2_s8((const int8_t *)p); // first halves, second halves
    for (int half = 0; half < 2; half++) {
        int16x8_t wide = vmovl_s8(s.val[half]);
        out->sub[half] = vmovl_s16(vget_low_s16(wide));
        out->sub[2 + half] = vmovl_s16(vget_high_s16(wide));
    }
}

STK_INLINE void load_q6_k(const uint8_t *p, uint32_t count, eight_blocks *out)
{
    (void)count;
    const uint8x16_t two = vdupq_n_u8(0x30);
    for (int i = 0; i < 4; i++) { // 16 values of each of four blocks
        int part = i / 2, half = i % 2;
        uint8x16_t first = vld1q_u8(p + 64 * part + 16 * half);
        uint8x16_t second = vld1q_u8(p + 64 * part + 32 + 16 * half);
        uint8x16_t high = vld1q_u8(p + 128 + 32 * part + 16 * half);
        const uint8x16_t tops[4] = {vshlq_n_u8(high, 4), vshlq_n_u8(high, 2), high,
                                    vshrq_n_u8(high, 2)};
        const int8x16_t low[4] = {low_nibbles(first), low_nibbles(second), high_nibbles(first),
                                  high_nibbles(second)};
        for (int r = 0; r < 4; r++) {
            int8x16_t top = vreinterpretq_s8_u8(vandq_u8(tops[r], two));
            out->q[4 * part + r].val[half] = vsubq_s8(vorrq_s8(low[r], top), vdupq_n_s8(32));
        }
    }
    spread_sub_scales(p + 192, out);
    out->d = all_halves(p + 208);
}

// Four sums of four.
STK_INLINE int32x4_t add_each(const int32x4_t s[4])
{
    return vpaddq_s32(vpaddq_s32(s[0], s[1]), vpaddq_s32(s[2], s[3]));
}

// Lane b: the sum of block b's products with q[32*b ..].
STK_INLINE int32x4x2_t sum_lanes(blocks_of type, const eight_blocks *w, const int8_t *q,
                                 uint32_t count)
{
    int32x4x2_t sum;
    for (uint32_t i = 0; i < 2; i++) {
        int32x4_t first[4], second[4];
        for (uint32_t j = 0; j < 4; j++) {
            uint32_t b = 4 * i + j, at = b < count ? 32 * b : 0; // the weights past the end are 0
            int32x4_t zero = vdupq_n_s32(0);
            first[j] = vdotq_s32(zero, w->q[b].val[0], vld1q_s8(q + at));
            second[j] = vdotq_s32(type.has_sub ? zero : first[j], w->q[b].val[1],
                                  vld1q_s8(q + at + 16));
        }
        sum.val[i] = type.has_sub ? vmlaq_s32(vmulq_s32(add_each(first), w->sub[2 * i]),
                                              add_each(second), w->sub[2 * i + 1])
                                  : add_each(second);
    }
    return sum;
}

STK_INLINE eight_floats load_some(const float *p, uint32_t count)
{
    float some[8] = {0};
    if (count == 8)
        return eight_load(p);
    memcpy(some, p, count * sizeof *some);
    return eight_load(some);
}

// Lane i: what section 2 calls t, of block b + i.
STK_INLINE eight_floats terms(blocks_of type, const eight_blocks *w, const stk_act *act, uint32_t b,
                              uint32_t count)
{
    eight_floats scale = load_some(act->d + b, count);
    eight_floats t = eight_of_ints(sum_lanes(type, w, act->q + 32 * (size_t)b, count));
    t = eight_mul(t, eight_mul(w->d, scale));
    if (type.is_unsigned) { // K-quants: there are eight
        int32x4x2_t sums = {{vld1q_s32(act->sum + b), vld1q_s32(act->sum + b + 4)}};
        eight_floats less = eight_mul(eight_of_ints(sums), eight_mul(w->m, scale));
        t.val[0] = vsubq_f32(t.val[0], less.val[0]);
        t.val[1] = vsubq_f32(t.val[1], less.val[1]);
    }
    return t;
}

#endif
