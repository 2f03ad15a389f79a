// expert_down_t for a prompt: 16 words of 8 outputs of one expert and up to TILE_ROWS pairs to a
// workgroup, the four parts of each. A weight is read once for all the rows, if any of them has an
// h that is not 0; what is added for the others is 0 and changes nothing.
#version 460
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "expert.glsl"

layout(local_size_x = 64) in;
layout(push_constant) uniform Args
{
    Pairs tiles; // count pairs of one slot from number `row` on
    Floats h;    // [pairs][ffn]
    Floats y;    // [pairs][width]
    uint width;
    uint groups;    // ffn / 32
    uint bundle_at; // in the slot, in words, as the others
    uint group_size;
    uint run_size;
    uint up_size;
};

shared float parts[4][TILE_ROWS][128];

vec4 add_scaled(vec4 acc, float hj, float dw, vec4 weights)
{
    precise float scale = hj * dw;
    precise vec4 term = vec4(scale) * weights;
    precise vec4 sum = acc + term;
    return sum;
}

void main()
{
    uint id = gl_LocalInvocationID.x, part = id / 16;
    uint first = tiles.p[gl_WorkGroupID.y].row, count = tiles.p[gl_WorkGroupID.y].count;
    uint word = gl_WorkGroupID.x * 16 + id % 16; // of a neuron's row: block word/4
    Words w = Words(tiles.p[gl_WorkGroupID.y].slot);
    precise vec4 low_acc[TILE_ROWS], high_acc[TILE_ROWS];
    [[unroll]] for (uint t = 0; t < TILE_ROWS; t++)
        low_acc[t] = high_acc[t] = vec4(0);
    uint begin = groups * part / 4 * 32;
    uint end = word < width / 8 ? groups * (part + 1) / 4 * 32 : begin;
    for (uint j = begin; j < end; j++) {
        float hj[TILE_ROWS];
        bool any = false;
        [[unroll]] for (uint t = 0; t < TILE_ROWS; t++) {
            hj[t] = t < count ? h.f[(first + t) * groups * 32 + j] : 0;
            any = any || hj[t] != 0;
        }
        if (!any)
            continue;
        uint run = bundle_at + j / 32 * group_size + j % 32 * run_size + up_size;
        uint v = w.w[run + word];
        float dw = half_to_float(half_bits(w, run + width / 8, word / 4));
        vec4 low_w = vec4(ivec4((uvec4(v) >> uvec4(0, 8, 16, 24)) & 15u) - 8);
        vec4 high_w = vec4(ivec4((uvec4(v) >> uvec4(4, 12, 20, 28)) & 15u) - 8);
        // no unroll hint: glslc's optimizer would drop NoContraction from the copies
        for (uint t = 0; t < TILE_ROWS; t++) {
            low_acc[t] = add_scaled(low_acc[t], hj[t], dw, low_w);
            high_acc[t] = add_scaled(high_acc[t], hj[t], dw, high_w);
        }
    }
    [[unroll]] for (uint t = 0; t < TILE_ROWS; t++)
        for (uint i = 0; i < 4; i++) {
            parts[part][t][id % 16 * 8 + i] = low_acc[t][i];
            parts[part][t][id % 16 * 8 + 4 + i] = high_acc[t][i];
        }
    barrier();
    for (uint at = id; at < count * 128; at += 64) {
        uint t = at / 128, p = at % 128;
        precise float sum = (parts[0][t][p] + parts[2][t][p]) + (parts[1][t][p] + parts[3][t][p]);
        uint from = gl_WorkGroupID.x * 16 + p / 8, i = p % 8;
        uint o = from / 4 * 32 + i / 4 * 16 + from % 4 * 4 + i % 4;
        if (from < width / 8)
            y.f[(first + t) * width + o] = sum;
    }
}
