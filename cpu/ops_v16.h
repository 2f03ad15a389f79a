// cpu/ops_v16.h: sections 1, 5 and 6 of docs/arithmetic.md over sixteen lanes, written once.
//
// The law counts in sixteen accumulators, so a vector of sixteen floats is the natural unit on
// every machine: one AVX-512 register, two AVX2 ones, four of NEON. An instruction set defines
// `v16` with the small operations named v_*, then includes this file, which gives it static
// functions with the signatures of cpu/cpu.h. Included only by the ops_<isa>.c files.
//
// Needed: v_load v_store v_set1 v_add v_sub v_mul v_fma(a, b, c) = a*b+c rounded once, v_max v_min
// v_abs, v_round (to even), v_scale2(y, n) = y*2^n, v_zero_below(y, x, limit) = x >= limit ? y : 0,
// v_halve (the tree), v_max_of (largest lane), v_load_half v_store_half,
// v_store_i8(p, v) rounds to even, saturates, stores 16 bytes and returns their sum.
#include "cpu/cpu.h"
#include "cpu/math.h"

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

// Fills p over [begin, end), widened to multiples of 16 with -inf, and returns the largest.
static inline float scores_v16(const float *q, uint32_t head_dim, const uint16_t *k, uint32_t begin,
                               uint32_t end, float scale, float *p)
{
    for (uint32_t j = begin / 16 * 16; j < begin; j++)
        p[j] = -INFINITY;
    for (uint32_t j = end; j % 16 != 0; j++)
        p[j] = -INFINITY;
    float m = -INFINITY;
    for (uint32_t j = begin; j < end; j++) {
        v16 a = v_set1(0);
        for (uint32_t i = 0; i < head_dim; i += 16)
            a = v_fma(v_load(q + i), v_load_half(k + (size_t)j * head_dim + i), a);
        p[j] = v_halve(a) * scale;
        m = p[j] > m ? p[j] : m;
    }
    return m;
}

// o[16*width] of one head from its 16*width columns of v.
static inline __attribute__((always_inline)) void values_v16(const float *p, const uint16_t *v,
                                                             uint32_t head_dim, uint32_t begin,
                                                             uint32_t end, uint32_t width, float *o)
{
    v16 a[4];
    for (uint32_t c = 0; c < width; c++)
        a[c] = v_set1(0);
    for (uint32_t j = begin; j < end; j++) {
        v16 w = v_set1(p[j]);
        for (uint32_t c = 0; c < width; c++)
            a[c] = v_fma(w, v_load_half(v + (size_t)j * head_dim + 16 * c), a[c]);
    }
    for (uint32_t c = 0; c < width; c++)
        v_store(o + 16 * c, a[c]);
}

static void attend_v16(const float *q, uint32_t heads, uint32_t head_dim, const uint16_t *k,
                       const uint16_t *v, uint32_t begin, uint32_t end, float scale,
                       stk_attend_state *states)
{
    _Alignas(64) float p[STK_SEGMENT_TOKENS];
    for (uint32_t h = 0; h < heads; h++) {
        stk_attend_state *state = &states[h];
        state->m = scores_v16(q + (size_t)h * head_dim, head_dim, k, begin, end, scale, p);
        v16 a = v_set1(0), m = v_set1(state->m);
        for (uint32_t j = begin / 16 * 16; j < end; j += 16) {
            v16 e = v_exp(v_sub(v_load(p + j), m));
            v_store(p + j, e);
            a = v_add(a, e);
        }
        state->l = v_halve(a);
        uint32_t i = 0;
        for (; i + 64 <= head_dim; i += 64)
            values_v16(p, v + i, head_dim, begin, end, 4, state->o + i);
        for (; i < head_dim; i += 16)
            values_v16(p, v + i, head_dim, begin, end, 1, state->o + i);
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
