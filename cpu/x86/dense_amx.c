// Dense products of many tokens, AMX int8 tiles: sixteen rows by up to sixteen tokens at once.
//
// A tile product over one block of 32 values gives the exact integer sums that section 2 of
// docs/arithmetic.md wants; scaling and summing them in floats is most of the work. Weights are
// unpacked once for up to TOKENS tokens. Few tokens, or tokens that do not lie at equal distances,
// are left to the AVX-512 kernels.
#include "cpu/x86/amx.h"
#include "cpu/x86/bundle_x16.h"
#include "cpu/x86/x86.h"

#include <immintrin.h>

enum { ROWS = 16, TOKENS = 64, TOKENS_MIN = 4, CHUNK = 8 };

typedef struct block_type {
    uint32_t values_bytes; // of one block, 16 rows
    int is_q4;
} block_type;

static const block_type q4_0 = {256, 1}, q8_0 = {512, 0};

// At most TOKENS tokens at equal distances, in `tiles` tiles of tile_rows, a multiple of 4. The
// last tile ends with the last token, so it may repeat some of the one before.
typedef struct panel {
    const int8_t *q;
    const float *d;
    size_t q_stride, d_stride; // bytes, floats
    uint32_t count, tiles, tile_rows;
} panel;

// Blocks a, a+8, ... of 16 rows, at most CHUNK of them, as the tiles want them.
typedef struct chunk {
    _Alignas(64) int8_t weights[CHUNK][AMX_WEIGHTS_BYTES];
    __m512 scales[CHUNK];
    uint32_t first, count; // block of weights[0]; blocks
} chunk;

static int equally_spaced(const stk_act *acts, uint32_t count)
{
    for (uint32_t i = 2; i < count; i++)
        if (acts[i].q - acts[i - 1].q != acts[1].q - acts[0].q ||
            acts[i].d - acts[i - 1].d != acts[1].d - acts[0].d)
            return 0;
    return 1;
}

static panel panel_of(const stk_act *acts, uint32_t count)
{
    uint32_t tiles = (count + AMX_ROWS_MAX - 1) / AMX_ROWS_MAX, rows;
    while ((rows = ((count + tiles - 1) / tiles + 3) / 4 * 4) > count)
        tiles++;
    return (panel){acts[0].q,
                   acts[0].d,
                   (size_t)(acts[1].q - acts[0].q),
                   (size_t)(acts[1].d - acts[0].d),
                   count,
                   tiles,
                   rows};
}

static inline uint32_t first_token(const panel *x, uint32_t tile)
{
    uint32_t last = x->count - x->tile_rows;
    return tile * x->tile_rows < last ? tile * x->tile_rows : last;
}

static inline void unpack(const uint8_t *values, const block_type *t, int8_t *to)
{
    if (!t->is_q4) {
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

static void load_chunk(const uint8_t *group, const block_type *t, uint32_t blocks, uint32_t first,
                       chunk *c)
{
    c->first = first;
    c->count = 0;
    for (uint32_t b = first; b < blocks && c->count < CHUNK; b += 8, c->count++) {
        const uint8_t *pair = group + (size_t)(b / 2) * (64 + 2 * t->values_bytes);
        unpack(pair + 64 + (b & 1) * t->values_bytes, t, c->weights[c->count]);
        c->scales[c->count] = _mm512_cvtph_ps(
            _mm256_load_si256((const __m256i *)(pair + 32 * (b & 1))));
    }
}

// The integer sums of a chunk's blocks for one tile of tokens.
static inline void multiply_chunk(const chunk *c, const panel *x, uint32_t token,
                                  int32_t sums[CHUNK][AMX_SUMS_BYTES / 4])
{
    const int8_t *q = x->q + token * x->q_stride + 32 * (size_t)c->first;
    for (uint32_t i = 0; i < c->count; i += 4) {
        AMX_PRODUCT(0, 4, 6, q + 256 * (size_t)i, x->q_stride, c->weights[i], sums[i]);
        if (i + 1 < c->count)
            AMX_PRODUCT(1, 5, 7, q + 256 * (size_t)(i + 1), x->q_stride, c->weights[i + 1],
                        sums[i + 1]);
        if (i + 2 < c->count)
            AMX_PRODUCT(2, 4, 6, q + 256 * (size_t)(i + 2), x->q_stride, c->weights[i + 2],
                        sums[i + 2]);
        if (i + 3 < c->count)
            AMX_PRODUCT(3, 5, 7, q + 256 * (size_t)(i + 3), x->q_stride, c->weights[i + 3],
                        sums[i + 3]);
    }
}

// Adds a chunk's terms to one of the law's eight accumulators, a[tile_rows][16].
static inline void add_terms(const chunk *c, const panel *x, uint32_t token,
                             int32_t sums[CHUNK][AMX_SUMS_BYTES / 4], int is_first, float *a)
{
    for (uint32_t t = 0; t < x->tile_rows; t += 4) {
        __m512 s[4];
        const float *d = x->d + (token + t) * x->d_stride + c->first;
        for (int k = 0; k < 4; k++)
            s[k] = is_first ? _mm512_setzero_ps() : _mm512_load_ps(a + 16 * (t + k));
        for (uint32_t i = 0; i < c->count; i++)
            for (int k = 0; k < 4; k++) {
                __m512 isum = _mm512_cvtepi32_ps(_mm512_load_si512(&sums[i][16 * (t + k)]));
                __m512 scale = _mm512_mul_ps(c->scales[i],
                                             _mm512_set1_ps(d[k * x->d_stride + 8 * i]));
                s[k] = _mm512_add_ps(s[k], _mm512_mul_ps(isum, scale));
            }
        for (int k = 0; k < 4; k++)
            _mm512_store_ps(a + 16 * (t + k), s[k]);
    }
}

// y[token][16] = the halving tree of the eight accumulators.
static inline void add_up(const panel *x, float a[8][TOKENS * 16], float *y, size_t y_stride)
{
    for (uint32_t tile = 0; tile < x->tiles; tile++)
        for (uint32_t t = 0; t < x->tile_rows; t++) {
            __m512 s[8];
            for (int k = 0; k < 8; k++)
                s[k] = _mm512_load_ps(a[k] + 16 * (tile * x->tile_rows + t));
            for (int n = 4; n >= 1; n /= 2)
                for (int k = 0; k < n; k++)
                    s[k] = _mm512_add_ps(s[k], s[k + n]);
            _mm512_storeu_ps(y + (first_token(x, tile) + t) * y_stride, s[0]);
        }
}

// Sixteen rows with every token of the panel.
static void multiply_group(const uint8_t *group, const block_type *t, uint32_t blocks,
                           const panel *x, float *y, size_t y_stride)
{
    _Alignas(64) float a[8][TOKENS * 16];
    _Alignas(64) int32_t sums[2][CHUNK][AMX_SUMS_BYTES / 4];
    chunk c[2];
    // Two accumulators at a time: their blocks share the tokens' cache lines.
    for (uint32_t even = 0; even < 8; even += 2)
        for (uint32_t at = even; at == even || at < blocks; at += 8 * CHUNK) {
            load_chunk(group, t, blocks, at, &c[0]);
            load_chunk(group, t, blocks, at + 1, &c[1]);
            // Sums are scaled one step after they are computed: the two overlap.
            for (uint32_t step = 0; step <= 2 * x->tiles; step++) {
                if (step < 2 * x->tiles)
                    multiply_chunk(&c[step & 1], x, first_token(x, step / 2), sums[step & 1]);
                if (step > 0)
                    add_terms(&c[(step - 1) & 1], x, first_token(x, (step - 1) / 2),
                              sums[(step - 1) & 1], at == even,
                              a[even + ((step - 1) & 1)] + 16 * ((step - 1) / 2) * x->tile_rows);
            }
        }
    add_up(x, a, y, y_stride);
}

// Rows [row, row+16) in X16 form, from a bundle by way of `buffer`.
static inline const uint8_t *group_at(const stk_matrix *w, const block_type *t, uint32_t row,
                                      uint8_t *buffer)
{
    if (w->format == STK_FORMAT_X16)
        return (const uint8_t *)w->data +
               (size_t)(row / ROWS) * ((w->cols / 32 + 1) / 2) * (64 + 2 * t->values_bytes);
    bundle_x16(w, row, buffer);
    return buffer;
}

static void matmul(const stk_matrix *w, const block_type *t, uint32_t row_begin, uint32_t row_end,
                   const stk_act *acts, uint32_t count, float *y, size_t y_stride, uint8_t *buffer)
{
    uint32_t passes = (count + TOKENS - 1) / TOKENS, per_pass = (count + passes - 1) / passes;
    for (uint32_t at = 0; at < count; at += per_pass) {
        panel x = panel_of(acts + at, count - at < per_pass ? count - at : per_pass);
        amx_begin(x.tile_rows);
        for (uint32_t row = row_begin; row < row_end; row += ROWS)
            multiply_group(group_at(w, t, row, buffer), t, w->cols / 32, &x,
                           y + at * y_stride + row - row_begin, y_stride);
    }
    amx_end();
}

static int suits_tiles(const stk_act *acts, uint32_t count)
{
    return count >= TOKENS_MIN && equally_spaced(acts, count);
}

void stk_matmul_x16_q4_0_amx(const stk_matrix *w, uint32_t row_begin, uint32_t row_end,
                             const stk_act *acts, uint32_t count, float *y, size_t y_stride)
{
    if (suits_tiles(acts, count))
        matmul(w, &q4_0, row_begin, row_end, acts, count, y, y_stride, NULL);
    else
        stk_matmul_x16_q4_0_avx512(w, row_begin, row_end, acts, count, y, y_stride);
}

void stk_matmul_x16_q8_0_amx(const stk_matrix *w, uint32_t row_begin, uint32_t row_end,
                             const stk_act *acts, uint32_t count, float *y, size_t y_stride)
{
    if (suits_tiles(acts, count))
        matmul(w, &q8_0, row_begin, row_end, acts, count, y, y_stride, NULL);
    else
        stk_matmul_x16_q8_0_avx512(w, row_begin, row_end, acts, count, y, y_stride);
}

void stk_matmul_bundle_q4_0_amx(const stk_matrix *w, uint32_t row_begin, uint32_t row_end,
                                const stk_act *acts, uint32_t count, float *y, size_t y_stride)
{
    _Alignas(64) uint8_t buffer[BUNDLE_X16_BYTES_MAX];
    if (w->cols <= BUNDLE_X16_COLS_MAX && suits_tiles(acts, count))
        matmul(w, &q4_0, row_begin, row_end, acts, count, y, y_stride, buffer);
    else
        stk_matmul_bundle_q4_0_avx512(w, row_begin, row_end, acts, count, y, y_stride);
}
