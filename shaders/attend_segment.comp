// Attention of one query head over one segment of 256 positions: section 6, with the segment's
// scores, largest score and sum of exponentials; attend_merge puts the segments together. Splitting
// the context over workgroups is what makes decoding fill a GPU.
#version 460
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "exp.glsl"

layout(local_size_x = 128) in;
layout(push_constant) uniform Args
{
    Floats q;      // [heads][head_dim]
    Words k;       // [kv heads][capacity][head_dim] halves
    Words v;
    Floats states; // [heads][segments][head_dim + 2]: o, then m and l
    uint head_dim; // at most 512
    uint heads_per_kv;
    uint capacity; // a multiple of 256
    uint begin;    // visible positions
    uint end;
    float scale;
};

shared float scores[256];
shared float lanes[16];
shared float largest;

// Dot product of the query with the key at a position of this KV head: sixteen accumulators.
float score(uint query, uint key)
{
    precise float a[16];
    for (uint i = 0; i < 16; i++)
        a[i] = 0;
    for (uint at = 0; at < head_dim; at += 16)
        [[unroll]] for (uint i = 0; i < 16; i++)
            a[i] = fma(q.f[query + at + i], half_to_float(half_bits(k, key, at + i)), a[i]);
    [[unroll]] for (uint n = 8; n > 0; n /= 2)
        for (uint i = 0; i < n; i++)
            a[i] = a[i] + a[i + n];
    precise float scaled = a[0] * scale;
    return scaled;
}

void main()
{
    uint id = gl_LocalInvocationID.x, head = gl_WorkGroupID.x, which = gl_WorkGroupID.y;
    uint segment = (begin / 256 + which) * 256;
    uint from = max(begin, segment) - segment, to = min(end - segment, 256u);
    uint base = (head / heads_per_kv * capacity + segment % capacity) * (head_dim / 2);
    for (uint j = id; j < 256; j += 128)
        scores[j] = j >= from && j < to ? score(head * head_dim, base + j * (head_dim / 2)) : 0.0;
    barrier();
    if (id == 0) {
        largest = scores[from];
        for (uint j = from + 1; j < to; j++)
            largest = max(largest, scores[j]);
    }
    barrier();
    for (uint j = id; j < 256; j += 128) {
        precise float below = scores[j] - largest;
        scores[j] = j >= from && j < to ? stk_exp(below) : 0.0;
    }
    barrier();
    if (id < 16) {
        precise float l = 0;
        for (uint j = id; j < 256; j += 16)
            l = l + scores[j];
        lanes[id] = l;
    }
    uint out_at = (head * gl_NumWorkGroups.y + which) * (head_dim + 2);
    for (uint i = id; i < head_dim; i += 128) {
        precise float o = 0;
        for (uint j = from; j < to; j++)
            o = fma(scores[j], half_to_float(half_bits(v, base + j * (head_dim / 2), i)), o);
        states.f[out_at + i] = o;
    }
    for (uint n = 8; n > 0; n /= 2) {
        barrier();
        if (id < n) {
            precise float pair = lanes[id] + lanes[id + n];
            lanes[id] = pair;
        }
    }
    if (id == 0) {
        states.f[out_at + head_dim] = largest;
        states.f[out_at + head_dim + 1] = lanes[0];
    }
}
