// Which experts a row uses and what they weigh: the router of section 6 after its logits, to the
// bit. One workgroup to a row. The choice goes to the experts' shaders as pairs, and to the host.
#version 460
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "exact.glsl"
#include "exact_exp.glsl"

layout(local_size_x = 64) in;
layout(push_constant) uniform Args
{
    Floats logits;  // [rows][stride]
    Words slots;    // [experts][2]: address of each one's slot
    Words pairs;    // [rows][used][4]: a Pair of expert.glsl each
    Floats weights; // [rows][used]
    Words host;     // [rows][used][2]: expert, weight
    uint stride;
    uint experts;   // at most 1024
    uint used;      // at most 32
    uint softmax;   // else sigmoid
};

shared float values[1024];
shared uint chosen[32];
shared float sizes[32];

// Before it in the order of choice; NaN never beats a number.
bool beats(uint a, uint b)
{
    float x = values[a], y = values[b];
    return x > y || (isnan(y) && !isnan(x)) || ((x == y || (isnan(x) && isnan(y))) && a < b);
}

float size_of(float logit, float largest)
{
    precise float less = logit - largest, opposite = 0.0 - logit;
    if (softmax != 0)
        return exact_exp(less);
    precise float below = 1.0 + exact_exp(opposite);
    return exact_div(1.0, below);
}

void main()
{
    uint id = gl_LocalInvocationID.x, row = gl_WorkGroupID.x;
    for (uint e = id; e < experts; e += 64)
        values[e] = logits.f[row * stride + e];
    if (id < used)
        chosen[id] = id; // all are written again, unless a device compares NaNs in its own way
    barrier();
    for (uint e = id; e < experts; e += 64) {
        uint rank = 0;
        for (uint other = 0; other < experts; other++)
            rank += uint(beats(other, e));
        if (rank < used)
            chosen[rank] = e;
    }
    barrier();
    if (id < used)
        sizes[id] = size_of(values[chosen[id]], values[chosen[0]]);
    barrier();
    if (id >= used)
        return;
    precise float sum = 0;
    for (uint k = 0; k < used; k++)
        sum = sum + sizes[k];
    float weight = exact_div(sizes[id], sum);
    uint at = row * used + id, e = chosen[id];
    weights.f[at] = weight;
    pairs.w[4 * at] = slots.w[2 * e];
    pairs.w[4 * at + 1] = slots.w[2 * e + 1];
    pairs.w[4 * at + 2] = row;
    pairs.w[4 * at + 3] = 1;
    host.w[2 * at] = e;
    host.w[2 * at + 1] = floatBitsToUint(weight);
}
