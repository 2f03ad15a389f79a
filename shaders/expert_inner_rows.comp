// expert_inner for a prompt: 32 neurons of one expert and up to TILE_ROWS rows to a workgroup, so
// that each weight is read and unpacked once for all of them. The same sums in the same order; `up`
// is computed for neurons that any of the rows left active.
#version 460
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "expert.glsl"
#include "quantize.glsl"

layout(local_size_x = 256) in;
layout(push_constant) uniform Args
{
    Pairs tiles; // count pairs of one slot from number `row` on
    Pairs pairs;
    Words q;     // [rows][width / 4]
    Floats d;    // [rows][width / 32]
    Ints sum;    // [rows][width / 32]
    Floats h;    // [pairs][ffn]
    Words hq;    // [pairs][ffn / 4]
    Floats hd;   // [pairs][ffn / 32]
    uint width;
    uint bundle_at;   // in the slot, in 16 bytes
    uint group_size;  // of the bundle, in 16 bytes
    uint scales_size; // in front of a group's runs, in 16 bytes
    uint run_size;    // in 16 bytes
};

shared float parts[TILE_ROWS][8][32];
shared float gate[TILE_ROWS][32];
shared float hs[TILE_ROWS][32];
shared int qs[TILE_ROWS][32];
shared uint rows[TILE_ROWS];
shared uint active_mask; // of any row
shared uint active_list[32];

int dot_q4_0(uvec4 nibbles, uint block)
{
    int isum = -8 * sum.i[block];
    for (uint c = 0; c < 4; c++) {
        isum += dot4(nibbles[c] & 0x0f0f0f0fu, q.w[block * 8 + c]);
        isum += dot4((nibbles[c] >> 4) & 0x0f0f0f0fu, q.w[block * 8 + 4 + c]);
    }
    return isum;
}

// The term of one block for one row.
float term_of(uvec4 nibbles, float dw, uint block)
{
    precise float scale = dw * d.f[block];
    precise float term = float(dot_q4_0(nibbles, block)) * scale;
    return term;
}

float tree(uint t, uint i)
{
    return halve8(parts[t][0][i], parts[t][1][i], parts[t][2][i], parts[t][3][i], parts[t][4][i],
                  parts[t][5][i], parts[t][6][i], parts[t][7][i]);
}

void gate_parts(Vectors slot, uint group, uint count)
{
    Words w = Words(slot);
    uint id = gl_LocalInvocationID.x, neuron = id % 32, a = id / 32, blocks = width / 32;
    uint base = (group * 2 + neuron / 16) * ((blocks + 1) / 2) * 144;
    precise float acc[TILE_ROWS];
    [[unroll]] for (uint t = 0; t < TILE_ROWS; t++)
        acc[t] = 0;
    for (uint b = a; b < blocks; b += 8) {
        uint pair = base + b / 2 * 144;
        uint at = pair + 16 + (b & 1) * 64 + neuron % 16;
        uvec4 nibbles = uvec4(w.w[at], w.w[at + 16], w.w[at + 32], w.w[at + 48]);
        float dw = half_to_float(half_bits(w, pair + (b & 1) * 8, neuron % 16));
        [[unroll]] for (uint t = 0; t < TILE_ROWS; t++)
            if (t < count)
                acc[t] = acc[t] + term_of(nibbles, dw, rows[t] * blocks + b);
    }
    [[unroll]] for (uint t = 0; t < TILE_ROWS; t++)
        parts[t][a][neuron] = acc[t];
}

void up_parts(Vectors slot, uint group, uint count, uint active_count)
{
    Words w = Words(slot);
    uint a = gl_LocalInvocationID.x % 8, which = gl_LocalInvocationID.x / 8, blocks = width / 32;
    if (which >= active_count)
        return;
    uint run = bundle_at + group * group_size + scales_size + active_list[which] * run_size;
    precise float acc[TILE_ROWS];
    [[unroll]] for (uint t = 0; t < TILE_ROWS; t++)
        acc[t] = 0;
    for (uint b = a; b < blocks; b += 8) {
        uvec4 nibbles = slot.v[run + b];
        float dw = half_to_float(half_bits(w, (run + blocks) * 4, b));
        [[unroll]] for (uint t = 0; t < TILE_ROWS; t++)
            if (t < count)
                acc[t] = acc[t] + term_of(nibbles, dw, rows[t] * blocks + b);
    }
    [[unroll]] for (uint t = 0; t < TILE_ROWS; t++)
        parts[t][a][which] = acc[t];
}

// Invocation: row t of the tile, i of 32.
void store_inner(uint t, uint i, uint pair, uint group, uint groups)
{
    float m = 0;
    for (uint j = 0; j < 32; j++)
        m = max(m, abs(hs[t][j]));
    qs[t][i] = quantize_value(hs[t][i], m);
    h.f[(pair * groups + group) * 32 + i] = hs[t][i];
    if (i == 0)
        hd.f[pair * groups + group] = quantize_scale(m);
}

void main()
{
    uint id = gl_LocalInvocationID.x, group = gl_WorkGroupID.x, groups = gl_NumWorkGroups.x;
    uint first = tiles.p[gl_WorkGroupID.y].row, count = tiles.p[gl_WorkGroupID.y].count;
    uint t = id / 32, i = id % 32;
    Vectors slot = tiles.p[gl_WorkGroupID.y].slot;
    bool mine = t < min(count, TILE_ROWS);
    if (id == 0)
        active_mask = 0;
    if (id < count)
        rows[id] = pairs.p[first + id].row;
    barrier();
    gate_parts(slot, group, count);
    barrier();
    if (mine) {
        gate[t][i] = tree(t, i);
        hs[t][i] = 0;
        if (gate[t][i] > 0)
            atomicOr(active_mask, 1u << i);
    }
    barrier();
    uint active_count = bitCount(active_mask);
    if (id < 32 && (active_mask >> id & 1u) != 0)
        active_list[bitCount(active_mask & ((1u << id) - 1u))] = id;
    barrier();
    up_parts(slot, group, count, active_count);
    barrier();
    if (mine && i < active_count && gate[t][active_list[i]] > 0) {
        precise float product = gate[t][active_list[i]] * tree(t, i);
        hs[t][active_list[i]] = product;
    }
    barrier();
    if (mine)
        store_inner(t, i, first + t, group, groups);
    barrier();
    if (mine && i < 8)
        hq.w[((first + t) * groups + group) * 8 + i] =
            (uint(qs[t][4 * i]) & 255u) | (uint(qs[t][4 * i + 1]) & 255u) << 8 |
            (uint(qs[t][4 * i + 2]) & 255u) << 16 | uint(qs[t][4 * i + 3]) << 24;
}
