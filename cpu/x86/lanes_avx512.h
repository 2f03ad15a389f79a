// cpu/x86/lanes_avx512.h: rows as the file holds them with many tokens, a token to a lane.
//
// With few tokens the sums of a block's products lie across a register and adding them up is most
// of the work. Here sixteen tokens' values are interleaved once, four of each to a line, and every
// weight byte meets all of them; nothing is added across lanes, and the law's accumulators are
// registers of sixteen tokens.
#ifndef STK_CPU_X86_LANES_AVX512_H
#define STK_CPU_X86_LANES_AVX512_H

#include "cpu/x86/blocks_avx512.h"

enum {
    TOKEN_LANES = 16,
    ROWS_AT_ONCE = 2,
    TOKEN_LANES_MIN = 8,   // fewer tokens are faster one by one
    LANES_COLS_MAX = 4096, // longer rows are rare
};

typedef struct lanes_panel {
    int8_t q[LANES_COLS_MAX][TOKEN_LANES]; // [cols / 4][token][4]
    float d[LANES_COLS_MAX / 32][TOKEN_LANES];
    float sum[LANES_COLS_MAX / 32][TOKEN_LANES];     // where there are minima
    int32_t start[LANES_COLS_MAX / 16][TOKEN_LANES]; // of half a block: what takes off the bias
} __attribute__((aligned(64))) lanes_panel;

// 16 registers of 16 become their columns.
STK_INLINE void transpose_sixteen(__m512i r[16])
{
    __m512i a[16], b[16];
    for (int i = 0; i < 16; i += 2) {
        a[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
        a[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
    }
    for (int i = 0; i < 16; i += 4)
        for (int k = 0; k < 2; k++) { // b[i + c]: column c of each 128-bit lane, rows i to i+3
            b[i + 2 * k] = _mm512_unpacklo_epi64(a[i + k], a[i + 2 + k]);
            b[i + 2 * k + 1] = _mm512_unpackhi_epi64(a[i + k], a[i + 2 + k]);
        }
    for (int c = 0; c < 4; c++) {
        __m512i low = _mm512_shuffle_i32x4(b[c], b[4 + c], 0x88);
        __m512i high = _mm512_shuffle_i32x4(b[8 + c], b[12 + c], 0x88);
        __m512i low_odd = _mm512_shuffle_i32x4(b[c], b[4 + c], 0xdd);
        __m512i high_odd = _mm512_shuffle_i32x4(b[8 + c], b[12 + c], 0xdd);
        r[c] = _mm512_shuffle_i32x4(low, high, 0x88);
        r[4 + c] = _mm512_shuffle_i32x4(low_odd, high_odd, 0x88);
        r[8 + c] = _mm512_shuffle_i32x4(low, high, 0xdd);
        r[12 + c] = _mm512_shuffle_i32x4(low_odd, high_odd, 0xdd);
    }
}

// Where a block's sums start so that they end without the bias of the weights' unsigned form.
STK_INLINE void set_starts(blocks_of type, uint32_t block, lanes_panel *x)
{
    const __m512i zero = _mm512_setzero_si512(), bias = _mm512_set1_epi8(32);
    for (uint32_t half = 0; type.has_sub && half < 2; half++) {
        __m512i sum = zero;
        for (uint32_t c = 0; c < 4; c++)
            sum = _mm512_dpbusd_epi32(sum, bias,
                                      _mm512_load_si512(x->q[32 * block + 16 * half + 4 * c]));
        _mm512_store_si512(x->start[2 * block + half], _mm512_sub_epi32(zero, sum));
    }
    if (type.is_wide) {
        __m512i sum = _mm512_cvtps_epi32(_mm512_load_ps(x->sum[block]));
        _mm512_store_si512(x->start[2 * block], _mm512_sub_epi32(zero, _mm512_slli_epi32(sum, 7)));
    }
}

// `count` tokens; the other lanes repeat the first one.
STK_INLINE void load_lanes(blocks_of type, const stk_act *acts, uint32_t count, uint32_t blocks,
                           lanes_panel *x)
{
    const stk_act *act[TOKEN_LANES];
    for (uint32_t t = 0; t < TOKEN_LANES; t++)
        act[t] = &acts[t < count ? t : 0];
    for (uint32_t b = 0; b < blocks; b += 2) {
        __m512i r[TOKEN_LANES];
        uint32_t lines = b + 1 < blocks ? 16 : 8; // the last block may be alone
        for (uint32_t t = 0; t < TOKEN_LANES; t++)
            r[t] = load_values(act[t]->q + 32 * (size_t)b, 0, lines / 8);
        transpose_sixteen(r);
        for (uint32_t i = 0; i < lines; i++)
            _mm512_store_si512(x->q[32 * b + 4 * i], r[i]);
    }
    for (uint32_t b = 0; b < blocks; b++) {
        for (uint32_t t = 0; t < TOKEN_LANES; t++) {
            x->d[b][t] = act[t]->d[b];
            x->sum[b][t] = (float)act[t]->sum[b];
        }
        set_starts(type, b, x);
    }
}

// Eight blocks where single weights can be reached.
typedef struct weight_bytes {
    uint8_t q[256];
    float d[8], m[8];
    int32_t sub[16]; // as eight_blocks
} __attribute__((aligned(64))) weight_bytes;

STK_INLINE void load_bytes_of(blocks_of type, const uint8_t *row, uint32_t block, uint32_t count,
                              weight_bytes *out)
{
    eight_blocks w;
    type.load(row + blocks_at(type, block), count, &w);
    for (int i = 0; i < 4; i++)
        _mm512_store_si512(out->q + 64 * i, w.q[i]);
    _mm256_store_ps(out->d, w.d);
    if (type.is_unsigned)
        _mm256_store_ps(out->m, w.m);
    if (type.has_sub)
        _mm512_store_si512(out->sub, w.sub);
}

// Four weights in every lane.
STK_INLINE __m512i four_weights(const uint8_t *q)
{
    int32_t four;
    memcpy(&four, q, sizeof four);
    return _mm512_set1_epi32(four);
}

// Adds the terms of block b + i of ROWS_AT_ONCE rows for sixteen tokens to sum[row].
STK_INLINE void add_lane_terms(blocks_of type, const weight_bytes w[ROWS_AT_ONCE],
                               const lanes_panel *x, uint32_t b, uint32_t i,
                               __m512 *const sum[ROWS_AT_ONCE])
{
    __m512i whole[ROWS_AT_ONCE];
    for (uint32_t half = 0; half < 2; half++) {
        __m512i s[ROWS_AT_ONCE];
        for (uint32_t r = 0; r < ROWS_AT_ONCE; r++)
            s[r] = type.has_sub || (type.is_wide && half == 0)
                       ? _mm512_load_si512(x->start[2 * (b + i) + half])
                       : _mm512_setzero_si512();
        for (uint32_t c = 4 * half; c < 4 * half + 4; c++) {
            __m512i values = _mm512_load_si512(x->q[32 * (b + i) + 4 * c]);
            for (uint32_t r = 0; r < ROWS_AT_ONCE; r++)
                s[r] = _mm512_dpbusd_epi32(s[r], four_weights(w[r].q + 32 * i + 4 * c), values);
        }
        for (uint32_t r = 0; r < ROWS_AT_ONCE; r++) {
            if (type.has_sub)
                s[r] = _mm512_mullo_epi32(
                    s[r], _mm512_set1_epi32(w[r].sub[(2 * (i % 2) + half) * 4 + i / 2]));
            whole[r] = half == 0 ? s[r] : _mm512_add_epi32(whole[r], s[r]);
        }
    }
    __m512 scale = _mm512_load_ps(x->d[b + i]);
    for (uint32_t r = 0; r < ROWS_AT_ONCE; r++) {
        __m512 t = _mm512_mul_ps(_mm512_cvtepi32_ps(whole[r]),
                                 _mm512_mul_ps(_mm512_set1_ps(w[r].d[i]), scale));
        if (type.is_unsigned)
            t = _mm512_sub_ps(t, _mm512_mul_ps(_mm512_load_ps(x->sum[b + i]),
                                               _mm512_mul_ps(_mm512_set1_ps(w[r].m[i]), scale)));
        *sum[r] = _mm512_add_ps(*sum[r], t);
    }
}

// y[t*stride] = lane t, t < count.
STK_INLINE void store_lanes(__m512 lanes, uint32_t count, float *y, size_t stride)
{
    float each[TOKEN_LANES];
    _mm512_storeu_ps(each, lanes);
    for (uint32_t t = 0; t < count; t++)
        y[t * stride] = each[t];
}

// Rows from `row` on, of which there are `rows` <= ROWS_AT_ONCE: their bytes; those missing repeat
// the first one.
STK_INLINE void load_rows_of(blocks_of type, const stk_matrix *m, uint32_t row, uint32_t rows,
                             uint32_t block, uint32_t count, weight_bytes w[ROWS_AT_ONCE])
{
    for (uint32_t r = 0; r < ROWS_AT_ONCE; r++)
        load_bytes_of(type, stk_matrix_row(m, r < rows ? row + r : row), block, count, &w[r]);
}

STK_INLINE void dot_lanes(blocks_of type, const stk_matrix *m, uint32_t row, uint32_t rows,
                          const lanes_panel *x, __m512 out[ROWS_AT_ONCE])
{
    uint32_t blocks = m->cols / 32;
    __m512 a[ROWS_AT_ONCE][8];
    for (int i = 0; i < 8 * ROWS_AT_ONCE; i++)
        a[i / 8][i % 8] = _mm512_setzero_ps();
    for (uint32_t b = 0; b < blocks; b += 8) {
        uint32_t count = type.is_super || blocks - b >= 8 ? 8 : blocks - b;
        weight_bytes w[ROWS_AT_ONCE];
        load_rows_of(type, m, row, rows, b, count, w);
        if (count == 8) {
            for (uint32_t i = 0; i < 8; i++)
                add_lane_terms(type, w, x, b, i, (__m512 *const[]){&a[0][i], &a[1][i]});
        } else {
            for (uint32_t i = 0; i < count; i++)
                add_lane_terms(type, w, x, b, i, (__m512 *const[]){&a[0][i], &a[1][i]});
        }
    }
    for (int r = 0; r < ROWS_AT_ONCE; r++) {
        for (int n = 4; n > 0; n /= 2)
            for (int i = 0; i < n; i++)
                a[r][i] = _mm512_add_ps(a[r][i], a[r][i + n]);
        out[r] = a[r][0];
    }
}

// As a matmul kernel, for the first tokens of acts. Returns for how many.
STK_INLINE uint32_t matmul_lanes(blocks_of type, const stk_matrix *w, uint32_t row_begin,
                                 uint32_t row_end, const stk_act *acts, uint32_t count, float *y,
                                 size_t y_stride)
{
    uint32_t blocks = w->cols / 32, done = 0;
    lanes_panel x;
    for (; count - done >= TOKEN_LANES_MIN && w->cols <= LANES_COLS_MAX;) {
        uint32_t tokens = count - done < TOKEN_LANES ? count - done : TOKEN_LANES;
        load_lanes(type, acts + done, tokens, blocks, &x);
        for (uint32_t row = row_begin; row < row_end; row += ROWS_AT_ONCE) {
            uint32_t rows = row_end - row < ROWS_AT_ONCE ? row_end - row : ROWS_AT_ONCE;
            __m512 lanes[ROWS_AT_ONCE];
            dot_lanes(type, w, row, rows, &x, lanes);
            for (uint32_t r = 0; r < rows; r++)
                store_lanes(lanes[r], tokens, y + done * y_stride + (row + r - row_begin),
                            y_stride);
        }
        done += tokens;
    }
    return done;
}

STK_INLINE void down_lanes(blocks_of type, const stk_matrix *m, uint32_t row, uint32_t rows,
                           const lanes_panel *x, __m512 out[ROWS_AT_ONCE])
{
    uint32_t groups = m->cols / 32, part = 0, part_end = groups / STK_EXPERT_PARTS;
    __m512 sums[ROWS_AT_ONCE][STK_EXPERT_PARTS];
    for (int i = 0; i < ROWS_AT_ONCE * STK_EXPERT_PARTS; i++)
        sums[i / STK_EXPERT_PARTS][i % STK_EXPERT_PARTS] = _mm512_setzero_ps();
    for (uint32_t g = 0; g < groups; g += 8) {
        uint32_t count = groups - g < 8 ? groups - g : 8;
        weight_bytes w[ROWS_AT_ONCE];
        load_rows_of(type, m, row, rows, g, count, w);
        for (uint32_t i = 0; i < count; i++) {
            while (part_end <= g + i)
                part_end = groups * (++part + 1) / STK_EXPERT_PARTS;
            add_lane_terms(type, w, x, g, i, (__m512 *const[]){&sums[0][part], &sums[1][part]});
        }
    }
    for (int r = 0; r < ROWS_AT_ONCE; r++)
        out[r] = _mm512_add_ps(_mm512_add_ps(sums[r][0], sums[r][2]),
                               _mm512_add_ps(sums[r][1], sums[r][3]));
}

// As a down_rows kernel, likewise. A group whose d is 0 has terms of zero, which change no sum.
STK_INLINE uint32_t down_rows_lanes(blocks_of type, const stk_matrix *w, const stk_act *h,
                                    uint32_t count, float *const *y)
{
    uint32_t groups = w->cols / 32, done = 0;
    lanes_panel x;
    for (; count - done >= TOKEN_LANES_MIN && w->cols <= LANES_COLS_MAX;) {
        uint32_t tokens = count - done < TOKEN_LANES ? count - done : TOKEN_LANES;
        load_lanes(type, h + done, tokens, groups, &x);
        for (uint32_t o = 0; o < w->rows; o += ROWS_AT_ONCE) {
            uint32_t rows = w->rows - o < ROWS_AT_ONCE ? w->rows - o : ROWS_AT_ONCE;
            __m512 lanes[ROWS_AT_ONCE];
            float each[TOKEN_LANES];
            down_lanes(type, w, o, rows, &x, lanes);
            for (uint32_t r = 0; r < rows; r++) {
                _mm512_storeu_ps(each, lanes[r]);
                for (uint32_t t = 0; t < tokens; t++)
                    y[done + t][o + r] = each[t];
            }
        }
        done += tokens;
    }
    return done;
}

#endif
