// Merges a head's segments in rising order and divides by the sum: section 6.
#version 460
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "exp.glsl"

layout(local_size_x = 128) in;
layout(push_constant) uniform Args
{
    Floats states; // [heads][segments][head_dim + 2]: o, then m and l
    Floats y;      // [heads][head_dim]
    uint head_dim;
    uint segments;
};

void main()
{
    uint head = gl_WorkGroupID.x, stride = head_dim + 2, at = head * segments * stride;
    for (uint i = gl_LocalInvocationID.x; i < head_dim; i += 128) {
        float m = states.f[at + head_dim];
        precise float l = states.f[at + head_dim + 1], o = states.f[at + i];
        for (uint s = 1; s < segments; s++) {
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
        y.f[head * head_dim + i] = result;
    }
}
