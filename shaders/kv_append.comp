// Rounds keys or values x[rows][heads][head_dim] to half and puts them into a ring
// cache[head][capacity][head_dim] at each row's position. head_dim is even.
#version 460
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"

layout(local_size_x = 64) in;
layout(push_constant) uniform Args
{
    Floats x;
    Words positions; // [rows]
    Words cache;
    uint head_dim;
    uint capacity;
};

void main()
{
    uint head = gl_WorkGroupID.x, row = gl_WorkGroupID.y;
    uint from = (row * gl_NumWorkGroups.x + head) * head_dim;
    uint to = (head * capacity + positions.w[row] % capacity) * (head_dim / 2);
    for (uint i = gl_LocalInvocationID.x; i < head_dim / 2; i += 64)
        cache.w[to + i] = half_from_float(x.f[from + 2 * i]) |
                          half_from_float(x.f[from + 2 * i + 1]) << 16;
}
