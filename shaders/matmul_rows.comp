// y[t][row] = row of a float matrix . row t of float activations: section 3.
//
// Sixteen invocations are the sixteen accumulators of a row; a workgroup takes eight rows and one
// activation row. F16 and BF16 with -DF16 and -DBF16, else F32. Rows of halves are of even length.
#version 460
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"

layout(local_size_x = 128) in;
layout(push_constant) uniform Args
{
    Words w;
    Floats x;   // [count][cols]
    Floats y;   // [count][y_stride]
    uint rows;
    uint cols;
    uint y_stride;
};

shared float parts[8][16];

float weight(uint row, uint col)
{
#if defined(F16)
    return half_to_float(half_bits(w, row * (cols / 2), col));
#elif defined(BF16)
    return uintBitsToFloat(half_bits(w, row * (cols / 2), col) << 16);
#else
    return uintBitsToFloat(w.w[row * cols + col]);
#endif
}

void main()
{
    uint lane = gl_LocalInvocationID.x % 16, which = gl_LocalInvocationID.x / 16;
    uint row = gl_WorkGroupID.x * 8 + which, t = gl_WorkGroupID.y;
    precise float acc = 0;
    if (row < rows)
        for (uint i = lane; i < cols; i += 16) {
            precise float term = weight(row, i) * x.f[t * cols + i];
            acc = acc + term;
        }
    parts[which][lane] = acc;
    for (uint n = 8; n > 0; n /= 2) {
        barrier();
        if (lane < n) {
            precise float pair = parts[which][lane] + parts[which][lane + n];
            parts[which][lane] = pair;
        }
    }
    if (lane == 0 && row < rows)
        y.f[t * y_stride + row] = parts[which][0];
}
