// Attention of the query heads that share a KV head, in a tile of rows of one sequence: section 6 in
// segments of 256 positions. Keys and values are read once for all queries of the tile.
//
// A tile takes all its segments one after the other and writes the result; SPLIT: a tile is one
// row, a workgroup takes one of its segments and attend_join puts them together, which is what
// fills a GPU when few rows see a long context. Both compute the same bits, and so does any tile:
// a query's sums know nothing of the others.
#version 460
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "exp.glsl"
#include "rows.glsl"

layout(local_size_x = 256) in;
layout(push_constant) uniform Args
{
    Floats q;      // [rows][heads][head_dim]
    Vectors keys;  // [sequence][kv heads][capacity][head_dim] halves
    Words values;
    Words batch;
    Words tiles;   // first row and number of rows of each
    Floats y;      // [rows][heads][head_dim]; SPLIT: states [rows][heads][segments][head_dim + 2]
    uint head_dim; // a multiple of 16
    uint heads;
    uint kv_heads;
    uint capacity; // a multiple of 256
    uint window;   // 0: none
    float scale;
    uint segments; // SPLIT: room for so many
};

const uint GROUPS = QUERIES / 4; // queries that an invocation sums values for

shared float scores[QUERIES][256];
shared float queries[QUERIES][128];
shared float lanes[16][16];
shared float best[QUERIES]; // of the segment
shared float sums[QUERIES];
shared float run_best[QUERIES]; // of the segments before
shared float run_sums[QUERIES];

uint kv_head, head_first, head_count, row_first, query_count, dim_first;

uint head_of(uint query)
{
    return head_first + query % head_count;
}

uint row_of(uint query)
{
    return row_first + query / head_count;
}

uint end_of(uint row)
{
    return position_of(batch, row) + 1;
}

uint begin_of(uint row)
{
    uint end = end_of(row);
    return window != 0 && end > window ? end - window : 0;
}

// Whether the query sees position j of the segment at `segment`.
bool sees(uint query, uint segment, uint j)
{
    uint row = row_of(query), position = segment + j;
    return position >= begin_of(row) && position < end_of(row);
}

vec2 halves(uint word)
{
    return vec2(half_to_float(word & 0xffffu), half_to_float(word >> 16));
}

// scores[query][j], j the invocation's.
void find_scores(uint segment, uint key_base)
{
    uint j = gl_LocalInvocationID.x, words = head_dim / 8; // of four
    precise float acc[QUERIES];
    for (uint i = 0; i < QUERIES; i++)
        acc[i] = 0;
    for (uint chunk = 0; chunk < head_dim; chunk += 128) {
        uint width = min(head_dim - chunk, 128u);
        barrier();
        for (uint at = j; at < query_count * 128; at += 256) {
            uint query = at / 128, i = at % 128;
            uint from = (row_of(query) * heads + head_of(query)) * head_dim + chunk + i;
            queries[query][i] = i < width ? q.f[from] : 0.0;
        }
        barrier();
        for (uint w = 0; w < width / 8; w++) {
            uvec4 four = keys.v[key_base + j * words + chunk / 8 + w];
            [[unroll]] for (uint c = 0; c < 4; c++) {
                vec2 key = halves(four[c]);
                [[unroll]] for (uint i = 0; i < QUERIES; i++) {
                    acc[i] = fma(queries[i][8 * w + 2 * c], key.x, acc[i]);
                    acc[i] = fma(queries[i][8 * w + 2 * c + 1], key.y, acc[i]);
                }
            }
        }
    }
    for (uint i = 0; i < QUERIES; i++) {
        precise float scaled = acc[i] * scale;
        scores[i][j] = scaled;
    }
}

// Turns scores into exponentials; sixteen invocations to a query.
void find_weights(uint segment)
{
    uint lane = gl_LocalInvocationID.x % 16, group = gl_LocalInvocationID.x / 16;
    bool here = group < query_count;
    float most = uintBitsToFloat(0xff800000u); // -infinity
    barrier();
    if (here)
        for (uint j = lane; j < 256; j += 16)
            if (sees(group, segment, j))
                most = max(most, scores[group][j]);
    lanes[group][lane] = most;
    barrier();
    for (uint i = 0; i < 16; i++)
        most = max(most, lanes[group][i]);
    precise float l = 0;
    if (here)
        for (uint j = lane; j < 256; j += 16) {
            precise float below = scores[group][j] - most;
            float p = sees(group, segment, j) ? stk_exp(below) : 0.0;
            scores[group][j] = p;
            l = l + p;
        }
    barrier();
    lanes[group][lane] = l;
    for (uint n = 8; n > 0; n /= 2) {
        barrier();
        if (lane < n) {
            precise float pair = lanes[group][lane] + lanes[group][lane + n];
            lanes[group][lane] = pair;
        }
    }
    if (here && lane == 0) {
        best[group] = most;
        sums[group] = l = lanes[group][0];
    }
    barrier();
}

// The values of positions [from, to) times the queries' weights: two dimensions of every fourth
// query.
void sum_values(uint value_base, uint from, uint to, out vec2 o[GROUPS])
{
    uint word = dim_first / 2 + gl_LocalInvocationID.x % 64, group = gl_LocalInvocationID.x / 64;
    precise vec2 acc[GROUPS];
    for (uint g = 0; g < GROUPS; g++)
        acc[g] = vec2(0);
    if (word < head_dim / 2)
        for (uint j = from; j < to; j++) {
            vec2 value = halves(values.w[value_base + j * (head_dim / 2) + word]);
            [[unroll]] for (uint g = 0; g < GROUPS; g++) {
                float p = scores[4 * g + group][j];
                acc[g].x = fma(p, value.x, acc[g].x);
                acc[g].y = fma(p, value.y, acc[g].y);
            }
        }
    o = acc;
}

// Adds a segment's part to what the segments before it gave.
vec2 merge(vec2 before, vec2 part, uint query)
{
    float most = max(run_best[query], best[query]);
    precise float da = run_best[query] - most, db = best[query] - most;
    float a = stk_exp(da), b = stk_exp(db);
    precise vec2 sum = before * a + part * b;
    return sum;
}

void merge_sums(uint query)
{
    float most = max(run_best[query], best[query]);
    precise float da = run_best[query] - most, db = best[query] - most;
    float a = stk_exp(da), b = stk_exp(db);
    precise float sum = run_sums[query] * a + sums[query] * b;
    run_sums[query] = sum;
    run_best[query] = most;
}

#ifdef SPLIT
void main()
{
    uint id = gl_LocalInvocationID.x, per_kv = heads / kv_heads, chunks = (per_kv + QUERIES - 1) / QUERIES;
    uint dims = (head_dim + 127) / 128, unit = gl_WorkGroupID.x, word = id % 64;
    dim_first = unit % dims * 128;
    kv_head = unit / dims / chunks;
    head_first = kv_head * per_kv + unit / dims % chunks * QUERIES;
    head_count = min(uint(QUERIES), (kv_head + 1) * per_kv - head_first);
    row_first = tiles.w[2 * gl_WorkGroupID.y];
    query_count = head_count;
    uint begin = begin_of(row_first), end = end_of(row_first);
    uint which = gl_WorkGroupID.z, segment = (begin / 256 + which) * 256;
    if (segment >= end)
        return;
    uint base = ((sequence_of(batch, row_first) * kv_heads + kv_head) * capacity +
                 segment % capacity) * (head_dim / 8);
    find_scores(segment, base);
    find_weights(segment);
    vec2 o[GROUPS];
    sum_values(base * 4, max(begin, segment) - segment, min(end - segment, 256u), o);
    for (uint g = 0; g < GROUPS; g++) {
        uint query = 4 * g + id / 64;
        if (query >= query_count)
            continue;
        uint at = ((row_first * heads + head_of(query)) * segments + which) * (head_dim + 2);
        if (dim_first / 2 + word < head_dim / 2) {
            y.f[at + dim_first + 2 * word] = o[g].x;
            y.f[at + dim_first + 2 * word + 1] = o[g].y;
        }
        if (word == 0 && dim_first == 0) {
            y.f[at + head_dim] = best[query];
            y.f[at + head_dim + 1] = sums[query];
        }
    }
}
#else
void main()
{
    uint id = gl_LocalInvocationID.x, per_kv = heads / kv_heads, chunks = (per_kv + QUERIES - 1) / QUERIES;
    uint dims = (head_dim + 127) / 128, unit = gl_WorkGroupID.x, word = id % 64;
    dim_first = unit % dims * 128;
    kv_head = unit / dims / chunks;
    head_first = kv_head * per_kv + unit / dims % chunks * QUERIES;
    head_count = min(uint(QUERIES), (kv_head + 1) * per_kv - head_first);
    row_first = tiles.w[2 * gl_WorkGroupID.y];
    uint row_count = tiles.w[2 * gl_WorkGroupID.y + 1];
    query_count = head_count * row_count;
    uint begin = begin_of(row_first), end = end_of(row_first + row_count - 1);
    uint ring = (sequence_of(batch, row_first) * kv_heads + kv_head) * capacity;
    precise vec2 total[GROUPS];
    for (uint segment = begin / 256 * 256; segment < end; segment += 256) {
        uint base = (ring + segment % capacity) * (head_dim / 8);
        vec2 o[GROUPS];
        find_scores(segment, base);
        find_weights(segment);
        sum_values(base * 4, max(begin, segment) - segment, min(end - segment, 256u), o);
        for (uint g = 0; g < GROUPS; g++) {
            uint query = 4 * g + id / 64;
            if (query >= query_count || end_of(row_of(query)) <= segment)
                continue;
            uint first = begin_of(row_of(query)) / 256 * 256;
            if (segment == first)
                total[g] = o[g];
            else if (segment > first)
                total[g] = merge(total[g], o[g], query);
        }
        barrier();
        if (id < query_count && end_of(row_of(id)) > segment) {
            uint first = begin_of(row_of(id)) / 256 * 256;
            if (segment == first) {
                run_best[id] = best[id];
                run_sums[id] = sums[id];
            } else if (segment > first) {
                merge_sums(id);
            }
        }
        barrier();
    }
    for (uint g = 0; g < GROUPS; g++) {
        uint query = 4 * g + id / 64;
        if (query >= query_count || dim_first / 2 + word >= head_dim / 2)
            continue;
        precise float inverse = 1.0 / run_sums[query];
        precise vec2 result = total[g] * inverse;
        uint at = (row_of(query) * heads + head_of(query)) * head_dim + dim_first + 2 * word;
        y.f[at] = result.x;
        y.f[at + 1] = result.y;
    }
}
#endif
