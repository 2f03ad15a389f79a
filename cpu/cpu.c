#include "cpu/cpu.h"

#include <string.h>

#include "cpu/ref/ref.h"
#if defined(__x86_64__)
#include <cpuid.h>

#include "cpu/x86/x86.h"
#elif defined(__aarch64__)
#include <asm/hwcap.h>
#include <sys/auxv.h>

#include "cpu/arm/arm.h"
#endif

static const stk_kernel kernels[] = {
#define STK_KERNEL(op, isa, format, type, function)                                                \
    {STK_OP_##op,      STK_ISA_##isa, STK_FORMAT_##format,                                         \
     &stk_type_##type, #function,     (void (*)(void))function},
#include "cpu/kernels.def"
#undef STK_KERNEL
    {STK_OP_MATMUL, STK_ISA_REF, STK_FORMAT_COUNT, NULL, NULL, NULL},
};

const stk_kernel *stk_cpu_kernel_at(size_t index)
{
    return index < sizeof kernels / sizeof *kernels - 1 ? &kernels[index] : NULL;
}

static uint32_t detect_isas(void)
{
    uint32_t isas = STK_ISA_F32;
#if defined(__x86_64__)
    enum { AVXVNNI_IN_EAX = 1 << 4 }; // cpuid leaf 7.1
    unsigned eax, ebx, ecx = 0, edx;
    __builtin_cpu_init();
    // clang does not know "f16c" by name
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
        __get_cpuid(1, &eax, &ebx, &ecx, &edx) && (ecx & bit_F16C))
        isas |= STK_ISA_AVX2;
    if ((isas & STK_ISA_AVX2) && __get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx) &&
        (eax & AVXVNNI_IN_EAX))
        isas |= STK_ISA_AVXVNNI;
    if ((isas & STK_ISA_AVX2) && __builtin_cpu_supports("avx512f") &&
        __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vnni"))
        isas |= STK_ISA_AVX512;
    if ((isas & STK_ISA_AVX512) && stk_cpu_enable_amx())
        isas |= STK_ISA_AMX;
#elif defined(__aarch64__)
    if (getauxval(AT_HWCAP) & HWCAP_ASIMDDP)
        isas |= STK_ISA_NEON;
#endif
    return isas;
}

// The sets each --cpu-mask allows, narrowest first.
static const struct {
    const char *name;
    uint32_t needs, allows;
} masks[] = {
    {"scalar", 0, STK_ISA_REF},
    {"f32", STK_ISA_F32, STK_ISA_F32},
    {"avx2", STK_ISA_AVX2, STK_ISA_AVX2},
    {"avxvnni", STK_ISA_AVXVNNI, STK_ISA_AVX2 | STK_ISA_AVXVNNI},
    {"avx512", STK_ISA_AVX512, STK_ISA_AVX2 | STK_ISA_AVX512},
    {"amx", STK_ISA_AMX, STK_ISA_AVX2 | STK_ISA_AVX512 | STK_ISA_AMX},
    {"neon", STK_ISA_NEON, STK_ISA_NEON},
};

const char *stk_cpu_mask_at(size_t index)
{
    uint32_t here = detect_isas() & ~(uint32_t)STK_ISA_F32;
    for (size_t i = sizeof masks / sizeof *masks; i-- > 0;)
        if ((here & masks[i].needs) == masks[i].needs && index-- == 0)
            return masks[i].name;
    return NULL;
}

static stk_status allowed_isas(const char *mask, const stk_log *log, uint32_t *out)
{
    uint32_t here = detect_isas();
    if (!mask) {
        *out = here & ~(uint32_t)STK_ISA_F32;
        return STK_OK;
    }
    for (size_t i = 0; i < sizeof masks / sizeof *masks; i++) {
        if (strcmp(mask, masks[i].name) != 0)
            continue;
        if ((here & masks[i].needs) != masks[i].needs)
            return stk_fail(log, STK_INVALID, "this machine has no %s kernels", mask);
        *out = here & masks[i].allows;
        return STK_OK;
    }
    return stk_fail(log, STK_INVALID,
                    "no kernels are called '%s' (scalar, avx2, avxvnni, avx512, amx, neon)", mask);
}

stk_status stk_cpu_init(const char *mask, const stk_log *log, stk_cpu *out)
{
    uint32_t isas = 0;
    stk_status status = allowed_isas(mask, log, &isas);
    if (status != STK_OK)
        return status;
    stk_cpu cpu = {
        .isas = isas,
        .name = isas & STK_ISA_F32 ? "f32" : "scalar",
        .quantize = stk_quantize_ref,
        .rmsnorm = stk_rmsnorm_ref,
        .attend = stk_attend_ref,
        .attend_merge = stk_attend_merge_ref,
        .to_half = stk_to_half_ref,
        .combine = stk_combine_ref,
        .sum_parts = stk_sum_parts_ref,
    };
#if defined(__x86_64__)
    if (isas & STK_ISA_AVX2)
        stk_cpu_init_avx2(&cpu);
    if (isas & STK_ISA_AVXVNNI)
        cpu.name = "avxvnni";
    if (isas & STK_ISA_AVX512)
        stk_cpu_init_avx512(&cpu);
    if (isas & STK_ISA_AMX)
        cpu.name = "amx";
#elif defined(__aarch64__)
    if (isas & STK_ISA_NEON)
        stk_cpu_init_neon(&cpu);
#endif
    *out = cpu;
    return STK_OK;
}

static void (*find(const stk_cpu *cpu, stk_op op, stk_format format, const stk_type *type))(void)
{
    for (size_t i = sizeof kernels / sizeof *kernels - 1; i-- > 0;) {
        const stk_kernel *k = &kernels[i];
        if (k->op == op && k->format == format && k->type == type && (cpu->isas & k->isa))
            return k->function;
    }
    return NULL;
}

static uint32_t widest_of(uint32_t isas)
{
    while (isas & (isas - 1))
        isas &= isas - 1;
    return isas;
}

stk_matmul_fn stk_cpu_matmul(const stk_cpu *cpu, stk_format format, const stk_type *type)
{
    if (cpu->isas & STK_ISA_F32)
        return stk_matmul_f32_ref;
    stk_matmul_fn fn = (stk_matmul_fn)find(cpu, STK_OP_MATMUL, format, type);
    return fn ? fn : stk_matmul_ref;
}

stk_gate_fn stk_cpu_gate(const stk_cpu *cpu, stk_format format, const stk_type *type)
{
    return (stk_gate_fn)find(cpu, STK_OP_GATE, format, type);
}

stk_gather_fn stk_cpu_gather(const stk_cpu *cpu, stk_format format, const stk_type *type)
{
    if (cpu->isas & STK_ISA_F32)
        return stk_gather_f32_ref;
    stk_gather_fn fn = (stk_gather_fn)find(cpu, STK_OP_GATHER, format, type);
    return fn ? fn : stk_gather_ref;
}

stk_down_fn stk_cpu_down(const stk_cpu *cpu, stk_format format, const stk_type *type)
{
    if (cpu->isas & STK_ISA_F32)
        return stk_down_f32_ref;
    stk_down_fn fn = (stk_down_fn)find(cpu, STK_OP_DOWN, format, type);
    return fn ? fn : stk_down_ref;
}

stk_matmul_fn stk_cpu_up_rows(const stk_cpu *cpu, stk_format format, const stk_type *type)
{
    if (cpu->isas & STK_ISA_F32 || format == STK_FORMAT_ROWS) // there skipping is faster
        return NULL;
    return (stk_matmul_fn)find(cpu, STK_OP_MATMUL, format, type);
}

stk_down_rows_fn stk_cpu_down_rows(const stk_cpu *cpu, stk_format format, const stk_type *type)
{
    if (cpu->isas & STK_ISA_F32)
        return NULL;
    if (format == STK_FORMAT_ROWS)
        return (stk_down_rows_fn)find(cpu, STK_OP_DOWN_ROWS, format, type);
    // The sparse kernels of a set are faster than this one of a narrower set.
    stk_cpu widest = {.isas = widest_of(cpu->isas)};
    return (stk_down_rows_fn)find(&widest, STK_OP_DOWN_ROWS, format, type);
}
