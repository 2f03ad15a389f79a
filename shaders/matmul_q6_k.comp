// y[t][row] = row of a Q6_K matrix, as in the file, . row t of quantised activations: section 2.
//
// A workgroup takes 16 rows of eight accumulators and one activation row. Blocks of 256 values are
// 210 bytes long (model/types/q6_k.c), so words are put together from two.
#version 460
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"

layout(local_size_x = 128) in;
layout(push_constant) uniform Args
{
    Words w;
    Words q;    // [count][cols / 4]
    Floats d;   // [count][cols / 32]
    Floats y;   // [count][y_stride]
    uint rows;
    uint cols;
    uint y_stride;
};

shared float parts[16][8];

// Four bytes at half-word `at`.
uint word_at(uint at)
{
    uint low = w.w[at / 2];
    return (at & 1) == 0 ? low : low >> 16 | w.w[at / 2 + 1] << 16;
}

int sub_scale(uint at, uint index)
{
    uint pair = (w.w[(at + index / 2) / 2] >> (16 * ((at + index / 2) & 1))) >> (8 * (index & 1));
    return int(pair << 24) >> 24;
}

void main()
{
    uint a = gl_LocalInvocationID.x % 8, which = gl_LocalInvocationID.x / 8;
    uint row = gl_WorkGroupID.x * 16 + which, t = gl_WorkGroupID.y, blocks = cols / 32;
    precise float acc = 0;
    for (uint b = row < rows ? a : blocks; b < blocks; b += 8) {
        uint at = (row * (cols / 256) + b / 8) * 105; // in half-words
        uint part = b % 8 / 4, run = b % 4;
        int isums[2] = {0, 0};
        for (uint c = 0; c < 8; c++) {
            uint low = word_at(at + part * 32 + run % 2 * 16 + 2 * c) >> (run / 2 * 4);
            uint high = word_at(at + 64 + part * 16 + 2 * c) >> (run * 2);
            uint values = (low & 0x0f0f0f0fu) | (high & 0x03030303u) << 4; // biased by 32
            uint qs = q.w[(t * blocks + b) * 8 + c];
            isums[c / 4] += dot4(values, qs) - dot4(0x20202020u, qs);
        }
        uint scales = at + 96;
        int isum = isums[0] * sub_scale(scales, part * 8 + run * 2) +
                   isums[1] * sub_scale(scales, part * 8 + run * 2 + 1);
        uint dh = at + 104;
        precise float scale =
            half_to_float((w.w[dh / 2] >> (16 * (dh & 1))) & 0xffffu) * d.f[t * blocks + b];
        precise float term = float(isum) * scale;
        acc = acc + term;
    }
    parts[which][a] = acc;
    barrier();
    if (a == 0 && row < rows)
        y.f[t * y_stride + row] =
            halve8(parts[which][0], parts[which][1], parts[which][2], parts[which][3],
                   parts[which][4], parts[which][5], parts[which][6], parts[which][7]);
}
