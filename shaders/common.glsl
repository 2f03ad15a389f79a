// What every shader shares: buffers by address, exact half conversion, integer dot products.
//
// Results of sections 1 to 5 of docs/arithmetic.md must equal the CPU's to the bit: every float
// operation feeds a `precise` variable (NoContraction; a test looks at the compiled code), there
// is no division, and halves become floats by integer operations, because devices may flush
// half denormals.
#extension GL_EXT_buffer_reference : require
#extension GL_EXT_control_flow_attributes : require

layout(buffer_reference, std430, buffer_reference_align = 4) buffer Words { uint w[]; };
layout(buffer_reference, std430, buffer_reference_align = 4) buffer Floats { float f[]; };
layout(buffer_reference, std430, buffer_reference_align = 4) buffer Ints { int i[]; };
layout(buffer_reference, std430, buffer_reference_align = 16) readonly buffer Vectors { uvec4 v[]; };

// The half in the low 16 bits.
float half_to_float(uint h)
{
    uint sign = (h & 0x8000u) << 16, exponent = (h >> 10) & 31u, mantissa = h & 1023u;
    if (exponent == 31)
        return uintBitsToFloat(sign | 0x7f800000u | mantissa << 13);
    if (exponent == 0) {
        uint shift = 10u - uint(findMSB(mantissa | 1u)); // brings bit 10 up
        exponent = 1u - shift;
        uint bits = (exponent + 112u) << 23 | ((mantissa << shift) & 1023u) << 13;
        return uintBitsToFloat(sign | (mantissa == 0 ? 0u : bits));
    }
    return uintBitsToFloat(sign | (exponent + 112u) << 23 | mantissa << 13);
}

// Half number `index` of words from `at` on.
uint half_bits(Words words, uint at, uint index)
{
    return (words.w[at + index / 2] >> (16 * (index & 1))) & 0xffffu;
}

// Rounds to nearest, ties to even, as base/half.h does; overflow gives infinity.
uint half_from_float(float f)
{
    uint bits = floatBitsToUint(f), sign = (bits >> 16) & 0x8000u, magnitude = bits & 0x7fffffffu;
    if (magnitude > 0x7f800000u)
        return sign | 0x7e00u | ((magnitude >> 13) & 0x3ffu);
    if (magnitude >= 0x477ff000u)
        return sign | 0x7c00u;
    if (magnitude < 0x38800000u) {
        if (magnitude < 0x33000000u)
            return sign;
        uint shift = 126u - (magnitude >> 23), mantissa = (magnitude & 0x7fffffu) | 0x800000u;
        uint value = mantissa >> shift, rest = mantissa & ((1u << shift) - 1u);
        uint tie = 1u << (shift - 1u);
        value += uint(rest > tie || (rest == tie && (value & 1u) != 0));
        return sign | value;
    }
    uint value = magnitude - 0x38000000u;
    value += 0xfffu + ((value >> 13) & 1u);
    return sign | value >> 13;
}

// Sum of the products of four signed bytes.
#ifdef STK_DOT
#extension GL_EXT_spirv_intrinsics : require
spirv_instruction(extensions = ["SPV_KHR_integer_dot_product"], capabilities = [6019, 6018],
                  id = 4450) int stk_sdot(uint a, uint b, spirv_literal int packed_4x8);
int dot4(uint a, uint b)
{
    return stk_sdot(a, b, 0);
}
#else
int dot4(uint a, uint b)
{
    ivec4 x = ivec4(int(a << 24), int(a << 16), int(a << 8), int(a)) >> 24;
    ivec4 y = ivec4(int(b << 24), int(b << 16), int(b << 8), int(b)) >> 24;
    ivec4 p = x * y;
    return p.x + p.y + p.z + p.w;
}
#endif

// The halving tree of eight.
float halve8(float a0, float a1, float a2, float a3, float a4, float a5, float a6, float a7)
{
    precise float even = (a0 + a4) + (a2 + a6);
    precise float odd = (a1 + a5) + (a3 + a7);
    precise float sum = even + odd;
    return sum;
}
