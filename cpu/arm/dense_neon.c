// Dense products, NEON with SDOT: a group's sixteen rows are four registers of four rows.
//
// The law's eight accumulators of sixteen rows would fill all 32 registers, so they stay in the L1
// cache, one row of four registers loaded and stored for each block: the weights stream once, in
// the order of memory, for up to TILE tokens.
#include "cpu/arm/arm.h"

#include <arm_neon.h>

#include "cpu/arm/lanes_neon.h"

enum { ROWS = 16, QUADS = ROWS / 4, TILE = 8 };

// How a type's 16-row block becomes integers: `bias` is what its unsigned form adds to a value.
typedef struct block_type {
    uint32_t values_bytes; // of one block, 16 rows
    int32_t bias;
} block_type;

static const block_type q4_0 = {256, 8}, q8_0 = {512, 0};

// The weights of four rows: w[c] meets x[4c..4c+4), c = 0..7.
static inline __attribute__((always_inline)) void load_weights(const uint8_t *values,
                                                               const block_type *t, int8x16_t w[8])
{
    if (t->bias == 8) {
        for (int c = 0; c < 4; c++) {
            uint8x16_t raw = vld1q_u8(values + 64 * c);
            w[c] = vreinterpretq_s8_u8(vandq_u8(raw, vdupq_n_u8(15)));
            w[4 + c] = vreinterpretq_s8_u8(vshrq_n_u8(raw, 4));
        }
    } else {
        for (int c = 0; c < 8; c++)
            w[c] = vreinterpretq_s8_u8(vld1q_u8(values + 64 * c));
    }
}

static inline __attribute__((always_inline)) float32x4_t
block_term(const int8x16_t w[8], float32x4_t scales, const block_type *t, const stk_act *act,
           uint32_t block)
{
    const int8_t *q = act->q + 32 * (size_t)block;
    int8x16_t x0 = vld1q_s8(q), x1 = vld1q_s8(q + 16);
    int32x4_t s0 = vdupq_n_s32(-t->bias * act->sum[block]), s1 = vdupq_n_s32(0);
    s0 = vdotq_laneq_s32(s0, w[0], x0, 0);
    s1 = vdotq_laneq_s32(s1, w[4], x1, 0);
    s0 = vdotq_laneq_s32(s0, w[1], x0, 1);
    s1 = vdotq_laneq_s32(s1, w[5], x1, 1);
    s0 = vdotq_laneq_s32(s0, w[2], x0, 2);
    s1 = vdotq_laneq_s32(s1, w[6], x1, 2);
    s0 = vdotq_laneq_s32(s0, w[3], x0, 3);
    s1 = vdotq_laneq_s32(s1, w[7], x1, 3);
    float32x4_t scale = vmulq_f32(scales, vdupq_n_f32(act->d[block]));
    return vmulq_f32(vcvtq_f32_s32(vaddq_s32(s0, s1)), scale);
}

// One group with `count` tokens, at most TILE.
static inline __attribute__((always_inline)) void dot_tile(const uint8_t *group,
                                                           const block_type *t, uint32_t blocks,
                                                           const stk_act *acts, uint32_t count,
                                                           float *y, size_t y_stride)
{
    float32x4_t a[TILE][8 * QUADS]; // accumulator k's registers are [QUADS*k..)
    for (uint32_t i = 0; i < count; i++)
        for (int k = 0; k < 8 * QUADS; k++)
            a[i][k] = vdupq_n_f32(0);
    for (uint32_t b = 0; b < blocks; b++) {
        const uint8_t *pair = group + (size_t)(b / 2) * (64 + 2 * t->values_bytes);
        const uint8_t *scales = pair + 32 * (b & 1);
        const uint8_t *values = pair + 64 + (b & 1) * t->values_bytes;
        for (uint32_t r = 0; r < QUADS; r++) {
            int8x16_t w[8];
            load_weights(values + 16 * r, t, w);
            float32x4_t dw = stk_load_half4_neon(scales + 8 * r);
            for (uint32_t i = 0; i < count; i++) {
                float32x4_t *to = &a[i][QUADS * (b % 8) + r];
                *to = vaddq_f32(*to, block_term(w, dw, t, &acts[i], b));
            }
        }
    }
    for (uint32_t i = 0; i < count; i++) {
        for (int n = 4; n >= 1; n /= 2)
            for (int k = 0; k < n * QUADS; k++)
                a[i][k] = vaddq_f32(a[i][k], a[i][k + n * QUADS]);
        for (int r = 0; r < QUADS; r++)
            vst1q_f32(y + i * y_stride + 4 * r, a[i][r]);
    }
}

static inline __attribute__((always_inline)) void matmul(const stk_matrix *w, const block_type *t,
                                                         uint32_t row_begin, uint32_t row_end,
                                                         const stk_act *acts, uint32_t count,
                                                         float *y, size_t y_stride)
{
    uint32_t blocks = w->cols / 32;
    size_t group_bytes = (size_t)((blocks + 1) / 2) * (64 + 2 * t->values_bytes);
    for (uint32_t row = row_begin; row < row_end; row += ROWS, y += ROWS) {
        const uint8_t *group = (const uint8_t *)w->data + row / ROWS * group_bytes;
        uint32_t i = 0;
        for (; i + TILE <= count; i += TILE)
            dot_tile(group, t, blocks, acts + i, TILE, y + i * y_stride, y_stride);
        for (; i + 2 <= count; i += 2)
            dot_tile(group, t, blocks, acts + i, 2, y + i * y_stride, y_stride);
        for (; i < count; i++)
            dot_tile(group, t, blocks, acts + i, 1, y + i * y_stride, y_stride);
    }
}

void stk_matmul_x16_q4_0_neon(const stk_matrix *w, uint32_t row_begin, uint32_t row_end,
                              const stk_act *acts, uint32_t count, float *y, size_t y_stride)
{
    matmul(w, &q4_0, row_begin, row_end, acts, count, y, y_stride);
}

void stk_matmul_x16_q8_0_neon(const stk_matrix *w, uint32_t row_begin, uint32_t row_end,
                              const stk_act *acts, uint32_t count, float *y, size_t y_stride)
{
    matmul(w, &q8_0, row_begin, row_end, acts, count, y, y_stride);
}
