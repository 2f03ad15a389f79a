// Sparse products of an expert, AVX2: up rows and down groups of the active neurons.
#include "cpu/group_work.h"
#include "cpu/x86/x86.h"

#include <immintrin.h>
#include <string.h>

// Sums of four neighbouring lanes: lane k of the result is {A_k, B_k, C_k, D_k}.
static inline __m256i quad_sums(__m256i a, __m256i b, __m256i c, __m256i d)
{
    __m256i ab = _mm256_add_epi32(_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b));
    __m256i cd = _mm256_add_epi32(_mm256_unpacklo_epi32(c, d), _mm256_unpackhi_epi32(c, d));
    return _mm256_add_epi32(_mm256_unpacklo_epi64(ab, cd), _mm256_unpackhi_epi64(ab, cd));
}

// Two blocks of a row: lane k holds four partial sums of block k, to be added up.
static inline __m256i dot_two_blocks(const uint8_t *nibbles, const int8_t *q)
{
    const __m256i low = _mm256_set1_epi8(15), one = _mm256_set1_epi16(1);
    __m256i raw = _mm256_loadu_si256((const __m256i *)nibbles);
    const __m128i *x = (const __m128i *)q;
    __m256i lo = _mm256_loadu2_m128i(x + 2, x), hi = _mm256_loadu2_m128i(x + 3, x + 1);
    __m256i sum = _mm256_maddubs_epi16(_mm256_and_si256(raw, low), lo);
    raw = _mm256_and_si256(_mm256_srli_epi16(raw, 4), low);
    return _mm256_madd_epi16(_mm256_add_epi16(sum, _mm256_maddubs_epi16(raw, hi)), one);
}

static inline __m256i dot_one_block(const uint8_t *nibbles, const int8_t *q)
{
    const __m128i low = _mm_set1_epi8(15), one = _mm_set1_epi16(1);
    __m128i raw = _mm_loadu_si128((const __m128i *)nibbles);
    __m128i sum = _mm_maddubs_epi16(_mm_and_si128(raw, low), _mm_loadu_si128((const __m128i *)q));
    raw = _mm_and_si128(_mm_srli_epi16(raw, 4), low);
    sum = _mm_add_epi16(sum, _mm_maddubs_epi16(raw, _mm_loadu_si128((const __m128i *)(q + 16))));
    return _mm256_zextsi128_si256(_mm_madd_epi16(sum, one));
}

// Blocks b and b+1, as many as exist.
static inline __m256i dot_blocks(const uint8_t *row, uint32_t b, uint32_t blocks,
                                 const stk_act *act)
{
    const uint8_t *p = row + 16 * (size_t)b;
    const int8_t *q = act->q + 32 * (size_t)b;
    if (b + 2 <= blocks)
        return dot_two_blocks(p, q);
    return b < blocks ? dot_one_block(p, q) : _mm256_setzero_si256();
}

// Scales and sums of fewer than eight blocks, filled up with zeros.
typedef struct last_blocks {
    uint8_t halves[16];
    float d[8];
    int32_t sum[8];
} last_blocks;

static inline last_blocks last_blocks_of(const uint8_t *halves, const float *d, const int32_t *sum,
                                         uint32_t count)
{
    last_blocks last = {{0}, {0}, {0}};
    memcpy(last.halves, halves, 2 * count);
    memcpy(last.d, d, 4 * count);
    memcpy(last.sum, sum, 4 * count);
    return last;
}

static float dot_row(const uint8_t *row, uint32_t blocks, const stk_act *act)
{
    // quad_sums of the block pairs 0,1 / 2,3 / 4,5 / 6,7 gives {0,2,4,6} and {1,3,5,7}.
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    __m256 acc = _mm256_setzero_ps();
    for (uint32_t b = 0; b < blocks; b += 8) {
        __m256i isum = quad_sums(
            dot_blocks(row, b, blocks, act), dot_blocks(row, b + 2, blocks, act),
            dot_blocks(row, b + 4, blocks, act), dot_blocks(row, b + 6, blocks, act));
        isum = _mm256_permutevar8x32_epi32(isum, order);
        const uint8_t *halves = row + 16 * (size_t)blocks + 2 * (size_t)b;
        const float *d = act->d + b;
        const int32_t *sum = act->sum + b;
        last_blocks last;
        if (blocks - b < 8) {
            last = last_blocks_of(halves, d, sum, blocks - b);
            halves = last.halves, d = last.d, sum = last.sum;
        }
        __m256 dw = _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)halves));
        __m256 scale = _mm256_mul_ps(dw, _mm256_loadu_ps(d));
        __m256i bias = _mm256_slli_epi32(_mm256_loadu_si256((const __m256i *)sum), 3);
        __m256 t = _mm256_cvtepi32_ps(_mm256_sub_epi32(isum, bias));
        acc = _mm256_add_ps(acc, _mm256_mul_ps(t, scale));
    }
    __m128 four = _mm_add_ps(_mm256_castps256_ps128(acc), _mm256_extractf128_ps(acc, 1));
    four = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(four, _mm_shuffle_ps(four, four, 1)));
}

void stk_gather_bundle_q4_0_avx2(const stk_matrix *w, const uint32_t *rows, uint32_t count,
                                 const stk_act *act, float *y)
{
    enum { AHEAD = 3 }; // rows: a few hundred nanoseconds of memory latency
    stk_bundle b = stk_bundle_of(w->cols, w->rows, w->format == STK_FORMAT_BUNDLE_T_UP);
    for (uint32_t i = 0; i < count; i++) {
        if (i + AHEAD < count) {
            const uint8_t *run = stk_bundle_run(w, &b, rows[i + AHEAD]);
            for (uint32_t at = 0; at < b.run_bytes; at += 64)
                _mm_prefetch((const char *)run + at, _MM_HINT_T0);
        }
        y[i] = dot_row(stk_bundle_run(w, &b, rows[i]), w->cols / 32, act);
    }
}

// y[0..8) of eight outputs whose integer sums are in s.
static inline void add_outputs(__m256i s, const uint8_t *scales, __m256 dx, float *y)
{
    __m256 dw = _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)scales));
    __m256 t = _mm256_mul_ps(_mm256_cvtepi32_ps(s), _mm256_mul_ps(dw, dx));
    _mm256_storeu_ps(y, _mm256_add_ps(_mm256_loadu_ps(y), t));
}

// Half a chunk: 32 bytes of nibbles, that is outputs 16k+8*half+0..7 for k = 0..3, and 64 more.
static inline void add_half_chunk(const stk_group_work *work, size_t at, const uint8_t *scales,
                                  uint32_t half, __m256 dx, int32_t sum, float *y)
{
    const __m256i low = _mm256_set1_epi8(15);
    __m256i s[8];
    for (int k = 0; k < 8; k++)
        s[k] = _mm256_set1_epi32(-8 * sum);
    for (uint32_t i = 0; i < work->sets; i++) {
        const uint8_t *pa = work->nibbles[2 * i] + at + 32 * half;
        const uint8_t *pb = work->nibbles[2 * i + 1] + at + 32 * half;
        __m256i a = _mm256_loadu_si256((const __m256i *)pa);
        __m256i b = _mm256_loadu_si256((const __m256i *)pb);
        uint8_t xa = (uint8_t)work->q[2 * i], xb = (uint8_t)work->q[2 * i + 1];
        __m256i x = _mm256_set1_epi16((int16_t)(xa | xb << 8));
        __m256i pairs[2] = {_mm256_unpacklo_epi8(a, b), _mm256_unpackhi_epi8(a, b)};
        for (int p = 0; p < 2; p++) { // outputs k = 2p and 2p+1
            __m256i lo = _mm256_maddubs_epi16(_mm256_and_si256(pairs[p], low), x);
            __m256i hi = _mm256_and_si256(_mm256_srli_epi16(pairs[p], 4), low);
            hi = _mm256_maddubs_epi16(hi, x);
            // Widen each lane's eight 16-bit sums, keeping the lane: 4 of k, 4 of k+1.
            __m256i lo_sign = _mm256_srai_epi16(lo, 15), hi_sign = _mm256_srai_epi16(hi, 15);
            s[2 * p] = _mm256_add_epi32(s[2 * p], _mm256_unpacklo_epi16(lo, lo_sign));
            s[2 * p + 1] = _mm256_add_epi32(s[2 * p + 1], _mm256_unpackhi_epi16(lo, lo_sign));
            s[4 + 2 * p] = _mm256_add_epi32(s[4 + 2 * p], _mm256_unpacklo_epi16(hi, hi_sign));
            s[5 + 2 * p] = _mm256_add_epi32(s[5 + 2 * p], _mm256_unpackhi_epi16(hi, hi_sign));
        }
    }
    for (int k = 0; k < 8; k++) {
        uint32_t o = (k < 4 ? 0 : 64) + 16 * ((uint32_t)k % 4) + 8 * half;
        add_outputs(s[k], scales + 2 * o, dx, y + o);
    }
}

void stk_down_bundle_q4_0_avx2(const stk_matrix *down, const stk_neurons *n, uint32_t group_begin,
                               uint32_t group_end, float *y)
{
    stk_bundle b = stk_bundle_of(down->rows, down->cols, 0);
    for (uint32_t g = group_begin; g < group_end; g++) {
        if (n->d[g] == 0)
            continue;
        const uint8_t *base = (const uint8_t *)down->data + (size_t)g * b.group_bytes;
        stk_group_work work;
        stk_group_collect(down, &b, n, g, 2, &work);
        __m256 dx = _mm256_set1_ps(n->d[g]);
        for (uint32_t o = 0; o < down->rows; o += 128)
            for (uint32_t half = 0; half < 2; half++)
                add_half_chunk(&work, o / 2, base + 2 * (size_t)o, half, dx, n->sum[g], y + o);
    }
}

static inline void add_eight(__m128i values, __m256 scale, float *y)
{
    __m256i q = _mm256_sub_epi32(_mm256_cvtepu8_epi32(values), _mm256_set1_epi32(8));
    __m256 t = _mm256_mul_ps(scale, _mm256_cvtepi32_ps(q));
    _mm256_storeu_ps(y, _mm256_add_ps(_mm256_loadu_ps(y), t));
}

static void add_neuron(const uint8_t *row, uint32_t blocks, float h, float *y)
{
    const __m128i low = _mm_set1_epi8(15);
    for (uint32_t b = 0; b < blocks; b++, y += 32) {
        __m128i raw = _mm_loadu_si128((const __m128i *)(row + 16 * (size_t)b));
        uint16_t half;
        memcpy(&half, row + 16 * (size_t)blocks + 2 * (size_t)b, 2);
        __m256 scale = _mm256_set1_ps(h * _cvtsh_ss(half));
        __m128i lo = _mm_and_si128(raw, low), hi = _mm_and_si128(_mm_srli_epi16(raw, 4), low);
        add_eight(lo, scale, y);
        add_eight(_mm_srli_si128(lo, 8), scale, y + 8);
        add_eight(hi, scale, y + 16);
        add_eight(_mm_srli_si128(hi, 8), scale, y + 24);
    }
}

void stk_down_bundle_t_q4_0_avx2(const stk_matrix *down, const stk_neurons *n, uint32_t group_begin,
                                 uint32_t group_end, float *y)
{
    stk_bundle b = stk_bundle_of(down->cols, down->rows, 1);
    for (uint32_t a = n->first[group_begin]; a < n->first[group_end]; a++) {
        uint32_t j = n->active[a];
        add_neuron(stk_bundle_run(down, &b, j) + b.up_bytes, down->cols / 32, n->h[j], y);
    }
}
