// y[pair][o] of an expert whose down rows are neurons (BUNDLE_T): section 4. A workgroup takes 16
// words of 8 outputs, the four parts of each, and one pair. Inactive neurons are not read.
#version 460
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "expert.glsl"

layout(local_size_x = 64) in;
layout(push_constant) uniform Args
{
    Pairs pairs;
    Floats h; // [pairs][ffn]
    Floats y; // [pairs][width]
    uint width;
    uint groups;    // ffn / 32
    uint bundle_at; // in the slot, in words, as the others
    uint group_size;
    uint run_size;
    uint up_size;
};

shared float parts[4][128];

void main()
{
    uint id = gl_LocalInvocationID.x, part = id / 16, pair = gl_WorkGroupID.y;
    uint word = gl_WorkGroupID.x * 16 + id % 16; // of a neuron's row: block word/4
    Words w = Words(pairs.p[pair].slot);
    precise float acc[8];
    for (uint i = 0; i < 8; i++)
        acc[i] = 0;
    uint begin = groups * part / 4 * 32;
    uint end = word < width / 8 ? groups * (part + 1) / 4 * 32 : begin;
    for (uint j = begin; j < end; j++) {
        float hj = h.f[pair * groups * 32 + j];
        if (hj == 0)
            continue;
        uint run = bundle_at + j / 32 * group_size + j % 32 * run_size + up_size;
        uint v = w.w[run + word];
        float dw = half_to_float(half_bits(w, run + width / 8, word / 4));
        precise float scale = hj * dw;
        for (uint i = 0; i < 4; i++) {
            precise float low = scale * float(int((v >> (8 * i)) & 15u) - 8);
            precise float high = scale * float(int((v >> (8 * i + 4)) & 15u) - 8);
            acc[i] = acc[i] + low;
            acc[4 + i] = acc[4 + i] + high;
        }
    }
    for (uint i = 0; i < 8; i++)
        parts[part][id % 16 * 8 + i] = acc[i];
    barrier();
    for (uint at = id; at < 128; at += 64) {
        precise float sum = (parts[0][at] + parts[2][at]) + (parts[1][at] + parts[3][at]);
        uint from = gl_WorkGroupID.x * 16 + at / 8, i = at % 8;
        uint o = from / 4 * 32 + i / 4 * 16 + from % 4 * 4 + i % 4;
        if (from < width / 8)
            y.f[pair * width + o] = sum;
    }
}
