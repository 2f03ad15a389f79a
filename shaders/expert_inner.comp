// The inner vector of an expert, 32 neurons and one pair to a workgroup: gate, the list of active
// neurons, up for those, h = g*u, and h quantised: section 4 as far as `down`. Inactive neurons'
// `up` rows are not read. Q4_0.
//
// 32 neurons are one quantisation block and one bundle group, so nothing but the finished block
// leaves the workgroup.
#version 460
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "expert.glsl"
#include "quantize.glsl"

layout(local_size_x = 256) in;
layout(push_constant) uniform Args
{
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

shared float parts[8][32];
shared float gate[32];
shared float hs[32];
shared int qs[32];
shared uint active_mask;
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

float tree(uint neuron)
{
    return halve8(parts[0][neuron], parts[1][neuron], parts[2][neuron], parts[3][neuron],
                  parts[4][neuron], parts[5][neuron], parts[6][neuron], parts[7][neuron]);
}

// Invocation: 16 rows side by side, two groups of 16 rows, eight accumulators.
void gate_parts(Vectors slot, uint group, uint row)
{
    Words w = Words(slot);
    uint id = gl_LocalInvocationID.x, neuron = id % 32, a = id / 32, blocks = width / 32;
    uint base = (group * 2 + neuron / 16) * ((blocks + 1) / 2) * 144;
    precise float acc = 0;
    for (uint b = a; b < blocks; b += 8) {
        uint pair = base + b / 2 * 144;
        uint at = pair + 16 + (b & 1) * 64 + neuron % 16;
        uvec4 nibbles = uvec4(w.w[at], w.w[at + 16], w.w[at + 32], w.w[at + 48]);
        float dw = half_to_float(half_bits(w, pair + (b & 1) * 8, neuron % 16));
        precise float scale = dw * d.f[row * blocks + b];
        precise float term = float(dot_q4_0(nibbles, row * blocks + b)) * scale;
        acc = acc + term;
    }
    parts[a][neuron] = acc;
}

// Invocation: eight accumulators read side by side, up to 32 active neurons.
void up_parts(Vectors slot, uint group, uint row, uint count)
{
    Words w = Words(slot);
    uint a = gl_LocalInvocationID.x % 8, which = gl_LocalInvocationID.x / 8, blocks = width / 32;
    if (which >= count)
        return;
    uint run = bundle_at + group * group_size + scales_size + active_list[which] * run_size;
    precise float acc = 0;
    for (uint b = a; b < blocks; b += 8) {
        float dw = half_to_float(half_bits(w, (run + blocks) * 4, b));
        precise float scale = dw * d.f[row * blocks + b];
        precise float term = float(dot_q4_0(slot.v[run + b], row * blocks + b)) * scale;
        acc = acc + term;
    }
    parts[a][which] = acc;
}

void main()
{
    uint id = gl_LocalInvocationID.x, group = gl_WorkGroupID.x, pair = gl_WorkGroupID.y;
    uint groups = gl_NumWorkGroups.x, row = pairs.p[pair].row;
    Vectors slot = pairs.p[pair].slot;
    if (id == 0)
        active_mask = 0;
    gate_parts(slot, group, row);
    barrier();
    if (id < 32) {
        gate[id] = tree(id);
        hs[id] = 0;
        if (gate[id] > 0)
            atomicOr(active_mask, 1u << id);
    }
    barrier();
    uint count = bitCount(active_mask);
    // a neuron's place in the list is the number of active ones before it
    if (id < 32 && (active_mask >> id & 1u) != 0)
        active_list[bitCount(active_mask & ((1u << id) - 1u))] = id;
    barrier();
    up_parts(slot, group, row, count);
    barrier();
    if (id < count) {
        precise float product = gate[active_list[id]] * tree(id);
        hs[active_list[id]] = product;
    }
    barrier();
    float m = 0;
    for (uint i = 0; i < 32; i++)
        m = max(m, abs(hs[i]));
    if (id < 32) {
        qs[id] = quantize_value(hs[id], m);
        h.f[(pair * groups + group) * 32 + id] = hs[id];
    }
    barrier();
    if (id < 8)
        hq.w[(pair * groups + group) * 8 + id] =
            (uint(qs[4 * id]) & 255u) | (uint(qs[4 * id + 1]) & 255u) << 8 |
            (uint(qs[4 * id + 2]) & 255u) << 16 | uint(qs[4 * id + 3]) << 24;
    if (id == 0)
        hd.f[pair * groups + group] = quantize_scale(m);
}
