// Dense products of many tokens, AMX int8 tiles: sixteen rows by up to sixteen tokens at once.
//
// A tile product over one block of 32 values gives the exact integer sums that section 2 of
// docs/arithmetic.md wants; scaling and summing them in floats is most of the work. Weights are
// unpacked once for up to TOKENS tokens. Few tokens, or tokens that do not lie at equal distances,
// are left to the AVX-512 kernels.
#include "cpu/x86/amx.h"
#include "cpu/x86/x16.h"
#include "cpu/x86/x86.h"

#include <immintrin.h>

enum { TOKENS = 64 };

static inline void unpack(const uint8_t *values, const x16_type *t, int8_t *to)
{
    if (t->bias != 8) {
        memcpy(to, values, AMX_WEIGHTS_BYTES);
        return;
    }
    const __m512i low = _mm512_set1_epi8(15), bias = _mm512_set1_epi8(8);
    for (int c = 0; c < 4; c++) {
        __m512i raw = _mm512_load_si512(values + 64 * c);
        __m512i lo = _mm512_and_si512(raw, low);
        __m512i hi = _mm512_and_si512(_mm512_srli_epi16(raw, 4), low);
        _mm512_store_si512(to + 64 * c, _mm512_sub_epi8(lo, bias));
        _mm512_store_si512(to + 256 + 64 * c, _mm512_sub_epi8(hi, bias));
    }
}

static void load_chunk(const uint8_t *group, const x16_type *t, uint32_t blocks, uint32_t first,
                       amx_chunk *c)
{
    c->first = first;
    c->step = 8;
    c->count = 0;
    for (uint32_t b = first; b < blocks && c->count < AMX_CHUNK_MAX; b += 8, c->count++) {
        const uint8_t *pair = x16_pair(group, t, b);
        unpack(x16_values(pair, t, b), t, c->weights[c->count]);
        c->scales[c->count] = _mm512_cvtph_ps(
            _mm256_load_si256((const __m256i *)x16_scales(pair, b)));
    }
}

// y[token][16] = the halving tree of the eight accumulators.
static inline void add_up(const amx_panel *x, float a[8][TOKENS * 16], float *y, size_t y_stride)
{
    for (uint32_t tile = 0; tile < x->tiles; tile++)
        for (uint32_t t = 0; t < x->tile_rows; t++) {
            __m512 s[8];
            for (int k = 0; k < 8; k++)
                s[k] = _mm512_load_ps(a[k] + 16 * (tile * x->tile_rows + t));
            for (int n = 4; n >= 1; n /= 2)
                for (int k = 0; k < n; k++)
                    s[k] = _mm512_add_ps(s[k], s[k + n]);
            _mm512_storeu_ps(y + (amx_first_token(x, tile) + t) * y_stride, s[0]);
        }
}

// Sixteen rows with every token of the panel.
static void multiply_group(const uint8_t *group, const x16_type *t, uint32_t blocks,
                           const amx_panel *x, float *y, size_t y_stride)
{
    _Alignas(64) float a[8][TOKENS * 16];
    _Alignas(64) amx_sums sums[2];
    amx_chunk c[2];
    // Two accumulators at a time: their blocks share the tokens' cache lines.
    for (uint32_t even = 0; even < 8; even += 2)
        for (uint32_t at = even; at == even || at < blocks; at += 8 * AMX_CHUNK_MAX) {
            load_chunk(group, t, blocks, at, &c[0]);
            load_chunk(group, t, blocks, at + 1, &c[1]);
            // Sums are scaled one step after they are computed: the two overlap.
            for (uint32_t step = 0; step <= 2 * x->tiles; step++) {
                uint32_t last = step - 1;
                if (step < 2 * x->tiles)
                    amx_multiply(&c[step & 1], x, step / 2, sums[step & 1]);
                if (step > 0)
                    amx_add_terms(&c[last & 1], x, last / 2, sums[last & 1], at == even,
                                  a[even + (last & 1)] + 16 * (last / 2) * x->tile_rows);
            }
        }
    add_up(x, a, y, y_stride);
}

static void matmul(const stk_matrix *w, const x16_type *t, uint32_t row_begin, uint32_t row_end,
                   const stk_act *acts, uint32_t count, float *y, size_t y_stride, uint8_t *buffer)
{
    uint32_t passes = (count + TOKENS - 1) / TOKENS, per_pass = (count + passes - 1) / passes;
    for (uint32_t at = 0; at < count; at += per_pass) {
        uint32_t end = count - at < per_pass ? count : at + per_pass;
        uint32_t from = end - at < AMX_TOKENS_MIN ? end - AMX_TOKENS_MIN : at; // repeats a few
        amx_panel x = amx_panel_of(acts + from, end - from);
        amx_begin(x.tile_rows);
        for (uint32_t row = row_begin; row < row_end; row += X16_ROWS)
            multiply_group(x16_group(w, t, row, buffer), t, w->cols / 32, &x,
                           y + from * y_stride + row - row_begin, y_stride);
    }
    amx_end();
}

void stk_matmul_x16_q4_0_amx(const stk_matrix *w, uint32_t row_begin, uint32_t row_end,
                             const stk_act *acts, uint32_t count, float *y, size_t y_stride)
{
    if (amx_suits(acts, count))
        matmul(w, &x16_q4_0, row_begin, row_end, acts, count, y, y_stride, NULL);
    else
        stk_matmul_x16_q4_0_avx512(w, row_begin, row_end, acts, count, y, y_stride);
}

void stk_matmul_x16_q8_0_amx(const stk_matrix *w, uint32_t row_begin, uint32_t row_end,
                             const stk_act *acts, uint32_t count, float *y, size_t y_stride)
{
    if (amx_suits(acts, count))
        matmul(w, &x16_q8_0, row_begin, row_end, acts, count, y, y_stride, NULL);
    else
        stk_matmul_x16_q8_0_avx512(w, row_begin, row_end, acts, count, y, y_stride);
}

void stk_matmul_bundle_q4_0_amx(const stk_matrix *w, uint32_t row_begin, uint32_t row_end,
                                const stk_act *acts, uint32_t count, float *y, size_t y_stride)
{
    _Alignas(64) uint8_t buffer[BUNDLE_X16_BYTES_MAX];
    if (w->cols <= BUNDLE_X16_COLS_MAX && amx_suits(acts, count))
        matmul(w, &x16_q4_0, row_begin, row_end, acts, count, y, y_stride, buffer);
    else
        stk_matmul_bundle_q4_0_avx512(w, row_begin, row_end, acts, count, y, y_stride);
}
