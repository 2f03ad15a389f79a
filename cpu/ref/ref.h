// cpu/ref/ref.h: docs/arithmetic.md as code, slow and obvious. Signatures are in cpu/cpu.h.
#ifndef STK_CPU_REF_REF_H
#define STK_CPU_REF_REF_H

#include "cpu/cpu.h"

void stk_quantize_ref(const float *x, uint32_t n, int8_t *q, float *d, int32_t *sum);
void stk_matmul_ref(const stk_matrix *w, uint32_t row_begin, uint32_t row_end, const stk_act *acts,
                    uint32_t count, float *y, size_t y_stride);
void stk_gather_ref(const stk_matrix *w, const uint32_t *rows, uint32_t count, const stk_act *act,
                    float *y);
void stk_down_ref(const stk_matrix *down, const stk_neurons *neurons, uint32_t group_begin,
                  uint32_t group_end, float *y);
void stk_rmsnorm_ref(const float *x, const float *weight, float eps, uint32_t n, float *y);
void stk_attend_ref(stk_attend_query *queries, uint32_t count, uint32_t head_dim,
                    const stk_attend_segment *segment, float scale);
void stk_attend_merge_ref(stk_attend_state *into, const stk_attend_state *segment,
                          uint32_t head_dim);
void stk_to_half_ref(const float *x, uint32_t n, uint16_t *y);
void stk_combine_ref(float *x, const float *const *y, const float *weights, uint32_t count,
                     uint32_t n);
void stk_sum_parts_ref(const float *parts, size_t stride, uint32_t n, float *out);

// The same products with float activations, for tests of everything but quantisation.
void stk_matmul_f32_ref(const stk_matrix *w, uint32_t row_begin, uint32_t row_end,
                        const stk_act *acts, uint32_t count, float *y, size_t y_stride);
void stk_gather_f32_ref(const stk_matrix *w, const uint32_t *rows, uint32_t count,
                        const stk_act *act, float *y);
void stk_down_f32_ref(const stk_matrix *down, const stk_neurons *neurons, uint32_t group_begin,
                      uint32_t group_end, float *y);

#endif
