// A row of the residual stream, normed and quantised: sections 6 and 1, to the bit. One workgroup
// to a row, four values to an invocation at a time.
//
// plain: x comes from `from` (host memory, or the residual itself). ADD: the residual plus what
// attention projected, and the result goes to host memory too.
#version 460
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "exact.glsl"
#include "quantize.glsl"
#include "rows.glsl"

layout(local_size_x = 256) in;
layout(push_constant) uniform Args
{
    Vec4s from;
    Vec4s weight;
    Words to;    // a block of activations, see rows.glsl
#ifdef ADD
    Vec4s projected;
    Words host;  // likewise
#endif
    uint n;      // a multiple of 32
    uint capacity;
    float eps;
};

shared float squares[1024];
shared float parts[16];
shared float factor;
shared float largest[256];
shared int sums[256];

vec4 value_at(uint row, uint i) // four values from i on
{
    precise vec4 x = from.v[(row * n + i) / 4];
#ifdef ADD
    x = x + projected.v[(row * n + i) / 4];
#endif
    return x;
}

// 1/sqrt(mean square + eps)
void find_factor(uint row)
{
    uint id = gl_LocalInvocationID.x;
    precise float acc = 0;
    for (uint start = 0; start < n; start += 1024) {
        uint i = start + 4 * id;
        precise vec4 x = i < n ? value_at(row, i) : vec4(0);
        precise vec4 square = x * x;
        for (uint c = 0; c < 4; c++)
            squares[4 * id + c] = square[c];
        barrier();
        if (id < 16)
            for (uint j = id; j < min(n - start, 1024u); j += 16)
                acc = acc + squares[j];
        barrier();
    }
    if (id < 16)
        parts[id] = acc;
    for (uint half_n = 8; half_n > 0; half_n /= 2) {
        barrier();
        if (id < half_n) {
            precise float pair = parts[id] + parts[id + half_n];
            parts[id] = pair;
        }
    }
    if (id == 0) {
        precise float mean = exact_div(parts[0], float(n)) + eps;
        factor = exact_div(1.0, exact_sqrt(mean));
    }
    barrier();
}

void main()
{
    uint id = gl_LocalInvocationID.x, row = gl_WorkGroupID.x;
    find_factor(row);
    uint first = id / 8 * 8; // of the invocations of this block of 32
    for (uint start = 0; start < n; start += 1024) {
        uint i = start + 4 * id;
        bool here = i < n;
        precise vec4 x = here ? value_at(row, i) : vec4(0);
        precise vec4 scaled = x * factor;
        precise vec4 y = scaled * (here ? weight.v[i / 4] : vec4(0));
        vec4 size = abs(y);
        largest[id] = max(max(size.x, size.y), max(size.z, size.w));
        barrier();
        float m = 0;
        for (uint k = 0; k < 8; k++)
            m = max(m, largest[first + k]);
        uint word = 0;
        int total = 0;
        for (uint c = 0; c < 4; c++) {
            int value = quantize_value(y[c], m);
            word |= (uint(value) & 255u) << (8 * c);
            total += value;
        }
        sums[id] = total;
        barrier();
        if (!here)
            continue;
        total = 0;
        for (uint k = 0; k < 8; k++)
            total += sums[first + k];
        float scale = quantize_scale(m);
        store_act(to, capacity, n, row, i, x, y, word, scale, total);
#ifdef ADD
        store_act(host, capacity, n, row, i, x, y, word, scale, total);
#endif
    }
}
