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
