// cpu/x86/x86.h: what the x86 kernels have: one file per instruction set and op family.
//
// Each init overwrites the pointers its set improves. Signatures are in cpu/cpu.h.
#ifndef STK_CPU_X86_X86_H
#define STK_CPU_X86_X86_H

#include "cpu/cpu.h"
#include <stdbool.h>

void stk_cpu_init_avx2(stk_cpu *cpu);
void stk_cpu_init_avx512(stk_cpu *cpu);

// Asks the system for the tile registers; false where they or their int8 products are missing.
bool stk_cpu_enable_amx(void);

#define STK_DECLARE_MATMUL(name)                                                                   \
    void name(const stk_matrix *w, uint32_t row_begin, uint32_t row_end, const stk_act *acts,      \
              uint32_t count, float *y, size_t y_stride);
#define STK_DECLARE_GATHER(name)                                                                   \
    void name(const stk_matrix *w, const uint32_t *rows, uint32_t count, const stk_act *act,       \
              float *y);
#define STK_DECLARE_DOWN(name)                                                                     \
    void name(const stk_matrix *down, const stk_neurons *neurons, uint32_t group_begin,            \
              uint32_t group_end, float *y);
#define STK_DECLARE_DOWN_ROWS(name)                                                                \
    int name(const stk_matrix *down, const stk_act *h, uint32_t count, float *const *y);

// Weights as the file holds them: STK_ROWS_KERNELS of kernels.def.
#define STK_DECLARE_ROWS(type, set)                                                                \
    STK_DECLARE_MATMUL(stk_matmul_rows_##type##_##set)                                             \
    STK_DECLARE_GATHER(stk_gather_rows_##type##_##set)                                             \
    STK_DECLARE_DOWN(stk_down_outputs_##type##_##set)                                              \
    STK_DECLARE_DOWN_ROWS(stk_down_rows_##type##_##set)

STK_DECLARE_MATMUL(stk_matmul_x16_q4_0_avx2)
STK_DECLARE_MATMUL(stk_matmul_x16_q8_0_avx2)
STK_DECLARE_MATMUL(stk_matmul_bundle_q4_0_avx2)
STK_DECLARE_MATMUL(stk_matmul_f32_avx2)
STK_DECLARE_MATMUL(stk_matmul_f16_avx2)
STK_DECLARE_GATHER(stk_gather_f16_avx2)
STK_DECLARE_GATHER(stk_gather_bundle_q4_0_avx2)
STK_DECLARE_DOWN(stk_down_bundle_q4_0_avx2)
STK_DECLARE_DOWN(stk_down_bundle_t_q4_0_avx2)
STK_DECLARE_ROWS(q4_0, avx2)
STK_DECLARE_ROWS(q4_1, avx2)
STK_DECLARE_ROWS(q5_0, avx2)
STK_DECLARE_ROWS(q5_1, avx2)
STK_DECLARE_ROWS(q8_0, avx2)
STK_DECLARE_ROWS(iq4_nl, avx2)
STK_DECLARE_ROWS(mxfp4, avx2)
STK_DECLARE_ROWS(q3_k, avx2)
STK_DECLARE_ROWS(q4_k, avx2)
STK_DECLARE_ROWS(q5_k, avx2)
STK_DECLARE_ROWS(q6_k, avx2)
STK_DECLARE_DOWN(stk_down_neurons_q4_0_avx2)
STK_DECLARE_DOWN(stk_down_neurons_q4_1_avx2)
STK_DECLARE_DOWN(stk_down_neurons_q5_0_avx2)
STK_DECLARE_DOWN(stk_down_neurons_q5_1_avx2)
STK_DECLARE_DOWN(stk_down_neurons_q8_0_avx2)
STK_DECLARE_DOWN(stk_down_neurons_iq4_nl_avx2)
STK_DECLARE_DOWN(stk_down_neurons_mxfp4_avx2)
STK_DECLARE_DOWN(stk_down_neurons_q3_k_avx2)
STK_DECLARE_DOWN(stk_down_neurons_q4_k_avx2)
STK_DECLARE_DOWN(stk_down_neurons_q5_k_avx2)
STK_DECLARE_DOWN(stk_down_neurons_q6_k_avx2)
STK_DECLARE_MATMUL(stk_matmul_x16_q4_0_avxvnni)
STK_DECLARE_MATMUL(stk_matmul_x16_q8_0_avxvnni)
STK_DECLARE_MATMUL(stk_matmul_bundle_q4_0_avxvnni)
STK_DECLARE_MATMUL(stk_matmul_x16_q4_0_avx512)
STK_DECLARE_MATMUL(stk_matmul_x16_q8_0_avx512)
STK_DECLARE_MATMUL(stk_matmul_f32_avx512)
STK_DECLARE_MATMUL(stk_matmul_f16_avx512)
STK_DECLARE_GATHER(stk_gather_bundle_q4_0_avx512)
STK_DECLARE_DOWN(stk_down_bundle_q4_0_avx512)
STK_DECLARE_DOWN(stk_down_bundle_t_q4_0_avx512)
STK_DECLARE_MATMUL(stk_matmul_bundle_q4_0_avx512)
STK_DECLARE_ROWS(q8_0, avx512)
STK_DECLARE_ROWS(q4_k, avx512)
STK_DECLARE_ROWS(q5_k, avx512)
STK_DECLARE_ROWS(q6_k, avx512)
STK_DECLARE_MATMUL(stk_matmul_x16_q4_0_amx)
STK_DECLARE_MATMUL(stk_matmul_x16_q8_0_amx)
STK_DECLARE_MATMUL(stk_matmul_bundle_q4_0_amx)
STK_DECLARE_DOWN_ROWS(stk_down_rows_bundle_q4_0_avx2)
STK_DECLARE_DOWN_ROWS(stk_down_rows_bundle_q4_0_avxvnni)
STK_DECLARE_DOWN_ROWS(stk_down_rows_bundle_q4_0_amx)

#endif
