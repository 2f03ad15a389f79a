// Dense products, AVX-VNNI.
#include "cpu/x86/dot_avxvnni.h"

#include "cpu/x86/dense_panel.h"

void stk_matmul_x16_q4_0_avxvnni(const stk_matrix *w, uint32_t row_begin, uint32_t row_end,
                                 const stk_act *acts, uint32_t count, float *y, size_t y_stride)
{
    matmul(w, &q4_0, row_begin, row_end, acts, count, y, y_stride, NULL);
}

void stk_matmul_x16_q8_0_avxvnni(const stk_matrix *w, uint32_t row_begin, uint32_t row_end,
                                 const stk_act *acts, uint32_t count, float *y, size_t y_stride)
{
    matmul(w, &q8_0, row_begin, row_end, acts, count, y, y_stride, NULL);
}

void stk_gate_x16_q4_0_avxvnni(const stk_matrix *w, uint32_t row_begin, uint32_t row_end,
                               const stk_act *act, stk_ahead *ahead, float *y)
{
    gate(w, &q4_0, row_begin, row_end, act, ahead, y);
}

void stk_gate_x16_q8_0_avxvnni(const stk_matrix *w, uint32_t row_begin, uint32_t row_end,
                               const stk_act *act, stk_ahead *ahead, float *y)
{
    gate(w, &q8_0, row_begin, row_end, act, ahead, y);
}

void stk_matmul_bundle_q4_0_avxvnni(const stk_matrix *w, uint32_t row_begin, uint32_t row_end,
                                    const stk_act *acts, uint32_t count, float *y, size_t y_stride)
{
    matmul_bundle(w, row_begin, row_end, acts, count, y, y_stride);
}
