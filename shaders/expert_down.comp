// y[pair][o] of an expert whose down rows are outputs (BUNDLE): section 4. 128 outputs and one pair
// to a workgroup. Runs of neurons whose h is 0 after quantisation are not read: 0 times anything.
//
// Sixteen groups of neurons are multiplied at once, each by 16 invocations of one word (8 outputs);
// the groups' terms are then added in rising order to the accumulators of their parts.
#version 460
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "expert.glsl"

layout(local_size_x = 256) in;
layout(push_constant) uniform Args
{
    Pairs pairs;
    Words hq;  // [pairs][ffn / 4]
    Floats hd; // [pairs][ffn / 32]
    Floats y;  // [pairs][width]
    uint width;
    uint groups;     // ffn / 32
    uint bundle_at;  // in the slot, in words, as the others
    uint group_size;
    uint scales_size;
    uint run_size;
    uint up_size;
};

shared float terms[16][128];

// The terms of outputs 16*(word%4) + 4*(word/4) + i and those 64 further on.
void group_terms(Words w, uint pair, uint group, uint chunk, uint word, uint lane)
{
    uint base = bundle_at + group * group_size;
    uint at = base + scales_size + up_size + chunk * 16 + word;
    ivec4 low = ivec4(0), high = ivec4(0);
    for (uint j = 0; j < 32; j++) {
        uint four = hq.w[(pair * groups + group) * 8 + j / 4];
        int hj = int(four << (24 - 8 * (j % 4))) >> 24;
        if (hj == 0)
            continue;
        uint v = w.w[at + j * run_size];
        low += hj * (ivec4((uvec4(v) >> uvec4(0, 8, 16, 24)) & 15u) - 8);
        high += hj * (ivec4((uvec4(v) >> uvec4(4, 12, 20, 28)) & 15u) - 8);
    }
    float scale_h = hd.f[pair * groups + group];
    uint first = 16 * (word % 4) + 4 * (word / 4);
    for (uint i = 0; i < 4; i++) {
        uint o = chunk * 128 + first + i;
        precise float low_scale = half_to_float(half_bits(w, base, o)) * scale_h;
        precise float high_scale = half_to_float(half_bits(w, base, o + 64)) * scale_h;
        precise float low_term = float(low[i]) * low_scale;
        precise float high_term = float(high[i]) * high_scale;
        terms[lane][first + i] = low_term;
        terms[lane][first + i + 64] = high_term;
    }
}

void main()
{
    uint id = gl_LocalInvocationID.x, word = id % 16, lane = id / 16;
    uint chunk = gl_WorkGroupID.x, pair = gl_WorkGroupID.y, o = chunk * 128 + id;
    Words w = Words(pairs.p[pair].slot);
    precise float p0 = 0, p1 = 0, p2 = 0, p3 = 0;
    for (uint start = 0; start < groups; start += 16) {
        if (start + lane < groups)
            group_terms(w, pair, start + lane, chunk, word, lane);
        barrier();
        if (id < 128)
            for (uint g = start; g < min(start + 16, groups); g++) {
                float t = terms[g - start][id];
                if (g < groups / 4)
                    p0 = p0 + t;
                else if (g < groups * 2 / 4)
                    p1 = p1 + t;
                else if (g < groups * 3 / 4)
                    p2 = p2 + t;
                else
                    p3 = p3 + t;
            }
        barrier();
    }
    precise float sum = (p0 + p2) + (p1 + p3);
    if (id < 128 && o < width)
        y.f[pair * width + o] = sum;
}
