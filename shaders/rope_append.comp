// Turns the queries and keys of a batch by their positions (NeoX halves, section 6) and puts keys
// and values, rounded to halves, into the rings [sequence][kv head][capacity][head_dim]. The
// cosines and sines come from the CPU, so all of it is exact.
#version 460
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "rows.glsl"

layout(local_size_x = 64) in;
layout(push_constant) uniform Args
{
    Floats q;      // [rows][heads][head_dim]
    Floats k;      // [rows][kv heads][head_dim]
    Floats v;
    Words batch;
    Floats angles; // [rows][2 * half]: cosines, then sines
    Words keys;
    Words values;
    uint head_dim; // even
    uint turned;   // half of the dimensions that turn; 0: none
    uint angle_count; // of a row
    uint heads;
    uint kv_heads;
    uint capacity;
};

void turn_query(uint at, uint row)
{
    for (uint i = gl_LocalInvocationID.x; i < turned; i += 64) {
        float c = angles.f[row * angle_count + i];
        float s = angles.f[row * angle_count + turned + i];
        float a = q.f[at + i], b = q.f[at + i + turned];
        precise float first = a * c - b * s;
        precise float second = b * c + a * s;
        q.f[at + i] = first;
        q.f[at + i + turned] = second;
    }
}

float key(uint at, uint row, uint i)
{
    if (i >= 2 * turned)
        return k.f[at + i];
    uint pair = i < turned ? i : i - turned;
    float c = angles.f[row * angle_count + pair], s = angles.f[row * angle_count + turned + pair];
    float a = k.f[at + pair], b = k.f[at + pair + turned];
    precise float first = a * c - b * s;
    precise float second = b * c + a * s;
    return i < turned ? first : second;
}

void main()
{
    uint unit = gl_WorkGroupID.x, row = gl_WorkGroupID.y;
    if (unit < heads) {
        turn_query((row * heads + unit) * head_dim, row);
        return;
    }
    bool is_key = unit < heads + kv_heads;
    uint head = unit - heads - (is_key ? 0 : kv_heads);
    uint from = (row * kv_heads + head) * head_dim;
    uint slot = position_of(batch, row) % capacity;
    uint to = ((sequence_of(batch, row) * kv_heads + head) * capacity + slot) * (head_dim / 2);
    for (uint i = gl_LocalInvocationID.x; i < head_dim / 2; i += 64) {
        if (is_key)
            keys.w[to + i] = half_from_float(key(from, row, 2 * i)) |
                             half_from_float(key(from, row, 2 * i + 1)) << 16;
        else
            values.w[to + i] = half_from_float(v.f[from + 2 * i]) |
                               half_from_float(v.f[from + 2 * i + 1]) << 16;
    }
}
