#include "cpu/ref/ref.h"

#include "cpu/math.h"

static int32_t dot_block(const int16_t *a, const int8_t *b)
{
    int32_t sum = 0;
    for (int i = 0; i < 32; i++)
        sum += a[i] * b[i];
    return sum;
}

// Section 2: block-quantised weights.
static float dot_quantized(const stk_matrix *w, uint32_t row, const stk_act *act)
{
    float a[8] = {0};
    for (uint32_t b = 0; b < w->cols / 32; b++) {
        stk_block32 block;
        stk_matrix_unpack32(w, row, b, &block);
        float scale = block.d * act->d[b];
        float t = (float)dot_block(block.q, act->q + 32 * b) * scale;
        if (block.m != 0) {
            float m = block.m * act->d[b];
            m = (float)act->sum[b] * m;
            t = t - m;
        }
        a[b % 8] = a[b % 8] + t;
    }
    return stk_halve(a, 8);
}

// Section 3: float weights, a piece at a time so that no row needs a buffer of its own.
static float dot_float(const stk_matrix *w, uint32_t row, const float *x)
{
    enum { PIECE = 256 };
    float a[16] = {0}, piece[PIECE];
    const uint8_t *data = stk_matrix_row(w, row);
    for (uint32_t at = 0; at < w->cols; at += PIECE) {
        uint32_t n = w->cols - at < PIECE ? w->cols - at : PIECE;
        w->type->dequantize(data + stk_type_row_bytes(w->type, at), piece, n);
        for (uint32_t i = 0; i < n; i++) {
            float t = piece[i] * x[at + i];
            a[(at + i) % 16] = a[(at + i) % 16] + t;
        }
    }
    return stk_halve(a, 16);
}

static float dot_row(const stk_matrix *w, uint32_t row, const stk_act *act)
{
    return w->type->unpack32 ? dot_quantized(w, row, act) : dot_float(w, row, act->x);
}

void stk_matmul_ref(const stk_matrix *w, uint32_t row_begin, uint32_t row_end, const stk_act *acts,
                    uint32_t count, float *y, size_t y_stride)
{
    for (uint32_t row = row_begin; row < row_end; row++)
        for (uint32_t t = 0; t < count; t++)
            y[t * y_stride + row - row_begin] = dot_row(w, row, &acts[t]);
}

void stk_gather_ref(const stk_matrix *w, const uint32_t *rows, uint32_t count, const stk_act *act,
                    float *y)
{
    for (uint32_t i = 0; i < count; i++)
        y[i] = dot_row(w, rows[i], act);
}
