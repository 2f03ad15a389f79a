// Dense products for decode and prefill, AVX-512 VNNI: sixteen rows in the lanes of a register.
//
// One token keeps the law's eight accumulators in registers and streams the weights once. Several
// tokens would need eight accumulators each, so they take the accumulators one after another
// (blocks a, a+8, a+16, ...) and fold them in the order of the halving tree; the weights of 16 rows
// stay in the L1 cache meanwhile.
#include "cpu/ref/ref.h"
#include "cpu/x86/x16.h"
#include "cpu/x86/x86.h"

#include <immintrin.h>

enum { TILE = 8 }; // tokens

static inline __m512 load_scales(const uint8_t *pair, uint32_t block)
{
    return _mm512_cvtph_ps(_mm256_load_si256((const __m256i *)x16_scales(pair, block)));
}

static inline __m512i broadcast4(const int8_t *q)
{
    return _mm512_set1_epi32(*(const int32_t *)(const void *)q);
}

// The unsigned weights of a block: w[2c] meets x[4c..], w[2c+1] meets x[16+4c..] for Q4_0;
// w[c] meets x[4c..] for Q8_0.
static inline __attribute__((always_inline)) void
load_weights(const uint8_t *pair, const x16_type *t, uint32_t block, __m512i w[8])
{
    const uint8_t *values = x16_values(pair, t, block);
    if (t->bias == 8) {
        const __m512i low = _mm512_set1_epi8(15);
        for (int c = 0; c < 4; c++) {
            __m512i raw = _mm512_load_si512(values + 64 * c);
            w[c] = _mm512_and_si512(raw, low);
            w[4 + c] = _mm512_and_si512(_mm512_srli_epi16(raw, 4), low);
        }
    } else {
        const __m512i flip = _mm512_set1_epi8((char)0x80);
        for (int c = 0; c < 8; c++)
            w[c] = _mm512_xor_si512(_mm512_load_si512(values + 64 * c), flip);
    }
}

static inline __attribute__((always_inline)) __m512
block_term(const __m512i w[8], __m512 scales, const x16_type *t, const stk_act *act, uint32_t block)
{
    const int8_t *q = act->q + 32 * (size_t)block;
    __m512i s0 = _mm512_set1_epi32(-t->bias * act->sum[block]), s1 = _mm512_setzero_si512();
    for (int c = 0; c < 4; c++) {
        s0 = _mm512_dpbusd_epi32(s0, w[c], broadcast4(q + 4 * c));
        s1 = _mm512_dpbusd_epi32(s1, w[4 + c], broadcast4(q + 16 + 4 * c));
    }
    __m512 scale = _mm512_mul_ps(scales, _mm512_set1_ps(act->d[block]));
    return _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_add_epi32(s0, s1)), scale);
}

static inline __attribute__((always_inline)) void dot_one(const uint8_t *group, const x16_type *t,
                                                          uint32_t blocks, const stk_act *act,
                                                          float *y, stk_ahead *ahead)
{
    __m512 a[8];
    for (int i = 0; i < 8; i++)
        a[i] = _mm512_setzero_ps();
    uint32_t b = 0;
    for (; b + 8 <= blocks; b += 8) {
#pragma GCC unroll 8
        for (uint32_t i = 0; i < 8; i++) {
            __m512i w[8];
            const uint8_t *pair = x16_pair(group, t, b + i);
            x16_prefetch(pair, t, i);
            if (ahead)
                stk_ahead_place(ahead);
            load_weights(pair, t, b + i, w);
            a[i] = _mm512_add_ps(a[i], block_term(w, load_scales(pair, b + i), t, act, b + i));
        }
    }
    for (uint32_t i = 0; b + i < blocks; i++) {
        __m512i w[8];
        const uint8_t *pair = x16_pair(group, t, b + i);
        load_weights(pair, t, b + i, w);
        __m512 term = block_term(w, load_scales(pair, b + i), t, act, b + i);
        for (uint32_t j = 0; j < 8; j++) // keeps a[] in registers
            a[j] = j == i ? _mm512_add_ps(a[j], term) : a[j];
    }
    for (int n = 4; n >= 1; n /= 2)
        for (int i = 0; i < n; i++)
            a[i] = _mm512_add_ps(a[i], a[i + n]);
    _mm512_storeu_ps(y, a[0]);
}

// Accumulator `a` of `count` tokens (at most TILE) over the blocks a, a+8, ...
static inline __attribute__((always_inline)) void accumulate(const uint8_t *group,
                                                             const x16_type *t, uint32_t blocks,
                                                             uint32_t a, const stk_act *acts,
                                                             uint32_t count, __m512 out[TILE])
{
    for (uint32_t i = 0; i < count; i++)
        out[i] = _mm512_setzero_ps();
    for (uint32_t b = a; b < blocks; b += 8) {
        __m512i w[8];
        const uint8_t *pair = x16_pair(group, t, b);
        load_weights(pair, t, b, w);
        __m512 scales = load_scales(pair, b);
        for (uint32_t i = 0; i < count; i++)
            out[i] = _mm512_add_ps(out[i], block_term(w, scales, t, &acts[i], b));
    }
}

// (a0+a4)+(a2+a6) + ((a1+a5)+(a3+a7)), one accumulator at a time.
static inline __attribute__((always_inline)) void dot_tile(const uint8_t *group, const x16_type *t,
                                                           uint32_t blocks, const stk_act *acts,
                                                           uint32_t count, float *y,
                                                           size_t y_stride)
{
    __m512 total[TILE], pair[TILE], one[TILE], other[TILE];
    for (uint32_t odd = 0; odd < 2; odd++) {
        accumulate(group, t, blocks, odd, acts, count, pair);
        accumulate(group, t, blocks, odd + 4, acts, count, one);
        for (uint32_t i = 0; i < count; i++)
            pair[i] = _mm512_add_ps(pair[i], one[i]);
        accumulate(group, t, blocks, odd + 2, acts, count, one);
        accumulate(group, t, blocks, odd + 6, acts, count, other);
        for (uint32_t i = 0; i < count; i++) {
            pair[i] = _mm512_add_ps(pair[i], _mm512_add_ps(one[i], other[i]));
            total[i] = odd ? _mm512_add_ps(total[i], pair[i]) : pair[i];
        }
    }
    for (uint32_t i = 0; i < count; i++)
        _mm512_storeu_ps(y + i * y_stride, total[i]);
}

static inline __attribute__((always_inline)) void
multiply_group(const uint8_t *group, const x16_type *t, uint32_t blocks, const stk_act *acts,
               uint32_t count, float *y, size_t y_stride)
{
    uint32_t i = 0;
    if (count > 1) {
        for (; i + TILE <= count; i += TILE)
            dot_tile(group, t, blocks, acts + i, TILE, y + i * y_stride, y_stride);
        for (; i + 4 <= count; i += 4)
            dot_tile(group, t, blocks, acts + i, 4, y + i * y_stride, y_stride);
        for (; i + 2 <= count; i += 2)
            dot_tile(group, t, blocks, acts + i, 2, y + i * y_stride, y_stride);
    }
    for (; i < count; i++)
        dot_one(group, t, blocks, acts + i, y + i * y_stride, NULL);
}

static inline __attribute__((always_inline)) void matmul(const stk_matrix *w, const x16_type *t,
                                                         uint32_t row_begin, uint32_t row_end,
                                                         const stk_act *acts, uint32_t count,
                                                         float *y, size_t y_stride, uint8_t *buffer)
{
    for (uint32_t row = row_begin; row < row_end; row += X16_ROWS, y += X16_ROWS)
        multiply_group(x16_group(w, t, row, buffer), t, w->cols / 32, acts, count, y, y_stride);
}

void stk_matmul_x16_q4_0_avx512(const stk_matrix *w, uint32_t row_begin, uint32_t row_end,
                                const stk_act *acts, uint32_t count, float *y, size_t y_stride)
{
    matmul(w, &x16_q4_0, row_begin, row_end, acts, count, y, y_stride, NULL);
}

void stk_matmul_x16_q8_0_avx512(const stk_matrix *w, uint32_t row_begin, uint32_t row_end,
                                const stk_act *acts, uint32_t count, float *y, size_t y_stride)
{
    matmul(w, &x16_q8_0, row_begin, row_end, acts, count, y, y_stride, NULL);
}

static inline __attribute__((always_inline)) void gate(const stk_matrix *w, const x16_type *t,
                                                       uint32_t row_begin, uint32_t row_end,
                                                       const stk_act *act, stk_ahead *ahead,
                                                       float *y)
{
    x16_spread(w, row_begin, row_end, ahead);
    for (uint32_t row = row_begin; row < row_end; row += X16_ROWS, y += X16_ROWS)
        dot_one(x16_group(w, t, row, NULL), t, w->cols / 32, act, y, ahead);
    stk_ahead_some(ahead, STK_AHEAD_RUNS_MAX);
}

void stk_gate_x16_q4_0_avx512(const stk_matrix *w, uint32_t row_begin, uint32_t row_end,
                              const stk_act *act, stk_ahead *ahead, float *y)
{
    gate(w, &x16_q4_0, row_begin, row_end, act, ahead, y);
}

void stk_gate_x16_q8_0_avx512(const stk_matrix *w, uint32_t row_begin, uint32_t row_end,
                              const stk_act *act, stk_ahead *ahead, float *y)
{
    gate(w, &x16_q8_0, row_begin, row_end, act, ahead, y);
}

void stk_matmul_bundle_q4_0_avx512(const stk_matrix *w, uint32_t row_begin, uint32_t row_end,
                                   const stk_act *acts, uint32_t count, float *y, size_t y_stride)
{
    _Alignas(64) uint8_t buffer[BUNDLE_X16_BYTES_MAX];
    if (w->cols <= BUNDLE_X16_COLS_MAX)
        matmul(w, &x16_q4_0, row_begin, row_end, acts, count, y, y_stride, buffer);
    else
        stk_matmul_ref(w, row_begin, row_end, acts, count, y, y_stride);
}
