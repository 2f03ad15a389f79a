// cpu/ops_v16.h: sections 1, 5 and 6 of docs/arithmetic.md over sixteen lanes, written once.
//
// The law counts in sixteen accumulators, so a vector of sixteen floats is the natural unit on
// every machine: one AVX-512 register, two AVX2 ones, four of NEON. An instruction set defines
// `v16` with the small operations named v_*, then includes this file, which gives it static
// functions with the signatures of cpu/cpu.h. Included only by the ops_<isa>.c files.
//
// Needed: v_load v_store v_set1 v_add v_sub v_mul v_fma(a, b, c) = a*b+c rounded once, v_max v_min
// v_abs, v_round (to even), v_scale2(y, n) = y*2^n, v_zero_below(y, x, limit) = x >= limit ? y : 0,
// v_halve (the tree), v_halve16 (lane j = v_halve of a[j]), v_max_of (largest lane), v_load_half
// v_store_half, V_CHAINS (sums that fit in registers, divides 16), V_COLUMNS (pairs of sums that
// do), v_store_i8(p, v) rounds to even, saturates, stores 16 bytes and returns their sum.
#include "cpu/cpu.h"
#include "cpu/math.h"
#include <string.h>

static void quantize_v16(const float *x, uint32_t n, int8_t *q, float *d, int32_t *sum)
{
    for (uint32_t b = 0; b < n / 32; b++, x += 32, q += 32) {
        v16 x0 = v_load(x), x1 = v_load(x + 16);
        float m = v_max_of(v_max(v_abs(x0), v_abs(x1)));
        int small = m < STK_QUANTIZE_MIN;
        v16 k = v_set1(small ? 0 : stk_quantize_factor(m));
        d[b] = small ? 0 : m * STK_ONE_127TH;
        sum[b] = v_store_i8(q, v_mul(x0, k)) + v_store_i8(q + 16, v_mul(x1, k));
    }
}

static void rmsnorm_v16(const float *x, const float *weight, float eps, uint32_t n, float *y)
{
    v16 a = v_set1(0);
    for (uint32_t i = 0; i < n; i += 16) {
        v16 v = v_load(x + i);
        a = v_add(a, v_mul(v, v));
    }
    v16 s = v_set1(1.0f / sqrtf(v_halve(a) / (float)n + eps));
    for (uint32_t i = 0; i < n; i += 16)
        v_store(y + i, v_mul(v_mul(v_load(x + i), s), v_load(weight + i)));
}

static inline v16 v_exp(v16 x)
{
    v16 c = v_min(x, v_set1(88.0f));
    v16 n = v_round(v_mul(c, v_set1(1.44269504f)));
    v16 r = v_fma(n, v_set1(-0.693359375f), c);
    r = v_fma(n, v_set1(2.12194440e-4f), r);
    v16 p = v_set1(1.9875691500e-4f);
    p = v_fma(p, r, v_set1(1.3981999507e-3f));
    p = v_fma(p, r, v_set1(8.3334519073e-3f));
    p = v_fma(p, r, v_set1(4.1665795894e-2f));
    p = v_fma(p, r, v_set1(1.6666665459e-1f));
    p = v_fma(p, r, v_set1(5.0000001201e-1f));
    v16 y = v_add(v_fma(p, v_mul(r, r), r), v_set1(1.0f));
    return v_zero_below(v_scale2(y, n), x, -87.0f);
}

// Positions that are turned into floats together, for all queries that see them.
enum { ATTEND_BLOCK = 16 };
// How many blocks ahead lines are asked for into L1 and into L2; nearer does not fill L2's queue.
enum { ATTEND_NEAR = 1, ATTEND_FAR = 2 };

// What attention reads, in order: keys of the segment's positions, their values, the next keys.
typedef struct stream_v16 {
    const uint16_t *k, *v, *next_k;
    uint32_t head_dim;
    uint32_t begin, blocks; // first position, a multiple of 16; blocks of 16 up to the last
} stream_v16;

static inline stream_v16 stream_of_v16(const stk_attend_segment *segment, uint32_t head_dim,
                                       uint32_t begin, uint32_t end)
{
    // Without more to come its own keys are asked for, which are in a cache.
    const uint16_t *next_k = segment->next_k ? segment->next_k : segment->k;
    return (stream_v16){segment->k, segment->v, next_k,
                        head_dim,   begin,      (end - begin + ATTEND_BLOCK - 1) / ATTEND_BLOCK};
}

// Block `index` of that order.
static inline const char *stream_at_v16(const stream_v16 *s, uint32_t index)
{
    uint32_t from = s->begin;
    const uint16_t *rows = s->k;
    if (index >= 2 * s->blocks) {
        index -= 2 * s->blocks;
        rows = s->next_k;
        from = 0;
    } else if (index >= s->blocks) {
        index -= s->blocks;
        rows = s->v;
    }
    return (const char *)(rows + (size_t)(from + index * ATTEND_BLOCK) * s->head_dim);
}

// Asks for part `part` of `count` of what comes after block `index`, into L2 and from there into
// L1. In parts, because more requests than the core can have under way would stop the sums they are
// to overlap.
static inline void prefetch_v16(const stream_v16 *s, uint32_t index, uint32_t part, uint32_t count)
{
    const char *near_rows = stream_at_v16(s, index + ATTEND_NEAR);
    const char *far_rows = stream_at_v16(s, index + ATTEND_FAR);
    uint32_t lines = ATTEND_BLOCK * s->head_dim / 32;
    for (uint32_t i = lines * part / count; i < lines * (part + 1) / count; i++) {
        __builtin_prefetch(near_rows + 64 * (size_t)i, 0, 3);
        __builtin_prefetch(far_rows + 64 * (size_t)i, 0, 2);
    }
}

// Rows [at, at+16) of k or v as floats out[16][head_dim]; only rows in [begin, end) are read, the
// nearest of them stand in for the others.
static inline void load_rows_v16(const uint16_t *rows, uint32_t head_dim, uint32_t at,
                                 uint32_t begin, uint32_t end, float *out)
{
    for (uint32_t j = 0; j < ATTEND_BLOCK; j++, out += head_dim) {
        uint32_t row = at + j < begin ? begin : at + j < end ? at + j : end - 1;
        for (uint32_t i = 0; i < head_dim; i += 16)
            v_store(out + i, v_load_half(rows + (size_t)row * head_dim + i));
    }
}

// Lane j = q . row j of k[16][head_dim], summed as the law says.
static inline v16 dots_v16(const float *q, const float *k, uint32_t head_dim)
{
    v16 a[ATTEND_BLOCK];
    for (uint32_t j = 0; j < ATTEND_BLOCK; j += V_CHAINS) {
        v16 s[V_CHAINS];
        for (uint32_t c = 0; c < V_CHAINS; c++)
            s[c] = v_set1(0);
        for (uint32_t i = 0; i < head_dim; i += 16) {
            v16 x = v_load(q + i);
            for (uint32_t c = 0; c < V_CHAINS; c++)
                s[c] = v_fma(x, v_load(k + (size_t)(j + c) * head_dim + i), s[c]);
        }
        for (uint32_t c = 0; c < V_CHAINS; c++)
            a[j + c] = s[c];
    }
    return v_halve16(a);
}

// Turns a query's scores p over [begin, end), rounded out to multiples of 16, into weights.
static inline void weights_v16(stk_attend_query *query, float *p)
{
    uint32_t from = query->begin / 16 * 16, to = (query->end + 15) / 16 * 16;
    for (uint32_t j = from; j < query->begin; j++)
        p[j] = -INFINITY;
    for (uint32_t j = query->end; j < to; j++)
        p[j] = -INFINITY;
    v16 a = v_set1(0), largest = v_load(p + from);
    for (uint32_t j = from + 16; j < to; j += 16)
        largest = v_max(largest, v_load(p + j));
    query->state.m = v_max_of(largest);
    v16 m = v_set1(query->state.m);
    for (uint32_t j = from; j < to; j += 16) {
        v16 e = v_exp(v_sub(v_load(p + j), m));
        v_store(p + j, e);
        a = v_add(a, e);
    }
    query->state.l = v_halve(a);
}

// Adds rows [from, to) of v times p0 to o0, and times p1 to o1 if `two`: 16*width columns.
static inline __attribute__((always_inline)) void
values_v16(const float *p0, const float *p1, const float *v, uint32_t head_dim, uint32_t from,
           uint32_t to, uint32_t width, int two, float *o0, float *o1)
{
    v16 a[V_COLUMNS], b[V_COLUMNS];
    for (uint32_t c = 0; c < width; c++) {
        a[c] = v_load(o0 + 16 * c);
        b[c] = v_load(o1 + 16 * c);
    }
    for (uint32_t j = from; j < to; j++) {
        v16 w0 = v_set1(p0[j]), w1 = v_set1(p1[j]);
        for (uint32_t c = 0; c < width; c++) {
            v16 x = v_load(v + (size_t)j * head_dim + 16 * c);
            a[c] = v_fma(w0, x, a[c]);
            b[c] = two ? v_fma(w1, x, b[c]) : b[c];
        }
    }
    for (uint32_t c = 0; c < width; c++) {
        v_store(o0 + 16 * c, a[c]);
        if (two)
            v_store(o1 + 16 * c, b[c]);
    }
}

static inline __attribute__((always_inline)) void add_values_v16(const float *p0, const float *p1,
                                                                 const float *v, uint32_t head_dim,
                                                                 uint32_t from, uint32_t to,
                                                                 int two, float *o0, float *o1)
{
    uint32_t i = 0;
    for (; i + 16 * V_COLUMNS <= head_dim; i += 16 * V_COLUMNS)
        values_v16(p0, p1, v + i, head_dim, from, to, V_COLUMNS, two, o0 + i, o1 + i);
    for (; i < head_dim; i += 16)
        values_v16(p0, p1, v + i, head_dim, from, to, 1, two, o0 + i, o1 + i);
}

// The part of a query's positions that lies in the block at `at`, counted from there.
static inline int overlap_v16(const stk_attend_query *query, uint32_t at, uint32_t *from,
                              uint32_t *to)
{
    *from = query->begin > at ? query->begin - at : 0;
    *to = query->end < at + ATTEND_BLOCK ? query->end - at : ATTEND_BLOCK;
    return query->begin < at + ATTEND_BLOCK && query->end > at;
}

// Adds a block of values to every query that sees it, two queries at a time where they see the
// same.
static inline void add_block_v16(stk_attend_query *queries, uint32_t count, uint32_t head_dim,
                                 const float *v, uint32_t at, float (*p)[STK_SEGMENT_TOKENS],
                                 const stream_v16 *stream, uint32_t index)
{
    for (uint32_t i = 0; i < count; i++) {
        uint32_t from, to, next_from, next_to;
        prefetch_v16(stream, index, i, count);
        if (!overlap_v16(&queries[i], at, &from, &to))
            continue;
        float *o = queries[i].state.o;
        if (i + 1 < count && overlap_v16(&queries[i + 1], at, &next_from, &next_to) &&
            next_from == from && next_to == to) {
            add_values_v16(p[i] + at, p[i + 1] + at, v, head_dim, from, to, 1, o,
                           queries[i + 1].state.o);
            i++;
            prefetch_v16(stream, index, i, count);
        } else {
            add_values_v16(p[i] + at, p[i] + at, v, head_dim, from, to, 0, o, o);
        }
    }
}

static void attend_v16(stk_attend_query *queries, uint32_t count, uint32_t head_dim,
                       const stk_attend_segment *segment, float scale)
{
    _Alignas(64) float p[STK_ATTEND_QUERIES_MAX][STK_SEGMENT_TOKENS];
    _Alignas(64) float rows[ATTEND_BLOCK * STK_HEAD_DIM_MAX];
    uint32_t begin = STK_SEGMENT_TOKENS, end = 0, from, to;
    for (uint32_t i = 0; i < count; i++) {
        begin = queries[i].begin < begin ? queries[i].begin : begin;
        end = queries[i].end > end ? queries[i].end : end;
        memset(queries[i].state.o, 0, head_dim * sizeof *queries[i].state.o);
    }
    v16 factor = v_set1(scale);
    uint32_t first = begin / ATTEND_BLOCK * ATTEND_BLOCK, index = 0;
    const stream_v16 stream = stream_of_v16(segment, head_dim, first, end);
    for (uint32_t at = first; at < end; at += ATTEND_BLOCK, index++) {
        load_rows_v16(segment->k, head_dim, at, begin, end, rows);
        for (uint32_t i = 0; i < count; i++) {
            prefetch_v16(&stream, index, i, count);
            if (overlap_v16(&queries[i], at, &from, &to))
                v_store(p[i] + at, v_mul(dots_v16(queries[i].q, rows, head_dim), factor));
        }
    }
    for (uint32_t i = 0; i < count; i++)
        weights_v16(&queries[i], p[i]);
    for (uint32_t at = first; at < end; at += ATTEND_BLOCK, index++) {
        load_rows_v16(segment->v, head_dim, at, begin, end, rows);
        add_block_v16(queries, count, head_dim, rows, at, p, &stream, index);
    }
}

static void attend_merge_v16(stk_attend_state *into, const stk_attend_state *segment,
                             uint32_t head_dim)
{
    float m = into->m > segment->m ? into->m : segment->m;
    float a = stk_exp(into->m - m), b = stk_exp(segment->m - m);
    float from_into = into->l * a, from_segment = segment->l * b;
    into->l = from_into + from_segment;
    into->m = m;
    v16 va = v_set1(a), vb = v_set1(b);
    for (uint32_t i = 0; i < head_dim; i += 16)
        v_store(into->o + i,
                v_add(v_mul(v_load(into->o + i), va), v_mul(v_load(segment->o + i), vb)));
}

static void to_half_v16(const float *x, uint32_t n, uint16_t *y)
{
    uint32_t i = 0;
    for (; i + 16 <= n; i += 16)
        v_store_half(y + i, v_load(x + i));
    for (; i < n; i++)
        y[i] = stk_half_from_float(x[i]);
}

static void combine_v16(float *x, const float *const *y, const float *weights, uint32_t count,
                        uint32_t n)
{
    for (uint32_t i = 0; i < n; i += 16) {
        v16 c = v_mul(v_set1(weights[0]), v_load(y[0] + i));
        for (uint32_t k = 1; k < count; k++)
            c = v_add(c, v_mul(v_set1(weights[k]), v_load(y[k] + i)));
        v_store(x + i, v_add(v_load(x + i), c));
    }
}

static void sum_parts_v16(const float *parts, size_t stride, uint32_t n, float *out)
{
    for (uint32_t i = 0; i < n; i += 16) {
        v16 even = v_add(v_load(parts + i), v_load(parts + 2 * stride + i));
        v16 odd = v_add(v_load(parts + stride + i), v_load(parts + 3 * stride + i));
        v_store(out + i, v_add(even, odd));
    }
}

static void init_v16(stk_cpu *cpu)
{
    cpu->quantize = quantize_v16;
    cpu->rmsnorm = rmsnorm_v16;
    cpu->attend = attend_v16;
    cpu->attend_merge = attend_merge_v16;
    cpu->to_half = to_half_v16;
    cpu->combine = combine_v16;
    cpu->sum_parts = sum_parts_v16;
}
