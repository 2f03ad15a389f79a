// Sparse products of an expert, AVX-512 VNNI: up rows and down groups of the active neurons.
#include "cpu/group_work.h"
#include "cpu/x86/x86.h"

#include <immintrin.h>
#include <string.h>

// Sums of four neighbouring lanes: lane k of the result is {A_k, B_k, C_k, D_k}.
static inline __m512i quad_sums(__m512i a, __m512i b, __m512i c, __m512i d)
{
    __m512i ab = _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
    __m512i cd = _mm512_add_epi32(_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
    return _mm512_add_epi32(_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd));
}

// Eight blocks of x as the rows need them: low and high halves of blocks 0-3 and 4-7, and scales
// and sums in the order of quad_sums: lane k holds block k, block 4+k, and both again.
typedef struct x_round {
    __m512i low[2], high[2];
    __m512 d;
    __m512i sum8;
    __mmask8 blocks; // which of the eight exist
} x_round;

static inline x_round load_x(const stk_act *act, uint32_t block, uint32_t blocks)
{
    const __m512i order = _mm512_setr_epi32(0, 4, 0, 4, 1, 5, 1, 5, 2, 6, 2, 6, 3, 7, 3, 7);
    x_round x;
    uint32_t n = blocks - block < 8 ? blocks - block : 8;
    x.blocks = (__mmask8)((1u << n) - 1);
    __m512i z[4];
    for (uint32_t i = 0; i < 4; i++) // two blocks of 32 bytes each, in 64-bit lanes
        z[i] = _mm512_maskz_loadu_epi64(
            (__mmask8)((2 * i < n ? 0x0f : 0) | (2 * i + 1 < n ? 0xf0 : 0)),
            act->q + 32 * (size_t)(block + 2 * i));
    for (int i = 0; i < 2; i++) {
        x.low[i] = _mm512_shuffle_i64x2(z[2 * i], z[2 * i + 1], 0x88);
        x.high[i] = _mm512_shuffle_i64x2(z[2 * i], z[2 * i + 1], 0xdd);
    }
    __m256 d = _mm256_maskz_loadu_ps(x.blocks, act->d + block);
    __m256i sum = _mm256_maskz_loadu_epi32(x.blocks, act->sum + block);
    x.d = _mm512_permutexvar_ps(order, _mm512_castps256_ps512(d));
    x.sum8 = _mm512_slli_epi32(_mm512_permutexvar_epi32(order, _mm512_castsi256_si512(sum)), 3);
    return x;
}

static inline __m512i dot_blocks(const uint8_t *nibbles, __mmask8 lanes, __m512i low, __m512i high)
{
    const __m512i mask = _mm512_set1_epi8(15);
    __m512i raw = _mm512_maskz_loadu_epi64(lanes, nibbles);
    __m512i sum = _mm512_dpbusd_epi32(_mm512_setzero_si512(), _mm512_and_si512(raw, mask), low);
    return _mm512_dpbusd_epi32(sum, _mm512_and_si512(_mm512_srli_epi16(raw, 4), mask), high);
}

// Two rows at once; acc lane k holds {row0 accumulator k, row0 4+k, row1 k, row1 4+k}.
static inline void dot_two_rows(const uint8_t *row0, const uint8_t *row1, uint32_t blocks,
                                const stk_act *act, float *y0, float *y1)
{
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    __m512 acc = _mm512_setzero_ps();
    for (uint32_t b = 0; b < blocks; b += 8) {
        x_round x = load_x(act, b, blocks);
        uint32_t n = blocks - b < 8 ? blocks - b : 8;
        __mmask8 first = n >= 4 ? 0xff : (__mmask8)((1u << 2 * n) - 1);
        __mmask8 second = n <= 4 ? 0 : (__mmask8)((1u << 2 * (n - 4)) - 1);
        const uint8_t *p0 = row0 + 16 * (size_t)b, *p1 = row1 + 16 * (size_t)b;
        __m512i isum = quad_sums(dot_blocks(p0, first, x.low[0], x.high[0]),
                                 dot_blocks(p0 + 64, second, x.low[1], x.high[1]),
                                 dot_blocks(p1, first, x.low[0], x.high[0]),
                                 dot_blocks(p1 + 64, second, x.low[1], x.high[1]));
        size_t at = 16 * (size_t)blocks + 2 * (size_t)b;
        __m256i d = _mm256_set_m128i(_mm_maskz_loadu_epi16(x.blocks, row1 + at),
                                     _mm_maskz_loadu_epi16(x.blocks, row0 + at));
        __m512 dw = _mm512_permutexvar_ps(order, _mm512_cvtph_ps(d));
        __m512 t = _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_sub_epi32(isum, x.sum8)),
                                 _mm512_mul_ps(dw, x.d));
        acc = _mm512_add_ps(acc, t);
    }
    // The halving tree: i and i+4 sit side by side, i and i+2 two lanes apart, 0 and 1 one lane.
    acc = _mm512_add_ps(acc, _mm512_permute_ps(acc, 0xb1));
    __m256 four = _mm256_add_ps(_mm512_castps512_ps256(acc), _mm512_extractf32x8_ps(acc, 1));
    __m128 two = _mm_add_ps(_mm256_castps256_ps128(four), _mm256_extractf128_ps(four, 1));
    *y0 = _mm_cvtss_f32(two);
    *y1 = _mm_cvtss_f32(_mm_movehl_ps(two, two));
}

static inline void prefetch_run(const uint8_t *run, uint32_t bytes)
{
    for (uint32_t i = 0; i < bytes; i += 64)
        _mm_prefetch((const char *)run + i, _MM_HINT_T0);
}

void stk_gather_bundle_q4_0_avx512(const stk_matrix *w, const uint32_t *rows, uint32_t count,
                                   const stk_act *act, float *y)
{
    enum { AHEAD = 4 }; // rows: a few hundred nanoseconds of memory latency
    stk_bundle b = stk_bundle_of(w->cols, w->rows, w->format == STK_FORMAT_BUNDLE_T_UP);
    for (uint32_t i = 0; i < count; i += 2) {
        uint32_t other = i + 1 < count ? i + 1 : i;
        for (uint32_t j = i + AHEAD; j < i + AHEAD + 2 && j < count; j++)
            prefetch_run(stk_bundle_run(w, &b, rows[j]), b.run_bytes);
        float unused;
        dot_two_rows(stk_bundle_run(w, &b, rows[i]), stk_bundle_run(w, &b, rows[other]),
                     w->cols / 32, act, &y[i], other == i ? &unused : &y[other]);
    }
}

// One chunk of 128 outputs.
static inline void add_chunk(const stk_group_work *work, size_t at, const uint8_t *scales, float d,
                             int32_t sum, float *y)
{
    const __m512i low = _mm512_set1_epi8(15), high = _mm512_set1_epi8((char)0xf0);
    __m512i s[8];
    for (int k = 0; k < 4; k++) {
        s[k] = _mm512_set1_epi32(-8 * sum);
        s[4 + k] = _mm512_set1_epi32(-128 * sum); // high nibbles stay times 16 until the end
    }
    for (uint32_t i = 0; i < work->sets; i++) {
        const uint8_t *const *p = work->nibbles + 4 * i;
        __m512i a = _mm512_loadu_si512(p[0] + at), b = _mm512_loadu_si512(p[1] + at);
        __m512i c = _mm512_loadu_si512(p[2] + at), e = _mm512_loadu_si512(p[3] + at);
        __m512i x = _mm512_set1_epi32(stk_group_four(work, i));
        __m512i ab = _mm512_unpacklo_epi8(a, b), ce = _mm512_unpacklo_epi8(c, e);
        __m512i AB = _mm512_unpackhi_epi8(a, b), CE = _mm512_unpackhi_epi8(c, e);
        __m512i w[4] = {_mm512_unpacklo_epi16(ab, ce), _mm512_unpackhi_epi16(ab, ce),
                        _mm512_unpacklo_epi16(AB, CE), _mm512_unpackhi_epi16(AB, CE)};
        for (int k = 0; k < 4; k++) {
            s[k] = _mm512_dpbusd_epi32(s[k], _mm512_and_si512(w[k], low), x);
            s[4 + k] = _mm512_dpbusd_epi32(s[4 + k], _mm512_and_si512(w[k], high), x);
        }
    }
    __m512 dx = _mm512_set1_ps(d);
    for (int k = 0; k < 8; k++) {
        __m512i isum = k < 4 ? s[k] : _mm512_srai_epi32(s[k], 4);
        __m512 dw = _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(scales + 32 * k)));
        __m512 t = _mm512_mul_ps(_mm512_cvtepi32_ps(isum), _mm512_mul_ps(dw, dx));
        _mm512_storeu_ps(y + 16 * k, _mm512_add_ps(_mm512_loadu_ps(y + 16 * k), t));
    }
}

void stk_down_bundle_q4_0_avx512(const stk_matrix *down, const stk_neurons *n, uint32_t group_begin,
                                 uint32_t group_end, float *y)
{
    stk_bundle b = stk_bundle_of(down->rows, down->cols, 0);
    for (uint32_t g = group_begin; g < group_end; g++) {
        if (n->d[g] == 0)
            continue;
        const uint8_t *base = (const uint8_t *)down->data + (size_t)g * b.group_bytes;
        stk_group_work work;
        stk_group_collect(down, &b, n, g, 4, &work);
        for (uint32_t o = 0; o < down->rows; o += 128)
            add_chunk(&work, o / 2, base + 2 * (size_t)o, n->d[g], n->sum[g], y + o);
    }
}

static inline __m512 scaled(__m128i values, __m512 scale)
{
    __m512i q = _mm512_sub_epi32(_mm512_cvtepu8_epi32(values), _mm512_set1_epi32(8));
    return _mm512_mul_ps(scale, _mm512_cvtepi32_ps(q));
}

// Adds one neuron's row times h; the scales are half floats after the nibbles.
static inline void add_neuron(const uint8_t *row, uint32_t blocks, float h, float *y)
{
    const __m128i low = _mm_set1_epi8(15);
    for (uint32_t b = 0; b < blocks; b++) {
        __m128i raw = _mm_loadu_si128((const __m128i *)(row + 16 * (size_t)b));
        uint16_t half;
        memcpy(&half, row + 16 * (size_t)blocks + 2 * (size_t)b, 2);
        __m512 scale = _mm512_set1_ps(h * _cvtsh_ss(half));
        float *to = y + 32 * (size_t)b;
        __m512 t0 = scaled(_mm_and_si128(raw, low), scale);
        __m512 t1 = scaled(_mm_and_si128(_mm_srli_epi16(raw, 4), low), scale);
        _mm512_storeu_ps(to, _mm512_add_ps(_mm512_loadu_ps(to), t0));
        _mm512_storeu_ps(to + 16, _mm512_add_ps(_mm512_loadu_ps(to + 16), t1));
    }
}

void stk_down_bundle_t_q4_0_avx512(const stk_matrix *down, const stk_neurons *n,
                                   uint32_t group_begin, uint32_t group_end, float *y)
{
    stk_bundle b = stk_bundle_of(down->cols, down->rows, 1);
    for (uint32_t a = n->first[group_begin]; a < n->first[group_end]; a++) {
        uint32_t j = n->active[a];
        add_neuron(stk_bundle_run(down, &b, j) + b.up_bytes, down->cols / 32, n->h[j], y);
    }
}
