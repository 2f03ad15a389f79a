// cpu/x86/rows_panel.h: products with weights as the file holds them, row by row, eight blocks at a
// time. Included by one file per instruction set, after its blocks_*.h; everything is inlined.
#ifndef STK_CPU_X86_ROWS_PANEL_H
#define STK_CPU_X86_ROWS_PANEL_H

#include "cpu/x86/blocks.h"

enum {
    TOKENS_AT_ONCE = 8,
    DOWN_TOKENS = 4,
    // So far ahead of a stream of rows memory is asked, for the caches of both levels.
    NEAR_BYTES = 1024,
    FAR_BYTES = 4096,
};

// Lane i: what section 2 calls t, of block b + i.
STK_INLINE __m256 terms(blocks_of type, const eight_blocks *w, const stk_act *act, uint32_t b,
                        uint32_t count)
{
    __m256i lanes = first_lanes(count);
    __m256 scale = _mm256_maskload_ps(act->d + b, lanes);
    __m256i isum = sum_lanes(type, w, act->q + 32 * (size_t)b, act->sum + b, count);
    __m256 t = _mm256_mul_ps(_mm256_cvtepi32_ps(isum), _mm256_mul_ps(w->d, scale));
    if (type.is_unsigned) {
        __m256 s = _mm256_cvtepi32_ps(_mm256_maskload_epi32(act->sum + b, lanes));
        t = _mm256_sub_ps(t, _mm256_mul_ps(s, _mm256_mul_ps(w->m, scale)));
    }
    return t;
}

STK_INLINE void ask_ahead(const uint8_t *p, uint32_t bytes)
{
    for (uint32_t i = 0; i < bytes; i += 64) {
        _mm_prefetch((const char *)p + NEAR_BYTES + i, _MM_HINT_T0);
        _mm_prefetch((const char *)p + FAR_BYTES + i, _MM_HINT_T1);
    }
}

// y[t*stride] = row . acts[t], t < tokens <= TOKENS_AT_ONCE. is_stream: more rows follow this one.
STK_INLINE void dot_row(blocks_of type, const uint8_t *row, uint32_t blocks, const stk_act *acts,
                        uint32_t tokens, float *y, size_t stride, bool is_stream)
{
    __m256 a[TOKENS_AT_ONCE];
    for (uint32_t t = 0; t < tokens; t++)
        a[t] = _mm256_setzero_ps();
    for (uint32_t b = 0; b < blocks; b += 8) {
        uint32_t count = type.is_super || blocks - b >= 8 ? 8 : blocks - b;
        eight_blocks w;
        if (is_stream)
            ask_ahead(row + blocks_at(type, b), type.is_super ? type.bytes : 8 * type.bytes);
        type.load(row + blocks_at(type, b), count, &w);
        for (uint32_t t = 0; t < tokens; t++)
            a[t] = _mm256_add_ps(a[t], terms(type, &w, &acts[t], b, count));
    }
    for (uint32_t t = 0; t < tokens; t++) {
        __m128 c = _mm_add_ps(_mm256_castps256_ps128(a[t]), _mm256_extractf128_ps(a[t], 1));
        c = _mm_add_ps(c, _mm_movehl_ps(c, c));
        y[t * stride] = _mm_cvtss_f32(_mm_add_ss(c, _mm_shuffle_ps(c, c, 1)));
    }
}

STK_INLINE void matmul(blocks_of type, const stk_matrix *w, uint32_t row_begin, uint32_t row_end,
                       const stk_act *acts, uint32_t count, float *y, size_t y_stride)
{
    uint32_t blocks = w->cols / 32;
    for (uint32_t t = 0; t < count; t += TOKENS_AT_ONCE) {
        uint32_t tokens = count - t < TOKENS_AT_ONCE ? count - t : TOKENS_AT_ONCE;
        for (uint32_t row = row_begin; row < row_end; row++) {
            float *to = y + t * y_stride + (row - row_begin);
            if (tokens == 1)
                dot_row(type, stk_matrix_row(w, row), blocks, acts + t, 1, to, y_stride, true);
            else
                dot_row(type, stk_matrix_row(w, row), blocks, acts + t, tokens, to, y_stride,
                        false);
        }
    }
}

STK_INLINE void gather(blocks_of type, const stk_matrix *w, const uint32_t *rows, uint32_t count,
                       const stk_act *act, float *y)
{
    for (uint32_t i = 0; i < count; i++)
        dot_row(type, stk_matrix_row(w, rows[i]), w->cols / 32, act, 1, &y[i], 1, false);
}

// Eight registers of eight become their columns.
STK_INLINE void transpose(__m256 r[8])
{
    __m256 a[8], b[8];
    for (int i = 0; i < 8; i += 2) {
        a[i] = _mm256_unpacklo_ps(r[i], r[i + 1]);
        a[i + 1] = _mm256_unpackhi_ps(r[i], r[i + 1]);
    }
    for (int i = 0; i < 8; i += 4) {
        b[i] = _mm256_shuffle_ps(a[i], a[i + 2], 0x44);
        b[i + 1] = _mm256_shuffle_ps(a[i], a[i + 2], 0xee);
        b[i + 2] = _mm256_shuffle_ps(a[i + 1], a[i + 3], 0x44);
        b[i + 3] = _mm256_shuffle_ps(a[i + 1], a[i + 3], 0xee);
    }
    for (int i = 0; i < 4; i++) {
        r[i] = _mm256_permute2f128_ps(b[i], b[i + 4], 0x20);
        r[i + 4] = _mm256_permute2f128_ps(b[i], b[i + 4], 0x31);
    }
}

// Groups g.. of the rows of eight outputs; those past the last output repeat one.
STK_INLINE void load_rows(blocks_of type, const stk_matrix *w, uint32_t o, uint32_t g,
                          uint32_t count, eight_blocks rows[8])
{
    for (uint32_t i = 0; i < 8; i++) {
        const uint8_t *row = stk_matrix_row(w, o + i < w->rows ? o + i : o);
        type.load(row + blocks_at(type, g), count, &rows[i]);
    }
}

// The terms of eight groups from g on, of eight outputs, one group to a register.
STK_INLINE void square(blocks_of type, const eight_blocks rows[8], const stk_act *h, uint32_t g,
                       uint32_t count, __m256 t[8])
{
    for (uint32_t i = 0; i < 8; i++)
        t[i] = terms(type, &rows[i], h, g, count);
    transpose(t);
}

// Section 4, down rows are outputs. Groups are the blocks of a row, so eight groups of eight
// outputs give a square of terms; its columns are added in the order of the groups.
STK_INLINE void down(blocks_of type, const stk_matrix *w, const stk_neurons *n, uint32_t begin,
                     uint32_t end, float *y)
{
    const stk_act h = {n->h, n->q, n->d, n->sum};
    for (uint32_t o = 0; o < w->rows; o += 8) {
        __m256 t[8], sum = _mm256_loadu_ps(y + o); // y has room for that
        for (uint32_t g = type.is_super ? begin / 8 * 8 : begin; g < end; g += 8) {
            uint32_t count = type.is_super || end - g >= 8 ? 8 : end - g;
            eight_blocks rows[8];
            load_rows(type, w, o, g, count, rows);
            square(type, rows, &h, g, count, t);
            for (uint32_t i = 0; i < count; i++)
                if (g + i >= begin && g + i < end && n->d[g + i] != 0)
                    sum = _mm256_add_ps(sum, t[i]);
        }
        _mm256_storeu_ps(y + o, sum);
    }
}

// The whole product for a few tokens: the blocks are unpacked once, and each part has its sum.
STK_INLINE void down_outputs(blocks_of type, const stk_matrix *w, uint32_t o, const stk_act *h,
                             uint32_t tokens, float *const *y)
{
    uint32_t groups = w->cols / 32;
    __m256 sums[DOWN_TOKENS][STK_EXPERT_PARTS];
    for (uint32_t i = 0; i < tokens * STK_EXPERT_PARTS; i++)
        sums[i / STK_EXPERT_PARTS][i % STK_EXPERT_PARTS] = _mm256_setzero_ps();
    for (uint32_t g = 0; g < groups; g += 8) {
        uint32_t count = groups - g < 8 ? groups - g : 8;
        eight_blocks rows[8];
        load_rows(type, w, o, g, count, rows);
        for (uint32_t t = 0; t < tokens; t++) {
            __m256 terms_of[8];
            square(type, rows, &h[t], g, count, terms_of);
            for (uint32_t i = 0, part = 0; i < count; i++) {
                while (groups * (part + 1) / STK_EXPERT_PARTS <= g + i)
                    part++;
                if (h[t].d[g + i] != 0)
                    sums[t][part] = _mm256_add_ps(sums[t][part], terms_of[i]);
            }
        }
    }
    for (uint32_t t = 0; t < tokens; t++)
        _mm256_storeu_ps(y[t] + o, _mm256_add_ps(_mm256_add_ps(sums[t][0], sums[t][2]),
                                                 _mm256_add_ps(sums[t][1], sums[t][3])));
}

STK_INLINE int down_rows(blocks_of type, const stk_matrix *w, const stk_act *h, uint32_t count,
                         float *const *y)
{
    for (uint32_t t = 0; t < count; t += DOWN_TOKENS) {
        uint32_t tokens = count - t < DOWN_TOKENS ? count - t : DOWN_TOKENS;
        for (uint32_t o = 0; o < w->rows; o += 8) {
            if (tokens == 1)
                down_outputs(type, w, o, h + t, 1, y + t);
            else
                down_outputs(type, w, o, h + t, tokens, y + t);
        }
    }
    return 1;
}

// The kernels of one type for one set of instructions.
#define STK_ROWS_OF(name, set, ...)                                                                \
    static const blocks_of name = {load_##name, __VA_ARGS__};                                      \
    void stk_matmul_rows_##name##_##set(const stk_matrix *w, uint32_t row_begin, uint32_t row_end, \
                                        const stk_act *acts, uint32_t count, float *y,             \
                                        size_t y_stride)                                           \
    {                                                                                              \
        matmul(name, w, row_begin, row_end, acts, count, y, y_stride);                             \
    }                                                                                              \
    void stk_gather_rows_##name##_##set(const stk_matrix *w, const uint32_t *rows, uint32_t count, \
                                        const stk_act *act, float *y)                              \
    {                                                                                              \
        gather(name, w, rows, count, act, y);                                                      \
    }                                                                                              \
    void stk_down_outputs_##name##_##set(const stk_matrix *w, const stk_neurons *n,                \
                                         uint32_t begin, uint32_t end, float *y)                   \
    {                                                                                              \
        down(name, w, n, begin, end, y);                                                           \
    }                                                                                              \
    int stk_down_rows_##name##_##set(const stk_matrix *w, const stk_act *h, uint32_t count,        \
                                     float *const *y)                                              \
    {                                                                                              \
        return down_rows(name, w, h, count, y);                                                    \
    }

#endif
