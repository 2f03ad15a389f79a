// The vector of sixteen floats on NEON: four registers.
//
// Products are vmulq then vaddq, never vmlaq, which may round once; vfmaq is the law's fma.
#include <arm_neon.h>
#include <stdint.h>

#include "cpu/arm/lanes_neon.h"

typedef struct v16 {
    float32x4_t a, b, c, d; // lanes 0-3, 4-7, 8-11, 12-15
} v16;

#define EACH1(f, x)    ((v16){f((x).a), f((x).b), f((x).c), f((x).d)})
#define EACH2(f, x, y) ((v16){f((x).a, (y).a), f((x).b, (y).b), f((x).c, (y).c), f((x).d, (y).d)})

static inline v16 v_load(const float *p)
{
    return (v16){vld1q_f32(p), vld1q_f32(p + 4), vld1q_f32(p + 8), vld1q_f32(p + 12)};
}
static inline void v_store(float *p, v16 v)
{
    vst1q_f32(p, v.a);
    vst1q_f32(p + 4, v.b);
    vst1q_f32(p + 8, v.c);
    vst1q_f32(p + 12, v.d);
}
static inline v16 v_set1(float f)
{
    float32x4_t v = vdupq_n_f32(f);
    return (v16){v, v, v, v};
}
static inline v16 v_add(v16 x, v16 y)
{
    return EACH2(vaddq_f32, x, y);
}
static inline v16 v_sub(v16 x, v16 y)
{
    return EACH2(vsubq_f32, x, y);
}
static inline v16 v_mul(v16 x, v16 y)
{
    return EACH2(vmulq_f32, x, y);
}
static inline v16 v_fma(v16 x, v16 y, v16 z)
{
    return (v16){vfmaq_f32(z.a, x.a, y.a), vfmaq_f32(z.b, x.b, y.b), vfmaq_f32(z.c, x.c, y.c),
                 vfmaq_f32(z.d, x.d, y.d)};
}
static inline v16 v_max(v16 x, v16 y)
{
    return EACH2(vmaxq_f32, x, y);
}
static inline v16 v_min(v16 x, v16 y)
{
    return EACH2(vminq_f32, x, y);
}
static inline v16 v_abs(v16 x)
{
    return EACH1(vabsq_f32, x);
}
static inline v16 v_round(v16 x)
{
    return EACH1(vrndnq_f32, x);
}
static inline float32x4_t scale2(float32x4_t y, float32x4_t n)
{
    // Unsigned: lanes that zero_below clears may wrap around.
    uint32x4_t shift = vshlq_n_u32(vreinterpretq_u32_s32(vcvtq_s32_f32(n)), 23);
    return vreinterpretq_f32_u32(vaddq_u32(vreinterpretq_u32_f32(y), shift));
}
static inline v16 v_scale2(v16 y, v16 n)
{
    return EACH2(scale2, y, n);
}
static inline float32x4_t zero_below(float32x4_t y, float32x4_t x, float32x4_t limit)
{
    return vreinterpretq_f32_u32(vandq_u32(vcgeq_f32(x, limit), vreinterpretq_u32_f32(y)));
}
static inline v16 v_zero_below(v16 y, v16 x, float limit)
{
    float32x4_t l = vdupq_n_f32(limit);
    return (v16){zero_below(y.a, x.a, l), zero_below(y.b, x.b, l), zero_below(y.c, x.c, l),
                 zero_below(y.d, x.d, l)};
}
static inline float v_halve(v16 v)
{
    return stk_halve4_neon(vaddq_f32(vaddq_f32(v.a, v.c), vaddq_f32(v.b, v.d)));
}
// Lane j of the result is the tree of a[j], j < 4.
static inline float32x4_t halve4(const v16 a[4])
{
    float32x4_t t[4];
    for (int j = 0; j < 4; j++)
        t[j] = vaddq_f32(vaddq_f32(a[j].a, a[j].c), vaddq_f32(a[j].b, a[j].d));
    for (int j = 0; j < 4; j += 2)
        t[j] = vaddq_f32(vcombine_f32(vget_low_f32(t[j]), vget_low_f32(t[j + 1])),
                         vcombine_f32(vget_high_f32(t[j]), vget_high_f32(t[j + 1])));
    return vpaddq_f32(t[0], t[2]);
}
static inline v16 v_halve16(const v16 a[16])
{
    return (v16){halve4(a), halve4(a + 4), halve4(a + 8), halve4(a + 12)};
}
static inline float v_max_of(v16 v)
{
    return vmaxvq_f32(vmaxq_f32(vmaxq_f32(v.a, v.b), vmaxq_f32(v.c, v.d)));
}
static inline v16 v_load_half(const uint16_t *p)
{
    return (v16){stk_load_half4_neon(p), stk_load_half4_neon(p + 4), stk_load_half4_neon(p + 8),
                 stk_load_half4_neon(p + 12)};
}
static inline uint16x4_t to_half(float32x4_t v)
{
    return vreinterpret_u16_f16(vcvt_f16_f32(v));
}
static inline void v_store_half(uint16_t *p, v16 v)
{
    vst1_u16(p, to_half(v.a));
    vst1_u16(p + 4, to_half(v.b));
    vst1_u16(p + 8, to_half(v.c));
    vst1_u16(p + 12, to_half(v.d));
}
static inline int16x4_t to_i16(float32x4_t v)
{
    return vqmovn_s32(vmaxq_s32(vcvtnq_s32_f32(v), vdupq_n_s32(-127)));
}
static inline int32_t v_store_i8(int8_t *p, v16 v)
{
    int8x8_t low = vqmovn_s16(vcombine_s16(to_i16(v.a), to_i16(v.b)));
    int8x8_t high = vqmovn_s16(vcombine_s16(to_i16(v.c), to_i16(v.d)));
    int8x16_t bytes = vcombine_s8(low, high);
    vst1q_s8(p, bytes);
    return vaddlvq_s8(bytes);
}

enum { V_CHAINS = 4, V_COLUMNS = 2 };

#include "cpu/ops_v16.h"

#include "cpu/arm/arm.h"

void stk_cpu_init_neon(stk_cpu *cpu)
{
    init_v16(cpu);
    cpu->name = "neon";
}
