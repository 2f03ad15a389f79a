// expert_down for a prompt: 128 outputs of one expert and up to TILE_ROWS pairs to a workgroup, an
// invocation for each word of 8 outputs and each of the four parts. A weight is read and unpacked
// once for all the rows, if any of them has an h that is not 0.
#version 460
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "expert.glsl"

layout(local_size_x = 64) in;
layout(push_constant) uniform Args
{
    Pairs tiles; // count pairs of one slot from number `row` on
    Words hq;    // [pairs][ffn / 4]
    Floats hd;   // [pairs][ffn / 32]
    Floats y;    // [pairs][width]
    uint width;
    uint groups;     // ffn / 32
    uint bundle_at;  // in the slot, in words, as the others
    uint group_size;
    uint scales_size;
    uint run_size;
    uint up_size;
};

shared float parts[4][TILE_ROWS][128];

int h_of(uint four, uint j)
{
    return int(four << (24 - 8 * j)) >> 24;
}

void main()
{
    uint id = gl_LocalInvocationID.x, part = id / 16, word = id % 16, chunk = gl_WorkGroupID.x;
    uint first = tiles.p[gl_WorkGroupID.y].row, count = tiles.p[gl_WorkGroupID.y].count;
    Words w = Words(tiles.p[gl_WorkGroupID.y].slot);
    uint out_first = 16 * (word % 4) + 4 * (word / 4); // and 64 further on
    precise vec4 low_acc[TILE_ROWS], high_acc[TILE_ROWS];
    [[unroll]] for (uint t = 0; t < TILE_ROWS; t++)
        low_acc[t] = high_acc[t] = vec4(0);
    for (uint group = groups * part / 4; group < groups * (part + 1) / 4; group++) {
        uint base = bundle_at + group * group_size;
        uint at = base + scales_size + up_size + chunk * 16 + word;
        ivec4 low[TILE_ROWS], high[TILE_ROWS];
        [[unroll]] for (uint t = 0; t < TILE_ROWS; t++)
            low[t] = high[t] = ivec4(0);
        for (uint j4 = 0; j4 < 8; j4++) {
            uint four[TILE_ROWS], any = 0;
            [[unroll]] for (uint t = 0; t < TILE_ROWS; t++) {
                four[t] = t < count ? hq.w[((first + t) * groups + group) * 8 + j4] : 0;
                any |= four[t];
            }
            for (uint j = 0; j < 4; j++) {
                if ((any >> (8 * j) & 255u) == 0)
                    continue;
                uint v = w.w[at + (4 * j4 + j) * run_size];
                ivec4 low_w = ivec4((uvec4(v) >> uvec4(0, 8, 16, 24)) & 15u) - 8;
                ivec4 high_w = ivec4((uvec4(v) >> uvec4(4, 12, 20, 28)) & 15u) - 8;
                [[unroll]] for (uint t = 0; t < TILE_ROWS; t++) {
                    low[t] += h_of(four[t], j) * low_w;
                    high[t] += h_of(four[t], j) * high_w;
                }
            }
        }
        vec4 low_d, high_d;
        for (uint i = 0; i < 4; i++) {
            uint o = chunk * 128 + out_first + i;
            low_d[i] = half_to_float(half_bits(w, base, o));
            high_d[i] = half_to_float(half_bits(w, base, o + 64));
        }
        // no unroll hint: glslc's optimizer would drop NoContraction from the copies
        for (uint t = 0; t < TILE_ROWS; t++) {
            float scale_h = t < count ? hd.f[(first + t) * groups + group] : 0;
            precise vec4 low_scale = low_d * vec4(scale_h), high_scale = high_d * vec4(scale_h);
            precise vec4 low_term = vec4(low[t]) * low_scale;
            precise vec4 high_term = vec4(high[t]) * high_scale;
            low_acc[t] = low_acc[t] + low_term;
            high_acc[t] = high_acc[t] + high_term;
        }
    }
    [[unroll]] for (uint t = 0; t < TILE_ROWS; t++)
        for (uint i = 0; i < 4; i++) {
            parts[part][t][out_first + i] = low_acc[t][i];
            parts[part][t][out_first + i + 64] = high_acc[t][i];
        }
    barrier();
    for (uint at = id; at < count * 128; at += 64) {
        uint t = at / 128, o = at % 128;
        precise float sum = (parts[0][t][o] + parts[2][t][o]) + (parts[1][t][o] + parts[3][t][o]);
        if (chunk * 128 + o < width)
            y.f[(first + t) * width + chunk * 128 + o] = sum;
    }
}
