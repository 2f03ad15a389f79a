// y[row] = rmsnorm(x[row]) * weight: section 6, but for the device's division and square root. One
// workgroup to a row; sixteen invocations are the sixteen accumulators.
#version 460
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"

layout(local_size_x = 128) in;
layout(push_constant) uniform Args
{
    Floats x;
    Floats weight;
    Floats y;
    uint n;
    float eps;
};

shared float parts[16];

void main()
{
    uint id = gl_LocalInvocationID.x, at = gl_WorkGroupID.x * n;
    if (id < 16) {
        precise float acc = 0;
        for (uint i = id; i < n; i += 16) {
            precise float square = x.f[at + i] * x.f[at + i];
            acc = acc + square;
        }
        parts[id] = acc;
    }
    for (uint half_n = 8; half_n > 0; half_n /= 2) {
        barrier();
        if (id < half_n) {
            precise float pair = parts[id] + parts[id + half_n];
            parts[id] = pair;
        }
    }
    barrier();
    precise float mean = parts[0] / float(n);
    precise float s = 1.0 / sqrt(mean + eps);
    for (uint i = id; i < n; i += 128) {
        precise float scaled = x.f[at + i] * s;
        precise float result = scaled * weight.f[i];
        y.f[at + i] = result;
    }
}
