// The products of sections 2 to 4 with unquantised activations: a test-only reference that
// separates what activation quantisation costs from what is simply wrong.
#include "cpu/ref/ref.h"

static float value_at(const stk_matrix *w, uint32_t row, uint32_t col)
{
    if (!w->type->unpack32) {
        const uint8_t *data = stk_matrix_row(w, row);
        float value;
        w->type->dequantize(data + stk_type_row_bytes(w->type, col), &value, 1);
        return value;
    }
    stk_block32 block;
    stk_matrix_unpack32(w, row, col / 32, &block);
    return block.d * (float)block.q[col % 32] - block.m;
}

static float dot_row(const stk_matrix *w, uint32_t row, const float *x)
{
    double sum = 0;
    float values[32];
    for (uint32_t at = 0; at < w->cols; at += 32) {
        uint32_t n = w->cols - at < 32 ? w->cols - at : 32;
        if (w->type->unpack32) {
            stk_block32 block;
            stk_matrix_unpack32(w, row, at / 32, &block);
            for (uint32_t i = 0; i < 32; i++)
                values[i] = block.d * (float)block.q[i] - block.m;
        } else {
            const uint8_t *data = stk_matrix_row(w, row);
            w->type->dequantize(data + stk_type_row_bytes(w->type, at), values, n);
        }
        for (uint32_t i = 0; i < n; i++)
            sum += (double)values[i] * (double)x[at + i];
    }
    return (float)sum;
}

void stk_matmul_f32_ref(const stk_matrix *w, uint32_t row_begin, uint32_t row_end,
                        const stk_act *acts, uint32_t count, float *y, size_t y_stride)
{
    for (uint32_t row = row_begin; row < row_end; row++)
        for (uint32_t t = 0; t < count; t++)
            y[t * y_stride + row - row_begin] = dot_row(w, row, acts[t].x);
}

void stk_gather_f32_ref(const stk_matrix *w, const uint32_t *rows, uint32_t count,
                        const stk_act *act, float *y)
{
    for (uint32_t i = 0; i < count; i++)
        y[i] = dot_row(w, rows[i], act->x);
}

void stk_down_f32_ref(const stk_matrix *down, const stk_neurons *n, uint32_t group_begin,
                      uint32_t group_end, float *y)
{
    int rows_are_neurons = down->format == STK_FORMAT_BUNDLE_T_DOWN ||
                           down->format == STK_FORMAT_ROWS_T;
    uint32_t outputs = rows_are_neurons ? down->cols : down->rows;
    for (uint32_t a = n->first[group_begin]; a < n->first[group_end]; a++) {
        uint32_t j = n->active[a];
        for (uint32_t o = 0; o < outputs; o++) {
            float w = rows_are_neurons ? value_at(down, j, o) : value_at(down, o, j);
            float t = w * n->h[j];
            y[o] = y[o] + t;
        }
    }
}
