// The largest of the runs that argmax_part went through: one row to a workgroup.
#version 460
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"

layout(local_size_x = 64) in;
layout(push_constant) uniform Args
{
    Floats x;     // [rows][stride]
    Words places; // [rows][runs]
    Words best;   // [rows]
    uint runs;
    uint stride;
};

void main()
{
    uint row = gl_WorkGroupID.x;
    if (gl_LocalInvocationID.x != 0)
        return;
    uint place = places.w[row * runs];
    float value = x.f[row * stride + place];
    for (uint i = 1; i < runs; i++) {
        uint other = places.w[row * runs + i];
        float its = x.f[row * stride + other];
        if (its > value || (isnan(value) && !isnan(its))) {
            value = its;
            place = other;
        }
    }
    best.w[row] = place;
}
