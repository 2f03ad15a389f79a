// index[row] = place of the largest value of x[row][n], the first one among equals. One workgroup to
// a row.
#version 460
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"

layout(local_size_x = 256) in;
layout(push_constant) uniform Args
{
    Floats x;
    Words index;
    uint n;
};

shared float values[256];
shared uint places[256];

void main()
{
    uint id = gl_LocalInvocationID.x, at = gl_WorkGroupID.x * n;
    uint place = min(id, n - 1);
    float value = x.f[at + place];
    for (uint i = id + 256; i < n; i += 256)
        if (x.f[at + i] > value) {
            value = x.f[at + i];
            place = i;
        }
    values[id] = value;
    places[id] = place;
    for (uint half_n = 128; half_n > 0; half_n /= 2) {
        barrier();
        uint other = id + half_n;
        if (id < half_n && (values[other] > values[id] ||
                            (values[other] == values[id] && places[other] < places[id]))) {
            values[id] = values[other];
            places[id] = places[other];
        }
    }
    if (id == 0)
        index.w[gl_WorkGroupID.x] = places[0];
}
