// Where the largest value of each run of 4096 of x[row] is, the first among equals; argmax_join
// takes the largest of those.
#version 460
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"

layout(local_size_x = 256) in;
layout(push_constant) uniform Args
{
    Floats x;      // [rows][stride]
    Words places;  // [rows][runs]
    uint n;
    uint stride;
};

shared float values[256];
shared uint at[256];

// NaN never beats a number.
bool beats(float a, uint place_a, float b, uint place_b)
{
    return a > b || (isnan(b) && !isnan(a)) ||
           ((a == b || (isnan(a) && isnan(b))) && place_a < place_b);
}

void main()
{
    uint id = gl_LocalInvocationID.x, row = gl_WorkGroupID.y * stride;
    uint first = gl_WorkGroupID.x * 4096, place = min(first + id, n - 1);
    float value = x.f[row + place];
    for (uint i = first + id + 256; i < min(first + 4096, n); i += 256)
        if (beats(x.f[row + i], i, value, place)) {
            value = x.f[row + i];
            place = i;
        }
    values[id] = value;
    at[id] = place;
    for (uint half_n = 128; half_n > 0; half_n /= 2) {
        barrier();
        uint other = id + half_n;
        if (id < half_n && beats(values[other], at[other], values[id], at[id])) {
            values[id] = values[other];
            at[id] = at[other];
        }
    }
    if (id == 0)
        places.w[gl_WorkGroupID.y * gl_NumWorkGroups.x + gl_WorkGroupID.x] = at[0];
}
