// Products with weights as the file holds them, AVX2: K-quants and the other block-quantised types
// that have no layout of their own.
#include "cpu/x86/blocks_avx2.h"
#include "cpu/no_lanes.h"
#include "cpu/rows_panel.h"
#include "cpu/x86/x86.h"

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

// Where down rows are neurons.
#define STK_NEURONS_OF(name)                                                                       \
    void stk_down_neurons_##name##_avx2(const stk_matrix *w, const stk_neurons *n, uint32_t begin, \
                                        uint32_t end, float *y)                                    \
    {                                                                                              \
        down_t(name, w, n, begin, end, y);                                                         \
    }

STK_ROWS_OF(q4_0, avx2, .bytes = 18)
STK_NEURONS_OF(q4_0)
STK_ROWS_OF(q4_1, avx2, .bytes = 20, .is_unsigned = true)
STK_NEURONS_OF(q4_1)
STK_ROWS_OF(q5_0, avx2, .bytes = 22)
STK_NEURONS_OF(q5_0)
STK_ROWS_OF(q5_1, avx2, .bytes = 24, .is_unsigned = true)
STK_NEURONS_OF(q5_1)
STK_ROWS_OF(q8_0, avx2, .bytes = 34, .is_wide = true)
STK_NEURONS_OF(q8_0)
STK_ROWS_OF(iq4_nl, avx2, .bytes = 18, .is_wide = true)
STK_NEURONS_OF(iq4_nl)
STK_ROWS_OF(iq4_xs, avx2, .bytes = 136, .is_super = true, .is_wide = true)
STK_NEURONS_OF(iq4_xs)
STK_ROWS_OF(mxfp4, avx2, .bytes = 17)
STK_NEURONS_OF(mxfp4)
STK_ROWS_OF(q3_k, avx2, .bytes = 110, .is_super = true, .has_sub = true)
STK_NEURONS_OF(q3_k)
STK_ROWS_OF(q4_k, avx2, .bytes = 144, .is_super = true, .is_unsigned = true)
STK_NEURONS_OF(q4_k)
STK_ROWS_OF(q5_k, avx2, .bytes = 176, .is_super = true, .is_unsigned = true)
STK_NEURONS_OF(q5_k)
STK_ROWS_OF(q6_k, avx2, .bytes = 210, .is_super = true, .has_sub = true)
STK_NEURONS_OF(q6_k)
