// y[t][row] = row of an X16 matrix . row t of quantised activations, for the many rows of a prompt:
// section 2, with the same bits as matmul_x16.
//
// A workgroup takes 32 matrix rows and 32 activation rows, four blocks of each at a time in shared
// memory; an invocation has four of the results and all eight accumulators of each. Q8_0 with
// -DQ8_0, else Q4_0.
#version 460
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "rows.glsl"

layout(local_size_x = 256) in;
layout(push_constant) uniform Args
{
    Words w;
    Words q;     // [count][cols / 4]
    Floats d;    // [count][cols / 32]
    Ints sum;    // [count][cols / 32]
    Floats y;    // [count][y_stride]
    Words batch; // says how many activation rows there are
    uint rows;
    uint cols;
    uint y_stride;
};

#ifdef Q8_0
const uint RUNS = 8; // of a block of 16 rows, a word to each row
#else
const uint RUNS = 4;
#endif
const uint PAIR_WORDS = 16 + 32 * RUNS;

shared uint weights[4][RUNS][32];
shared float scales[4][32];
shared uint acts[4][8][32]; // rows side by side
shared float act_scales[4][32];
shared int act_sums[4][32];

void load(uint block, uint blocks, uint row_first, uint first, uint count)
{
    uint id = gl_LocalInvocationID.x, groups = (rows + 15) / 16;
    for (uint at = id; at < 4 * RUNS * 32; at += 256) {
        uint row = at % 32, run = at / 32 % RUNS, b = block + at / 32 / RUNS;
        uint group = min(row_first / 16 + row / 16, groups - 1);
        uint pair = (group * ((blocks + 1) / 2) + b / 2) * PAIR_WORDS;
        weights[at / 32 / RUNS][run][row] =
            b < blocks ? w.w[pair + 16 + (b & 1) * 16 * RUNS + 16 * run + row % 16] : 0u;
    }
    for (uint at = id; at < 4 * 8 * 32; at += 256) {
        uint word = at % 8, which = at / 8 % 4, t = at / 32; // along memory
        uint b = block + which, row = min(first + t, count - 1);
        acts[which][word][t] = b < blocks ? q.w[(row * blocks + b) * 8 + word] : 0u;
    }
    if (id >= 128)
        return;
    uint which = id / 32, lane = id % 32, b = block + which;
    uint group = min(row_first / 16 + lane / 16, groups - 1);
    uint pair = (group * ((blocks + 1) / 2) + b / 2) * PAIR_WORDS;
    uint row = min(first + lane, count - 1);
    scales[which][lane] = b < blocks ? half_to_float(half_bits(w, pair + (b & 1) * 8, lane % 16)) : 0.0;
    act_scales[which][lane] = b < blocks ? d.f[row * blocks + b] : 0.0;
    act_sums[which][lane] = b < blocks ? sum.i[row * blocks + b] : 0;
}

int product(uint which, uint row, uint t)
{
#ifdef Q8_0
    int isum = 0;
    [[unroll]] for (uint c = 0; c < 8; c++)
        isum += dot4(weights[which][c][row], acts[which][c][t]);
#else
    int isum = -8 * act_sums[which][t]; // the nibbles' bias
    [[unroll]] for (uint c = 0; c < 4; c++) {
        uint v = weights[which][c][row];
        isum += dot4(v & 0x0f0f0f0fu, acts[which][c][t]);
        isum += dot4((v >> 4) & 0x0f0f0f0fu, acts[which][4 + c][t]);
    }
#endif
    return isum;
}

// Unrolled here and not by the compiler, whose copies lose their NoContraction.
#define EACH(F, x) F(0, x) F(1, x) F(2, x) F(3, x)

#define CLEAR(r, unused)                                                                           \
    for (uint a = 0; a < 8; a++)                                                                   \
        acc[r][a] = 0;

// The term of block start + a for result r.
#define ADD(r, a)                                                                                  \
    {                                                                                              \
        uint t = eighth + 8 * r;                                                                  \
        precise float scale = scales[a % 4][row] * act_scales[a % 4][t];                           \
        precise float term = float(product(a % 4, row, t)) * scale;                                \
        if (start + a < blocks)                                                                    \
            acc[r][a] = acc[r][a] + term;                                                          \
    }

#define STORE(r, unused)                                                                           \
    {                                                                                              \
        uint out_row = row_first + row, t = first + eighth + 8 * r;                                \
        if (out_row < rows && t < count)                                                           \
            y.f[t * y_stride + out_row] = halve8(acc[r][0], acc[r][1], acc[r][2], acc[r][3],       \
                                                 acc[r][4], acc[r][5], acc[r][6], acc[r][7]);      \
    }

void main()
{
    uint row = gl_LocalInvocationID.x % 32, eighth = gl_LocalInvocationID.x / 32;
    uint row_first = gl_WorkGroupID.x * 32, first = gl_WorkGroupID.y * 32;
    uint count = batch_rows(batch), blocks = cols / 32;
    precise float acc[4][8]; // [result][block mod 8]
    EACH(CLEAR, 0)
    for (uint start = 0; start < blocks; start += 8) {
        load(start, blocks, row_first, first, count);
        barrier();
        EACH(ADD, 0) EACH(ADD, 1) EACH(ADD, 2) EACH(ADD, 3)
        barrier();
        load(start + 4, blocks, row_first, first, count);
        barrier();
        EACH(ADD, 4) EACH(ADD, 5) EACH(ADD, 6) EACH(ADD, 7)
        barrier();
    }
    EACH(STORE, 0)
}
