// x[32*blocks] -> q, d, sum: section 1. A workgroup takes four blocks.
#version 460
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "quantize.glsl"

layout(local_size_x = 128) in;
layout(push_constant) uniform Args
{
    Floats x;
    Words q;
    Floats d;
    Ints sum;
    uint blocks;
};

shared float xs[4][32];
shared int qs[4][32];

void main()
{
    uint lane = gl_LocalInvocationID.x % 32, which = gl_LocalInvocationID.x / 32;
    uint block = gl_WorkGroupID.x * 4 + which;
    bool here = block < blocks;
    xs[which][lane] = here ? x.f[block * 32 + lane] : 0.0;
    barrier();
    float m = 0;
    for (uint i = 0; i < 32; i++)
        m = max(m, abs(xs[which][i]));
    qs[which][lane] = quantize_value(xs[which][lane], m);
    barrier();
    if (!here)
        return;
    if (lane < 8) {
        uint word = 0;
        for (uint i = 0; i < 4; i++)
            word |= (uint(qs[which][4 * lane + i]) & 255u) << (8 * i);
        q.w[block * 8 + lane] = word;
    }
    if (lane == 0) {
        int s = 0;
        for (uint i = 0; i < 32; i++)
            s += qs[which][i];
        sum.i[block] = s;
        d.f[block] = quantize_scale(m);
    }
}
