// Puts the segments of a row's heads together in rising order and divides by the sum: section 6.
#version 460
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "exp.glsl"
#include "rows.glsl"

layout(local_size_x = 128) in;
layout(push_constant) uniform Args
{
    Floats states; // [rows][heads][segments][head_dim + 2]: o, then the largest score and the sum
    Floats y;      // [rows][heads][head_dim]
    Words batch;
    uint head_dim;
    uint segments;
    uint window;
};

void main()
{
    uint head = gl_WorkGroupID.x, heads = gl_NumWorkGroups.x, row = gl_WorkGroupID.y;
    uint stride = head_dim + 2, at = (row * heads + head) * segments * stride;
    uint end = position_of(batch, row) + 1;
    uint begin = window != 0 && end > window ? end - window : 0;
    uint count = (end + 255) / 256 - begin / 256;
    for (uint i = gl_LocalInvocationID.x; i < head_dim; i += 128) {
        float m = states.f[at + head_dim];
        precise float l = states.f[at + head_dim + 1], o = states.f[at + i];
        for (uint s = 1; s < count; s++) {
            uint from = at + s * stride;
            float m2 = states.f[from + head_dim], most = max(m, m2);
            precise float da = m - most, db = m2 - most;
            float a = stk_exp(da), b = stk_exp(db);
            l = l * a + states.f[from + head_dim + 1] * b;
            o = o * a + states.f[from + i] * b;
            m = most;
        }
        precise float inverse = 1.0 / l;
        precise float result = o * inverse;
        y.f[(row * heads + head) * head_dim + i] = result;
    }
}
