// Sparse products of an expert, NEON with SDOT: up rows and down groups of the active neurons.
#include "cpu/arm/arm.h"

#include <arm_neon.h>
#include <string.h>

#include "base/half.h"
#include "cpu/arm/lanes_neon.h"
#include "cpu/group_work.h"

static inline int8x16_t low_nibbles(uint8x16_t raw)
{
    return vreinterpretq_s8_u8(vandq_u8(raw, vdupq_n_u8(15)));
}

static inline int8x16_t high_nibbles(uint8x16_t raw)
{
    return vreinterpretq_s8_u8(vshrq_n_u8(raw, 4));
}

// Blocks b..b+n of two rows, n at most 4: the terms that go to four accumulators.
static inline __attribute__((always_inline)) void four_terms(const uint8_t *const rows[2],
                                                             uint32_t b, uint32_t n,
                                                             uint32_t blocks, const stk_act *act,
                                                             float32x4_t t[2])
{
    int32x4_t s[2][4];
    for (uint32_t i = 0; i < 4; i++) {
        s[0][i] = s[1][i] = vdupq_n_s32(0);
        if (i >= n)
            continue;
        const int8_t *q = act->q + 32 * (size_t)(b + i);
        int8x16_t x0 = vld1q_s8(q), x1 = vld1q_s8(q + 16);
        for (int r = 0; r < 2; r++) {
            uint8x16_t raw = vld1q_u8(rows[r] + 16 * (size_t)(b + i));
            s[r][i] = vdotq_s32(s[r][i], low_nibbles(raw), x0);
            s[r][i] = vdotq_s32(s[r][i], high_nibbles(raw), x1);
        }
    }
    float d[4] = {0};
    int32_t sum[4] = {0};
    memcpy(d, act->d + b, 4 * n);
    memcpy(sum, act->sum + b, 4 * n);
    int32x4_t bias = vshlq_n_s32(vld1q_s32(sum), 3);
    for (int r = 0; r < 2; r++) {
        uint16_t halves[4] = {0};
        memcpy(halves, rows[r] + 16 * (size_t)blocks + 2 * (size_t)b, 2 * n);
        int32x4_t isum = vpaddq_s32(vpaddq_s32(s[r][0], s[r][1]), vpaddq_s32(s[r][2], s[r][3]));
        float32x4_t scale = vmulq_f32(stk_load_half4_neon(halves), vld1q_f32(d));
        t[r] = vmulq_f32(vcvtq_f32_s32(vsubq_s32(isum, bias)), scale);
    }
}

// Two rows at once, to share the loads of x.
static void dot_two_rows(const uint8_t *const rows[2], uint32_t blocks, const stk_act *act,
                         float *y0, float *y1)
{
    float32x4_t a[2][2], t[2]; // a[row][k]: accumulators 4k..4k+4
    a[0][0] = a[0][1] = a[1][0] = a[1][1] = vdupq_n_f32(0);
    uint32_t b = 0;
    for (; b + 8 <= blocks; b += 8)
        for (uint32_t k = 0; k < 2; k++) {
            four_terms(rows, b + 4 * k, 4, blocks, act, t);
            a[0][k] = vaddq_f32(a[0][k], t[0]);
            a[1][k] = vaddq_f32(a[1][k], t[1]);
        }
    for (uint32_t k = 0; b < blocks; b += 4, k++) { // terms of missing blocks are +0
        four_terms(rows, b, blocks - b < 4 ? blocks - b : 4, blocks, act, t);
        a[0][k] = vaddq_f32(a[0][k], t[0]);
        a[1][k] = vaddq_f32(a[1][k], t[1]);
    }
    *y0 = stk_halve4_neon(vaddq_f32(a[0][0], a[0][1]));
    *y1 = stk_halve4_neon(vaddq_f32(a[1][0], a[1][1]));
}

void stk_gather_bundle_q4_0_neon(const stk_matrix *w, const uint32_t *rows, uint32_t count,
                                 const stk_act *act, float *y)
{
    enum { AHEAD = 4 }; // rows: a few hundred nanoseconds of memory latency
    stk_bundle b = stk_bundle_of(w->cols, w->rows, w->format == STK_FORMAT_BUNDLE_T_UP);
    for (uint32_t i = 0; i < count; i += 2) {
        uint32_t other = i + 1 < count ? i + 1 : i;
        for (uint32_t j = i + AHEAD; j < i + AHEAD + 2 && j < count; j++) {
            const uint8_t *run = stk_bundle_run(w, &b, rows[j]);
            for (uint32_t at = 0; at < b.run_bytes; at += 64)
                __builtin_prefetch(run + at);
        }
        const uint8_t *two[2] = {stk_bundle_run(w, &b, rows[i]),
                                 stk_bundle_run(w, &b, rows[other])};
        float unused;
        dot_two_rows(two, w->cols / 32, act, &y[i], other == i ? &unused : &y[other]);
    }
}

// y[0..4) of four outputs whose integer sums are in s.
static inline void add_outputs(int32x4_t s, const uint8_t *scales, float32x4_t dx, float *y)
{
    float32x4_t scale = vmulq_f32(stk_load_half4_neon(scales), dx);
    vst1q_f32(y, vaddq_f32(vld1q_f32(y), vmulq_f32(vcvtq_f32_s32(s), scale)));
}

// A quarter of a chunk: 16 bytes of nibbles, that is outputs 16k+4*quarter+0..3 for k = 0..3, and
// 64 more. Bytes of four neurons are brought together, so that one SDOT adds all four.
static inline void add_quarter_chunk(const stk_group_work *work, size_t at, const uint8_t *scales,
                                     uint32_t quarter, float32x4_t dx, int32_t sum, float *y)
{
    int32x4_t s[8];
    for (int k = 0; k < 8; k++)
        s[k] = vdupq_n_s32(-8 * sum);
    at += 16 * quarter;
    for (uint32_t i = 0; i < work->sets; i++) {
        const uint8_t *const *p = work->nibbles + 4 * i;
        uint8x16_t a = vld1q_u8(p[0] + at), b = vld1q_u8(p[1] + at);
        uint8x16_t c = vld1q_u8(p[2] + at), e = vld1q_u8(p[3] + at);
        int8x16_t x = vreinterpretq_s8_s32(vdupq_n_s32(stk_group_four(work, i)));
        uint16x8_t ab0 = vreinterpretq_u16_u8(vzip1q_u8(a, b));
        uint16x8_t ab1 = vreinterpretq_u16_u8(vzip2q_u8(a, b));
        uint16x8_t ce0 = vreinterpretq_u16_u8(vzip1q_u8(c, e));
        uint16x8_t ce1 = vreinterpretq_u16_u8(vzip2q_u8(c, e));
        uint16x8_t w[4] = {vzip1q_u16(ab0, ce0), vzip2q_u16(ab0, ce0), vzip1q_u16(ab1, ce1),
                           vzip2q_u16(ab1, ce1)};
        for (int k = 0; k < 4; k++) {
            uint8x16_t raw = vreinterpretq_u8_u16(w[k]);
            s[k] = vdotq_s32(s[k], low_nibbles(raw), x);
            s[4 + k] = vdotq_s32(s[4 + k], high_nibbles(raw), x);
        }
    }
    for (uint32_t k = 0; k < 8; k++) {
        uint32_t o = (k < 4 ? 0 : 64) + 16 * (k % 4) + 4 * quarter;
        add_outputs(s[k], scales + 2 * o, dx, y + o);
    }
}

void stk_down_bundle_q4_0_neon(const stk_matrix *down, const stk_neurons *n, uint32_t group_begin,
                               uint32_t group_end, float *y)
{
    stk_bundle b = stk_bundle_of(down->rows, down->cols, 0);
    for (uint32_t g = group_begin; g < group_end; g++) {
        if (n->d[g] == 0)
            continue;
        const uint8_t *base = (const uint8_t *)down->data + (size_t)g * b.group_bytes;
        stk_group_work work;
        stk_group_collect(down, &b, n, g, 4, &work);
        float32x4_t dx = vdupq_n_f32(n->d[g]);
        for (uint32_t o = 0; o < down->rows; o += 128)
            for (uint32_t quarter = 0; quarter < 4; quarter++)
                add_quarter_chunk(&work, o / 2, base + 2 * (size_t)o, quarter, dx, n->sum[g],
                                  y + o);
    }
}

static inline void add_eight(int8x8_t values, float32x4_t scale, float *y)
{
    int16x8_t q = vmovl_s8(values);
    float32x4_t t0 = vmulq_f32(scale, vcvtq_f32_s32(vmovl_s16(vget_low_s16(q))));
    float32x4_t t1 = vmulq_f32(scale, vcvtq_f32_s32(vmovl_s16(vget_high_s16(q))));
    vst1q_f32(y, vaddq_f32(vld1q_f32(y), t0));
    vst1q_f32(y + 4, vaddq_f32(vld1q_f32(y + 4), t1));
}

// Adds one neuron's row times h; the scales are half floats after the nibbles.
static void add_neuron(const uint8_t *row, uint32_t blocks, float h, float *y)
{
    const int8x16_t eight = vdupq_n_s8(8);
    for (uint32_t b = 0; b < blocks; b++, y += 32) {
        uint8x16_t raw = vld1q_u8(row + 16 * (size_t)b);
        uint16_t half = stk_load_u16(row + 16 * (size_t)blocks + 2 * (size_t)b);
        float16x4_t dw = vreinterpret_f16_u16(vdup_n_u16(half));
        float32x4_t scale = vmulq_f32(vdupq_n_f32(h), vcvt_f32_f16(dw));
        int8x16_t lo = vsubq_s8(low_nibbles(raw), eight), hi = vsubq_s8(high_nibbles(raw), eight);
        add_eight(vget_low_s8(lo), scale, y);
        add_eight(vget_high_s8(lo), scale, y + 8);
        add_eight(vget_low_s8(hi), scale, y + 16);
        add_eight(vget_high_s8(hi), scale, y + 24);
    }
}

void stk_down_bundle_t_q4_0_neon(const stk_matrix *down, const stk_neurons *n, uint32_t group_begin,
                                 uint32_t group_end, float *y)
{
    stk_bundle b = stk_bundle_of(down->cols, down->rows, 1);
    for (uint32_t a = n->first[group_begin]; a < n->first[group_end]; a++) {
        uint32_t j = n->active[a];
        add_neuron(stk_bundle_run(down, &b, j) + b.up_bytes, down->cols / 32, n->h[j], y);
    }
}
