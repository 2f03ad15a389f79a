// x[row][o] += the row's experts in rank order: section 5. y[row * used + rank][width].
#version 460
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"

layout(local_size_x = 128) in;
layout(push_constant) uniform Args
{
    Floats x;
    Floats y;
    Floats weights; // [rows][used]
    uint width;
    uint used;
};

void main()
{
    uint o = gl_GlobalInvocationID.x, row = gl_WorkGroupID.y;
    if (o >= width)
        return;
    precise float c = weights.f[row * used] * y.f[row * used * width + o];
    for (uint k = 1; k < used; k++) {
        precise float t = weights.f[row * used + k] * y.f[(row * used + k) * width + o];
        c = c + t;
    }
    precise float sum = x.f[row * width + o] + c;
    x.f[row * width + o] = sum;
}
