// base/half.h: half and bfloat16 to and from float, by integer operations only.
//
// Exact and independent of the FPU's denormal mode, so scales mean the same on every device.
#ifndef STK_BASE_HALF_H
#define STK_BASE_HALF_H

#include <stdint.h>
#include <string.h>

static inline float stk_float_from_bits(uint32_t bits)
{
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

static inline uint32_t stk_float_bits(float f)
{
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    return bits;
}

static inline float stk_half_to_float(uint16_t half)
{
    uint32_t sign = (uint32_t)(half & 0x8000u) << 16;
    uint32_t exponent = (half >> 10) & 31u, mantissa = half & 1023u;
    if (exponent == 31)
        return stk_float_from_bits(sign | 0x7f800000u | mantissa << 13);
    if (exponent == 0) {
        if (mantissa == 0)
            return stk_float_from_bits(sign);
        uint32_t shift = (uint32_t)__builtin_clz(mantissa) - 21; // brings bit 10 up
        exponent = 1 - shift;
        mantissa = (mantissa << shift) & 1023u;
        return stk_float_from_bits(sign | (exponent + 112) << 23 | mantissa << 13);
    }
    return stk_float_from_bits(sign | (exponent + 112) << 23 | mantissa << 13);
}

// Rounds to nearest, ties to even; overflow gives infinity; NaN stays NaN.
static inline uint16_t stk_half_from_float(float f)
{
    uint32_t bits = stk_float_bits(f);
    uint32_t sign = (bits >> 16) & 0x8000u, magnitude = bits & 0x7fffffffu;
    if (magnitude > 0x7f800000u)
        return (uint16_t)(sign | 0x7e00u | ((magnitude >> 13) & 0x3ffu));
    if (magnitude >= 0x477ff000u) // rounds to 65536 or more
        return (uint16_t)(sign | 0x7c00u);
    if (magnitude < 0x38800000u) { // below 2^-14: denormal
        if (magnitude < 0x33000000u)
            return (uint16_t)sign;                // below 2^-25: zero
        uint32_t shift = 126 - (magnitude >> 23); // 14..24
        uint32_t mantissa = (magnitude & 0x7fffffu) | 0x800000u;
        uint32_t value = mantissa >> shift, rest = mantissa & ((1u << shift) - 1);
        uint32_t tie = 1u << (shift - 1);
        value += rest > tie || (rest == tie && (value & 1));
        return (uint16_t)(sign | value);
    }
    uint32_t value = magnitude - 0x38000000u;
    value += 0xfffu + ((value >> 13) & 1);
    return (uint16_t)(sign | value >> 13);
}

static inline float stk_bfloat_to_float(uint16_t bfloat)
{
    return stk_float_from_bits((uint32_t)bfloat << 16);
}

// Unaligned little-endian loads.
static inline uint16_t stk_load_u16(const void *p)
{
    uint16_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

#endif
