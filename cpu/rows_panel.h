// cpu/rows_panel.h: products with weights as the file holds them, row by row, eight blocks at a
// time (cpu/blocks.h). Included by one file per instruction set, after its blocks_*.h; everything
// is inlined. matmul_lanes and down_rows_lanes do the first of many tokens in another way and say
// how many: lanes_avx512.h or no_lanes.h.
#include "cpu/blocks.h"

enum {
    TOKENS_AT_ONCE = 8,
    DOWN_TOKENS = 4,
    // So far ahead of a stream of rows memory is asked, for the caches of both levels.
    NEAR_BYTES = 1024,
    FAR_BYTES = 4096,
};

STK_INLINE void ask_ahead(const uint8_t *p, uint32_t bytes)
{
    for (uint32_t i = 0; i < bytes; i += 64) {
        __builtin_prefetch(p + NEAR_BYTES + i, 0, 3);
        __builtin_prefetch(p + FAR_BYTES + i, 0, 2);
    }
}

// y[t*stride] = row . acts[t], t < tokens <= TOKENS_AT_ONCE. is_stream: more rows follow this one.
STK_INLINE void dot_row(blocks_of type, const uint8_t *row, uint32_t blocks, const stk_act *acts,
                        uint32_t tokens, float *y, size_t stride, bool is_stream)
{
    eight_floats a[TOKENS_AT_ONCE];
    for (uint32_t t = 0; t < tokens; t++)
        a[t] = eight_zero();
    for (uint32_t b = 0; b < blocks; b += 8) {
        uint32_t count = type.is_super || blocks - b >= 8 ? 8 : blocks - b;
        eight_blocks w;
        if (is_stream)
            ask_ahead(row + blocks_at(type, b), type.is_super ? type.bytes : 8 * type.bytes);
        type.load(row + blocks_at(type, b), count, &w);
        for (uint32_t t = 0; t < tokens; t++)
            a[t] = eight_add(a[t], terms(type, &w, &acts[t], b, count));
    }
    for (uint32_t t = 0; t < tokens; t++)
        y[t * stride] = eight_tree(a[t]);
}

STK_INLINE void matmul(blocks_of type, const stk_matrix *w, uint32_t row_begin, uint32_t row_end,
                       const stk_act *acts, uint32_t count, float *y, size_t y_stride)
{
    uint32_t blocks = w->cols / 32;
    uint32_t done = matmul_lanes(type, w, row_begin, row_end, acts, count, y, y_stride);
    for (uint32_t t = done; t < count; t += TOKENS_AT_ONCE) {
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

// Groups g.. of the rows of eight outputs; those past the last output repeat one.
STK_INLINE void load_rows(blocks_of type, const stk_matrix *w, uint32_t o, uint32_t g,
                          uint32_t count, eight_blocks rows[8])
{
    size_t row_bytes = blocks_at(type, w->cols / 32);
    for (uint32_t i = 0; i < 8; i++) {
        const uint8_t *row = (const uint8_t *)w->data + (o + i < w->rows ? o + i : o) * row_bytes;
        const uint8_t *p = row + blocks_at(type, g);
        for (uint32_t at = 0; at < (type.is_super ? type.bytes : 8 * type.bytes); at += 64) {
            __builtin_prefetch(p + 8 * row_bytes + at, 0, 3);
            __builtin_prefetch(p + 16 * row_bytes + at, 0, 2);
        }
        type.load(p, count, &rows[i]);
    }
}

// The terms of eight groups from g on, of eight outputs, one group to a register.
STK_INLINE void square(blocks_of type, const eight_blocks rows[8], const stk_act *h, uint32_t g,
                       uint32_t count, eight_floats t[8])
{
    for (uint32_t i = 0; i < 8; i++)
        t[i] = terms(type, &rows[i], h, g, count);
    eight_transpose(t);
}

// Section 4, down rows are outputs. Groups are the blocks of a row, so eight groups of eight
// outputs give a square of terms; its columns are added in the order of the groups.
STK_INLINE void down(blocks_of type, const stk_matrix *w, const stk_neurons *n, uint32_t begin,
                     uint32_t end, float *y)
{
    const stk_act h = {n->h, n->q, n->d, n->sum};
    for (uint32_t o = 0; o < w->rows; o += 8) {
        eight_floats t[8], sum = eight_load(y + o); // y has room for that
        for (uint32_t g = type.is_super ? begin / 8 * 8 : begin; g < end; g += 8) {
            uint32_t count = type.is_super || end - g >= 8 ? 8 : end - g;
            eight_blocks rows[8];
            load_rows(type, w, o, g, count, rows);
            square(type, rows, &h, g, count, t);
            for (uint32_t i = 0; i < count; i++)
                if (g + i >= begin && g + i < end && n->d[g + i] != 0)
                    sum = eight_add(sum, t[i]);
        }
        eight_store(y + o, sum);
    }
}

// The whole product for a few tokens: the blocks are unpacked once, and each part has its sum.
STK_INLINE void down_outputs(blocks_of type, const stk_matrix *w, uint32_t o, const stk_act *h,
                             uint32_t tokens, float *const *y)
{
    uint32_t groups = w->cols / 32;
    eight_floats sums[DOWN_TOKENS][STK_EXPERT_PARTS];
    for (uint32_t i = 0; i < tokens * STK_EXPERT_PARTS; i++)
        sums[i / STK_EXPERT_PARTS][i % STK_EXPERT_PARTS] = eight_zero();
    for (uint32_t g = 0; g < groups; g += 8) {
        uint32_t count = groups - g < 8 ? groups - g : 8;
        eight_blocks rows[8];
        load_rows(type, w, o, g, count, rows);
        for (uint32_t t = 0; t < tokens; t++) {
            eight_floats terms_of[8];
            square(type, rows, &h[t], g, count, terms_of);
            for (uint32_t i = 0, part = 0; i < count; i++) {
                while (groups * (part + 1) / STK_EXPERT_PARTS <= g + i)
                    part++;
                if (h[t].d[g + i] != 0)
                    sums[t][part] = eight_add(sums[t][part], terms_of[i]);
            }
        }
    }
    for (uint32_t t = 0; t < tokens; t++)
        eight_store(y[t] + o, eight_add(eight_add(sums[t][0], sums[t][2]),
                                        eight_add(sums[t][1], sums[t][3])));
}

STK_INLINE int down_rows(blocks_of type, const stk_matrix *w, const stk_act *h, uint32_t count,
                         float *const *y)
{
    for (uint32_t t = down_rows_lanes(type, w, h, count, y); t < count; t += DOWN_TOKENS) {
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
