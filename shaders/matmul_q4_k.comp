// y[t][row] = row of a Q4_K matrix, as in the file, . row t of quantised activations: section 2.
// Q5_K with -DQ5_K.
//
// A workgroup takes 16 rows of eight accumulators and one activation row. Invocation a of a row has
// block a of every 256 values (model/types/q4_k.c, q5_k.c).
#version 460
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"

layout(local_size_x = 128) in;
layout(push_constant) uniform Args
{
    Words w;
    Words q;    // [count][cols / 4]
    Floats d;   // [count][cols / 32]
    Ints sum;   // [count][cols / 32]
    Floats y;   // [count][y_stride]
    uint rows;
    uint cols;
    uint count;
    uint y_stride;
};

#ifdef Q5_K
const uint SUPER_WORDS = 44, NIBBLES_AT = 12;
#else
const uint SUPER_WORDS = 36, NIBBLES_AT = 4;
#endif

shared float parts[16][8];

// The scale, in the low byte, and the minimum, in the next, of block a.
uint scale_min(uint at, uint a)
{
    uint shift = 8 * (a % 4), first = w.w[at + 1] >> shift, second = w.w[at + 2] >> shift;
    if (a < 4)
        return (first & 63u) | (second & 63u) << 8;
    uint third = w.w[at + 3] >> shift;
    return (third & 15u) | (first >> 6 & 3u) << 4 | (third >> 4 & 15u | (second >> 6 & 3u) << 4) << 8;
}

void main()
{
    uint a = gl_LocalInvocationID.x % 8, which = gl_LocalInvocationID.x / 8;
    uint row = gl_WorkGroupID.x * 16 + which, t = gl_WorkGroupID.y, blocks = cols / 32;
    precise float acc = 0;
    for (uint b = row < rows ? a : blocks; b < blocks; b += 8) {
        uint at = (row * (cols / 256) + b / 8) * SUPER_WORDS, block = t * blocks + b;
        int isum = 0;
        for (uint c = 0; c < 8; c++) {
            uint values = w.w[at + NIBBLES_AT + a / 2 * 8 + c] >> (a % 2 * 4) & 0x0f0f0f0fu;
#ifdef Q5_K
            values |= (w.w[at + 4 + c] >> a & 0x01010101u) << 4;
#endif
            isum += dot4(values, q.w[block * 8 + c]);
        }
        uint packed = scale_min(at, a);
        precise float dw = half_to_float(w.w[at] & 0xffffu) * float(packed & 255u);
        precise float mw = half_to_float(w.w[at] >> 16) * float(packed >> 8);
        precise float scale = dw * d.f[block];
        precise float low = mw * d.f[block];
        precise float term = float(isum) * scale;
        precise float less = float(sum.i[block]) * low;
        precise float difference = term - less;
        acc = acc + difference;
    }
    parts[which][a] = acc;
    barrier();
    if (a == 0 && row < rows)
        y.f[t * y_stride + row] =
            halve8(parts[which][0], parts[which][1], parts[which][2], parts[which][3],
                   parts[which][4], parts[which][5], parts[which][6], parts[which][7]);
}
