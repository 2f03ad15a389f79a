// cpu/arm/arm.h: what the AArch64 kernels have: one file per instruction set and op family.
//
// cpu/kernels.def names the kernels, so a new one is its file and its line there. NEON is part of
// every AArch64; what cpu.c looks for at run time is the dot-product extension (SDOT).
#ifndef STK_CPU_ARM_ARM_H
#define STK_CPU_ARM_ARM_H

#include "cpu/cpu.h"

void stk_cpu_init_neon(stk_cpu *cpu);

#define STK_DECLARE_MATMUL(name)                                                                   \
    void name(const stk_matrix *w, uint32_t row_begin, uint32_t row_end, const stk_act *acts,      \
              uint32_t count, float *y, size_t y_stride);
#define STK_DECLARE_GATE(name)                                                                     \
    void name(const stk_matrix *w, uint32_t row_begin, uint32_t row_end, const stk_act *act,       \
              stk_ahead *ahead, float *y);
#define STK_DECLARE_GATHER(name)                                                                   \
    void name(const stk_matrix *w, const uint32_t *rows, uint32_t count, const stk_act *act,       \
              float *y);
#define STK_DECLARE_DOWN(name)                                                                     \
    void name(const stk_matrix *down, const stk_neurons *neurons, uint32_t group_begin,            \
              uint32_t group_end, float *y);

#define STK_DECLARE_DOWN_ROWS(name)                                                                \
    int name(const stk_matrix *down, const stk_act *h, uint32_t count, float *const *y);

#define STK_KERNEL(op, isa, format, type, function) STK_DECLARE_##op(function)
#include "cpu/kernels.def"
#undef STK_KERNEL

#endif
