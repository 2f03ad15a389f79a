// y[t][row] = row of an X16 matrix . row t of quantised activations: section 2.
//
// A workgroup takes 16 rows and TILE activation rows; 16 invocations read one run of 64 bytes,
// eight of those 16 are the eight accumulators. Q8_0 with -DQ8_0, else Q4_0.
#version 460
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"

layout(local_size_x = 128) in;
layout(push_constant) uniform Args
{
    Words w;
    Words q;    // [count][cols / 4]
    Floats d;   // [count][cols / 32]
    Ints sum;   // [count][cols / 32]
    Floats y;   // [count][y_stride]
    uint rows;
    uint cols;
    uint count;
    uint y_stride;
};

#ifdef Q8_0
const uint VALUE_WORDS = 128;
#else
const uint VALUE_WORDS = 64;
#endif
const uint PAIR_WORDS = 16 + 2 * VALUE_WORDS;

shared float parts[TILE][8][16];

void main()
{
    uint row = gl_LocalInvocationID.x % 16, a = gl_LocalInvocationID.x / 16;
    uint group = gl_WorkGroupID.x, first = gl_WorkGroupID.y * TILE, blocks = cols / 32;
    uint base = group * ((blocks + 1) / 2) * PAIR_WORDS;
    precise float acc[TILE];
    for (uint t = 0; t < TILE; t++)
        acc[t] = 0;
    for (uint b = a; b < blocks; b += 8) {
        uint pair = base + b / 2 * PAIR_WORDS;
        float dw = half_to_float(half_bits(w, pair + (b & 1) * 8, row));
        uint at = pair + 16 + (b & 1) * VALUE_WORDS + row;
        uint values[8];
#ifdef Q8_0
        for (uint c = 0; c < 8; c++)
            values[c] = w.w[at + 16 * c];
#else
        for (uint c = 0; c < 4; c++) {
            uint v = w.w[at + 16 * c];
            values[c] = v & 0x0f0f0f0fu;
            values[4 + c] = (v >> 4) & 0x0f0f0f0fu;
        }
#endif
        for (uint t = 0; t < TILE; t++) {
            uint block = min(first + t, count - 1) * blocks + b;
#ifdef Q8_0
            int isum = 0;
#else
            int isum = -8 * sum.i[block]; // the nibbles' bias
#endif
            for (uint c = 0; c < 8; c++)
                isum += dot4(values[c], q.w[block * 8 + c]);
            precise float scale = dw * d.f[block];
            precise float term = float(isum) * scale;
            acc[t] = acc[t] + term;
        }
    }
    for (uint t = 0; t < TILE; t++)
        parts[t][a][row] = acc[t];
    barrier();
    uint out_row = group * 16 + row;
    for (uint t = a; t < TILE; t += 8)
        if (first + t < count && out_row < rows)
            y.f[(first + t) * y_stride + out_row] =
                halve8(parts[t][0][row], parts[t][1][row], parts[t][2][row], parts[t][3][row],
                       parts[t][4][row], parts[t][5][row], parts[t][6][row], parts[t][7][row]);
}
