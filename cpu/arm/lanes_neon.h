// cpu/arm/lanes_neon.h: half floats and halving trees in NEON registers.
//
// The conversions are in every AArch64 and exact or to nearest even, as base/half.h.
#ifndef STK_CPU_ARM_LANES_NEON_H
#define STK_CPU_ARM_LANES_NEON_H

#include <arm_neon.h>

// Four halves at any address. The byte load says that nothing is known of the alignment.
static inline float32x4_t stk_load_half4_neon(const void *p)
{
    return vcvt_f32_f16(vreinterpret_f16_u8(vld1_u8((const uint8_t *)p)));
}

// Lane i + lane i+2, then lane 0 + lane 1: the last two levels of the law's halving tree.
static inline float stk_halve4_neon(float32x4_t v)
{
    float32x2_t two = vadd_f32(vget_low_f32(v), vget_high_f32(v));
    return vget_lane_f32(vpadd_f32(two, two), 0);
}

#endif
