// Turns pairs (x[i], x[i + half]) of each head of each row in place (NeoX halves): section 6. Exact,
// since the cosines and sines come from the CPU.
#version 460
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"

layout(local_size_x = 64) in;
layout(push_constant) uniform Args
{
    Floats x;      // [rows][heads][head_dim]
    Floats angles; // [rows][2 * half]: cosines, then sines
    uint head_dim;
    uint turned;   // half of the dimensions that turn
};

void main()
{
    uint head = gl_WorkGroupID.x, row = gl_WorkGroupID.y;
    uint at = (row * gl_NumWorkGroups.x + head) * head_dim;
    for (uint i = gl_LocalInvocationID.x; i < turned; i += 64) {
        float c = angles.f[row * 2 * turned + i], s = angles.f[row * 2 * turned + turned + i];
        float a = x.f[at + i], b = x.f[at + i + turned];
        precise float first = a * c - b * s;
        precise float second = b * c + a * s;
        x.f[at + i] = first;
        x.f[at + i + turned] = second;
    }
}
