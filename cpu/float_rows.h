// cpu/float_rows.h: products with rows of float weights, whatever the vector set: four rows run
// side by side, and those that are left one by one.
#ifndef STK_CPU_FLOAT_ROWS_H
#define STK_CPU_FLOAT_ROWS_H

#include "cpu/cpu.h"

// y[r] = rows[r][cols] . x[cols] for `count` rows, four or one; inlined with count known.
typedef void (*stk_float_dot_fn)(const uint8_t *const *rows, int count, uint32_t cols,
                                 const float *x, float *y);

// As stk_matmul_fn, of a matrix with elements of `size` bytes.
static inline __attribute__((always_inline)) void
stk_float_matmul(const stk_matrix *w, stk_float_dot_fn dot, size_t size, uint32_t row_begin,
                 uint32_t row_end, const stk_act *acts, uint32_t count, float *y, size_t y_stride)
{
    size_t row_bytes = w->cols * size;
    for (uint32_t row = row_begin; row < row_end; row += 4) {
        const uint8_t *rows[4];
        int n = row_end - row < 4 ? (int)(row_end - row) : 4;
        for (int r = 0; r < n; r++)
            rows[r] = (const uint8_t *)w->data + (row + (uint32_t)r) * row_bytes;
        for (uint32_t t = 0; t < count; t++) {
            float *to = y + t * y_stride + (row - row_begin);
            if (n == 4)
                dot(rows, 4, w->cols, acts[t].x, to);
            else
                for (int r = 0; r < n; r++)
                    dot(rows + r, 1, w->cols, acts[t].x, to + r);
        }
    }
}

// As stk_gather_fn, likewise.
static inline __attribute__((always_inline)) void
stk_float_gather(const stk_matrix *w, stk_float_dot_fn dot, size_t size, const uint32_t *rows,
                 uint32_t count, const stk_act *act, float *y)
{
    for (uint32_t i = 0; i < count; i++) {
        const uint8_t *row = (const uint8_t *)w->data + rows[i] * (w->cols * size);
        dot(&row, 1, w->cols, act->x, &y[i]);
    }
}

#endif
