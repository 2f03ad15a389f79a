// Products with weights as the file holds them, AVX2: K-quants and the other block-quantised types
// that have no layout of their own. Row by row, eight blocks at a time (blocks_avx2.h).
#include "cpu/x86/blocks_avx2.h"
#include "cpu/x86/x86.h"

enum {
    TOKENS_AT_ONCE = 8,
    DOWN_TOKENS = 4,
    // So far ahead of a stream of rows memory is asked, for the caches of both levels.
    NEAR_BYTES = 1024,
    FAR_BYTES = 4096,
};

// What tells one type from another. Always a constant, so that nothing of it is left at run time.
typedef struct blocks_of {
    load_blocks_fn load;
    uint32_t bytes;   // of one block of 32; of eight, where they come together only
    bool is_super;    // they do: K-quants
    bool is_unsigned; // weights are, and there are minima
    bool has_sub;     // two scales per block
    bool is_wide;     // weights beyond -32..32: sums of eight products may need more than 16 bits
} blocks_of;

STK_INLINE size_t blocks_at(blocks_of type, uint32_t block)
{
    return type.is_super ? (size_t)(block / 8) * type.bytes : (size_t)block * type.bytes;
}

STK_INLINE __m256i pair_products(blocks_of type, __m256i w, __m256i x)
{
    return type.is_unsigned ? _mm256_maddubs_epi16(w, x)
                            : _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(x, w));
}

// Lane b: the sum of block b's products with q[32*b ..].
STK_INLINE __m256i sum_lanes(blocks_of type, const eight_blocks *w, const int8_t *q, uint32_t count)
{
    const __m256i ones = _mm256_set1_epi16(1);
    __m256i s[8], half[2];
    for (uint32_t b = 0; b < 8; b++) {
        __m256i x = b < count ? load32((const uint8_t *)q + 32 * b) : _mm256_setzero_si256();
        s[b] = pair_products(type, w->q[b], x);
    }
    for (int i = 0; i < 2; i++) {
        __m256i *t = s + 4 * i;
        if (type.is_wide) {
            for (int b = 0; b < 4; b++)
                t[b] = _mm256_madd_epi16(t[b], ones);
            half[i] = _mm256_hadd_epi32(_mm256_hadd_epi32(t[0], t[1]),
                                        _mm256_hadd_epi32(t[2], t[3]));
        } else { // at most 2*4*32*127 = 32512
            __m256i u = _mm256_hadd_epi16(_mm256_hadd_epi16(t[0], t[1]),
                                          _mm256_hadd_epi16(t[2], t[3]));
            half[i] = _mm256_madd_epi16(u, ones);
        }
        if (type.has_sub)
            half[i] = _mm256_mullo_epi32(half[i], w->sub[i]);
    }
    return _mm256_add_epi32(_mm256_permute2x128_si256(half[0], half[1], 0x20),
                            _mm256_permute2x128_si256(half[0], half[1], 0x31));
}

// Lane b: what section 2 calls t, of block b. lanes: those that exist.
STK_INLINE __m256 terms(blocks_of type, const eight_blocks *w, const int8_t *q, const float *d,
                        const int32_t *sum, uint32_t count, __m256i lanes)
{
    __m256 scale = _mm256_maskload_ps(d, lanes);
    __m256i isum = sum_lanes(type, w, q, count);
    __m256 t = _mm256_mul_ps(_mm256_cvtepi32_ps(isum), _mm256_mul_ps(w->d, scale));
    if (type.is_unsigned) {
        __m256 s = _mm256_cvtepi32_ps(_mm256_maskload_epi32(sum, lanes));
        t = _mm256_sub_ps(t, _mm256_mul_ps(s, _mm256_mul_ps(w->m, scale)));
    }
    return t;
}

STK_INLINE __m256i first_lanes(uint32_t count)
{
    return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)count),
                              _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

STK_INLINE void ask_ahead(const uint8_t *p, uint32_t bytes)
{
    for (uint32_t i = 0; i < bytes; i += 64) {
        _mm_prefetch((const char *)p + NEAR_BYTES + i, _MM_HINT_T0);
        _mm_prefetch((const char *)p + FAR_BYTES + i, _MM_HINT_T1);
    }
}

// y[t*stride] = row . acts[t], t < tokens <= TOKENS_AT_ONCE. is_stream: more rows follow this one.
STK_INLINE void dot_row(blocks_of type, const uint8_t *row, uint32_t blocks, const stk_act *acts,
                        uint32_t tokens, float *y, size_t stride, bool is_stream)
{
    __m256 a[TOKENS_AT_ONCE];
    for (uint32_t t = 0; t < tokens; t++)
        a[t] = _mm256_setzero_ps();
    for (uint32_t b = 0; b < blocks; b += 8) {
        uint32_t count = type.is_super || blocks - b >= 8 ? 8 : blocks - b;
        __m256i lanes = first_lanes(count);
        eight_blocks w;
        if (is_stream)
            ask_ahead(row + blocks_at(type, b), type.is_super ? type.bytes : 8 * type.bytes);
        type.load(row + blocks_at(type, b), count, &w);
        for (uint32_t t = 0; t < tokens; t++)
            a[t] = _mm256_add_ps(a[t], terms(type, &w, acts[t].q + 32 * (size_t)b, acts[t].d + b,
                                             acts[t].sum + b, count, lanes));
    }
    for (uint32_t t = 0; t < tokens; t++) {
        __m128 c = _mm_add_ps(_mm256_castps256_ps128(a[t]), _mm256_extractf128_ps(a[t], 1));
        c = _mm_add_ps(c, _mm_movehl_ps(c, c));
        y[t * stride] = _mm_cvtss_f32(_mm_add_ss(c, _mm_shuffle_ps(c, c, 1)));
    }
}

STK_INLINE void matmul(blocks_of type, const stk_matrix *w, uint32_t row_begin, uint32_t row_end,
                       const stk_act *acts, uint32_t count, float *y, size_t y_stride)
{
    uint32_t blocks = w->cols / 32;
    for (uint32_t t = 0; t < count; t += TOKENS_AT_ONCE) {
        uint32_t tokens = count - t < TOKENS_AT_ONCE ? count - t : TOKENS_AT_ONCE;
        for (uint32_t row = row_begin; row < row_end; row++) {
            float *to = y + t * y_stride + (row - row_begin);
            if (tokens == 1)
                dot_row(type, stk_matrix_row(w, row), blocks, acts + t, 1, to, y_stride, true);
            else
                dot_row(type, stk_matrix_row(w, row), blocks, acts + t, tokens, to, y_stride,
                        false);
        }
    }
}

STK_INLINE void gather(blocks_of type, const stk_matrix *w, const uint32_t *rows, uint32_t count,
                       const stk_act *act, float *y)
{
    for (uint32_t i = 0; i < count; i++)
        dot_row(type, stk_matrix_row(w, rows[i]), w->cols / 32, act, 1, &y[i], 1, false);
}

// Eight registers of eight become their columns.
STK_INLINE void transpose(__m256 r[8])
{
    __m256 a[8], b[8];
    for (int i = 0; i < 8; i += 2) {
        a[i] = _mm256_unpacklo_ps(r[i], r[i + 1]);
        a[i + 1] = _mm256_unpackhi_ps(r[i], r[i + 1]);
    }
    for (int i = 0; i < 8; i += 4) {
        b[i] = _mm256_shuffle_ps(a[i], a[i + 2], 0x44);
        b[i + 1] = _mm256_shuffle_ps(a[i], a[i + 2], 0xee);
        b[i + 2] = _mm256_shuffle_ps(a[i + 1], a[i + 3], 0x44);
        b[i + 3] = _mm256_shuffle_ps(a[i + 1], a[i + 3], 0xee);
    }
    for (int i = 0; i < 4; i++) {
        r[i] = _mm256_permute2f128_ps(b[i], b[i + 4], 0x20);
        r[i + 4] = _mm256_permute2f128_ps(b[i], b[i + 4], 0x31);
    }
}

// Groups g.. of the rows of eight outputs; those past the last output repeat one.
STK_INLINE void load_rows(blocks_of type, const stk_matrix *w, uint32_t o, uint32_t g,
                          uint32_t count, eight_blocks rows[8])
{
    for (uint32_t i = 0; i < 8; i++) {
        const uint8_t *row = stk_matrix_row(w, o + i < w->rows ? o + i : o);
        type.load(row + blocks_at(type, g), count, &rows[i]);
    }
}

// The terms of eight groups from g on, of eight outputs, one group to a register.
STK_INLINE void square(blocks_of type, const eight_blocks rows[8], const stk_act *h, uint32_t g,
                       uint32_t count, __m256 t[8])
{
    __m256i lanes = first_lanes(count);
    for (uint32_t i = 0; i < 8; i++)
        t[i] = terms(type, &rows[i], h->q + 32 * (size_t)g, h->d + g, h->sum + g, count, lanes);
    transpose(t);
}

// Section 4, down rows are outputs. Groups are the blocks of a row, so eight groups of eight
// outputs give a square of terms; its columns are added in the order of the groups.
STK_INLINE void down(blocks_of type, const stk_matrix *w, const stk_neurons *n, uint32_t begin,
                     uint32_t end, float *y)
{
    const stk_act h = {n->h, n->q, n->d, n->sum};
    for (uint32_t o = 0; o < w->rows; o += 8) {
        __m256 t[8], sum = _mm256_loadu_ps(y + o); // y has room for that
        for (uint32_t g = type.is_super ? begin / 8 * 8 : begin; g < end; g += 8) {
            uint32_t count = type.is_super || end - g >= 8 ? 8 : end - g;
            eight_blocks rows[8];
            load_rows(type, w, o, g, count, rows);
            square(type, rows, &h, g, count, t);
            for (uint32_t i = 0; i < count; i++)
                if (g + i >= begin && g + i < end && n->d[g + i] != 0)
                    sum = _mm256_add_ps(sum, t[i]);
        }
        _mm256_storeu_ps(y + o, sum);
    }
}

// The whole product for a few tokens: the blocks are unpacked once, and each part has its sum.
STK_INLINE void down_outputs(blocks_of type, const stk_matrix *w, uint32_t o, const stk_act *h,
                             uint32_t tokens, float *const *y)
{
    uint32_t groups = w->cols / 32;
    __m256 sums[DOWN_TOKENS][STK_EXPERT_PARTS];
    for (uint32_t i = 0; i < tokens * STK_EXPERT_PARTS; i++)
        sums[i / STK_EXPERT_PARTS][i % STK_EXPERT_PARTS] = _mm256_setzero_ps();
    for (uint32_t g = 0; g < groups; g += 8) {
        uint32_t count = groups - g < 8 ? groups - g : 8;
        eight_blocks rows[8];
        load_rows(type, w, o, g, count, rows);
        for (uint32_t t = 0; t < tokens; t++) {
            __m256 terms_of[8];
            square(type, rows, &h[t], g, count, terms_of);
            for (uint32_t i = 0, part = 0; i < count; i++) {
                while (groups * (part + 1) / STK_EXPERT_PARTS <= g + i)
                    part++;
                if (h[t].d[g + i] != 0)
                    sums[t][part] = _mm256_add_ps(sums[t][part], terms_of[i]);
            }
        }
    }
    for (uint32_t t = 0; t < tokens; t++)
        _mm256_storeu_ps(y[t] + o, _mm256_add_ps(_mm256_add_ps(sums[t][0], sums[t][2]),
                                                 _mm256_add_ps(sums[t][1], sums[t][3])));
}

STK_INLINE int down_rows(blocks_of type, const stk_matrix *w, const stk_act *h, uint32_t count,
                         float *const *y)
{
    for (uint32_t t = 0; t < count; t += DOWN_TOKENS) {
        uint32_t tokens = count - t < DOWN_TOKENS ? count - t : DOWN_TOKENS;
        for (uint32_t o = 0; o < w->rows; o += 8) {
            if (tokens == 1)
                down_outputs(type, w, o, h + t, 1, y + t);
            else
                down_outputs(type, w, o, h + t, tokens, y + t);
        }
    }
    return 1;
}

// Section 4, down rows are neurons: block b of eight, for a neuron whose h is in all lanes.
STK_INLINE void add_block(blocks_of type, const eight_blocks *w, uint32_t b, const float *d,
                          const float *m, const int32_t *sub, float h, float *y)
{
    __m256 scale = _mm256_set1_ps(h * d[b]), less = _mm256_set1_ps(type.is_unsigned ? h * m[b] : 0);
    uint8_t q[32];
    _mm256_storeu_si256((__m256i *)q, w->q[b]);
    for (uint32_t i = 0; i < 32; i += 8) {
        __m128i bytes = _mm_loadl_epi64((const __m128i *)(q + i));
        __m256i v = type.is_unsigned ? _mm256_cvtepu8_epi32(bytes) : _mm256_cvtepi8_epi32(bytes);
        if (type.has_sub)
            v = _mm256_mullo_epi32(v, _mm256_set1_epi32(sub[b / 4 * 8 + i / 16 * 4 + b % 4]));
        __m256 t = _mm256_mul_ps(scale, _mm256_cvtepi32_ps(v));
        if (type.is_unsigned)
            t = _mm256_sub_ps(t, less);
        _mm256_storeu_ps(y + i, _mm256_add_ps(_mm256_loadu_ps(y + i), t));
    }
}

STK_INLINE void down_t(blocks_of type, const stk_matrix *w, const stk_neurons *n, uint32_t begin,
                       uint32_t end, float *y)
{
    uint32_t blocks = w->cols / 32;
    for (uint32_t a = n->first[begin]; a < n->first[end]; a++) {
        const uint8_t *row = stk_matrix_row(w, n->active[a]);
        for (uint32_t b = 0; b < blocks; b += 8) {
            uint32_t count = type.is_super || blocks - b >= 8 ? 8 : blocks - b;
            eight_blocks eight;
            float d[8], m[8];
            int32_t sub[16];
            type.load(row + blocks_at(type, b), count, &eight);
            _mm256_storeu_ps(d, eight.d);
            if (type.is_unsigned)
                _mm256_storeu_ps(m, eight.m);
            for (int i = 0; type.has_sub && i < 2; i++)
                _mm256_storeu_si256((__m256i *)(sub + 8 * i), eight.sub[i]);
            for (uint32_t i = 0; i < count; i++)
                add_block(type, &eight, i, d, m, sub, n->h[n->active[a]], y + 32 * (b + i));
        }
    }
}

// The kernels of one type.
#define STK_ROWS_OF(name, ...)                                                                     \
    static const blocks_of name = {load_##name, __VA_ARGS__};                                      \
    void stk_matmul_rows_##name##_avx2(const stk_matrix *w, uint32_t row_begin, uint32_t row_end,  \
                                       const stk_act *acts, uint32_t count, float *y,              \
                                       size_t y_stride)                                            \
    {                                                                                              \
        matmul(name, w, row_begin, row_end, acts, count, y, y_stride);                             \
    }                                                                                              \
    void stk_gather_rows_##name##_avx2(const stk_matrix *w, const uint32_t *rows, uint32_t count,  \
                                       const stk_act *act, float *y)                               \
    {                                                                                              \
        gather(name, w, rows, count, act, y);                                                      \
    }                                                                                              \
    void stk_down_outputs_##name##_avx2(const stk_matrix *w, const stk_neurons *n, uint32_t begin, \
                                        uint32_t end, float *y)                                    \
    {                                                                                              \
        down(name, w, n, begin, end, y);                                                           \
    }                                                                                              \
    int stk_down_rows_##name##_avx2(const stk_matrix *w, const stk_act *h, uint32_t count,         \
                                    float *const *y)                                               \
    {                                                                                              \
        return down_rows(name, w, h, count, y);                                                    \
    }                                                                                              \
    void stk_down_neurons_##name##_avx2(const stk_matrix *w, const stk_neurons *n, uint32_t begin, \
                                        uint32_t end, float *y)                                    \
    {                                                                                              \
        down_t(name, w, n, begin, end, y);                                                         \
    }

STK_ROWS_OF(q4_0, .bytes = 18)
STK_ROWS_OF(q4_1, .bytes = 20, .is_unsigned = true)
STK_ROWS_OF(q5_0, .bytes = 22)
STK_ROWS_OF(q5_1, .bytes = 24, .is_unsigned = true)
STK_ROWS_OF(q8_0, .bytes = 34, .is_wide = true)
STK_ROWS_OF(iq4_nl, .bytes = 18, .is_wide = true)
STK_ROWS_OF(mxfp4, .bytes = 17)
STK_ROWS_OF(q3_k, .bytes = 110, .is_super = true, .has_sub = true)
STK_ROWS_OF(q4_k, .bytes = 144, .is_super = true, .is_unsigned = true)
STK_ROWS_OF(q5_k, .bytes = 176, .is_super = true, .is_unsigned = true)
STK_ROWS_OF(q6_k, .bytes = 210, .is_super = true, .has_sub = true)
