// cpu/x86/amx.h: the tile instructions of Intel AMX, as one block of 32 values uses them.
//
// Written as assembly because the intrinsics of GCC 12 tell the compiler that a tile configuration
// has 8 bytes, and nothing of the memory that tile loads and stores touch. Shape in use: a product
// of [rows tokens][32 values] by [32 values][16 outputs], whose integer sums are exact.
#ifndef STK_CPU_X86_AMX_H
#define STK_CPU_X86_AMX_H

#include "cpu/cpu.h"

#include <immintrin.h>
#include <string.h>

// Tiles 0-3 hold sums [rows][16] of int32, 4 and 5 tokens [rows][32] of int8, 6 and 7 weights
// [8][64]: byte 4r+i of row k is value 4k+i of output r.
enum { AMX_ROWS_MAX = 16, AMX_SUMS_BYTES = 1024, AMX_WEIGHTS_BYTES = 512 };

static inline void amx_begin(uint32_t rows)
{
    struct {
        uint8_t palette, start_row, reserved[14];
        uint16_t row_bytes[16];
        uint8_t rows[16];
    } config;
    memset(&config, 0, sizeof config);
    config.palette = 1;
    for (int i = 0; i < 8; i++) {
        config.row_bytes[i] = i == 4 || i == 5 ? 32 : 64;
        config.rows[i] = i >= 6 ? 8 : (uint8_t)rows;
    }
    __asm__ volatile("ldtilecfg %0" ::"m"(config));
}

// Back to the state that costs nothing on a context switch.
static inline void amx_end(void)
{
    __asm__ volatile("tilerelease");
}

// sums[rows][16] = x[rows][32] . w: one block. C, A and B are tile numbers, so that neighbouring
// products overlap.
#define AMX_PRODUCT(C, A, B, x, x_stride, w, sums)                                                 \
    __asm__ volatile("tilezero %%tmm" #C "\n\t"                                                    \
                     "tileloadd (%0,%1,1), %%tmm" #A "\n\t"                                        \
                     "tileloadd (%2,%3,1), %%tmm" #B "\n\t"                                        \
                     "tdpbssd %%tmm" #B ", %%tmm" #A ", %%tmm" #C "\n\t"                           \
                     "tilestored %%tmm" #C ", (%4,%3,1)" ::"r"(x),                                 \
                     "r"((size_t)(x_stride)), "r"(w), "r"((size_t)64), "r"(sums)                   \
                     : "memory")

// Tokens at equal distances, in `tiles` tiles of tile_rows, a multiple of 4. The last tile ends
// with the last token, so it may repeat some of the one before.
typedef struct amx_panel {
    const int8_t *q;
    const float *d;
    size_t q_stride, d_stride; // bytes, floats
    uint32_t count, tiles, tile_rows;
} amx_panel;

// Up to AMX_CHUNK_MAX blocks of 16 outputs as the tiles want them: blocks first, first+step, ...
enum { AMX_CHUNK_MAX = 8, AMX_TOKENS_MIN = 4 };
typedef struct amx_chunk {
    _Alignas(64) int8_t weights[AMX_CHUNK_MAX][AMX_WEIGHTS_BYTES];
    __m512 scales[AMX_CHUNK_MAX];
    uint32_t first, step, count;
} amx_chunk;
typedef int32_t amx_sums[AMX_CHUNK_MAX][AMX_SUMS_BYTES / 4]; // [block][token][16]

static inline int amx_suits(const stk_act *acts, uint32_t count)
{
    for (uint32_t i = 2; i < count; i++)
        if (acts[i].q - acts[i - 1].q != acts[1].q - acts[0].q ||
            acts[i].d - acts[i - 1].d != acts[1].d - acts[0].d)
            return 0;
    return count >= AMX_TOKENS_MIN;
}

static inline amx_panel amx_panel_of(const stk_act *acts, uint32_t count)
{
    uint32_t tiles = (count + AMX_ROWS_MAX - 1) / AMX_ROWS_MAX, rows;
    while ((rows = ((count + tiles - 1) / tiles + 3) / 4 * 4) > count)
        tiles++;
    return (amx_panel){.q = acts[0].q,
                       .d = acts[0].d,
                       .q_stride = (size_t)(acts[1].q - acts[0].q),
                       .d_stride = (size_t)(acts[1].d - acts[0].d),
                       .count = count,
                       .tiles = tiles,
                       .tile_rows = rows};
}

static inline uint32_t amx_first_token(const amx_panel *x, uint32_t tile)
{
    uint32_t last = x->count - x->tile_rows;
    return tile * x->tile_rows < last ? tile * x->tile_rows : last;
}

// The integer sums of a chunk's blocks for one tile of tokens.
static inline void amx_multiply(const amx_chunk *c, const amx_panel *x, uint32_t tile,
                                amx_sums sums)
{
    const int8_t *q = x->q + amx_first_token(x, tile) * x->q_stride + 32 * (size_t)c->first;
    size_t step = 32 * (size_t)c->step;
    for (uint32_t i = 0; i < c->count; i += 4, q += 4 * step) {
        AMX_PRODUCT(0, 4, 6, q, x->q_stride, c->weights[i], sums[i]);
        if (i + 1 < c->count)
            AMX_PRODUCT(1, 5, 7, q + step, x->q_stride, c->weights[i + 1], sums[i + 1]);
        if (i + 2 < c->count)
            AMX_PRODUCT(2, 4, 6, q + 2 * step, x->q_stride, c->weights[i + 2], sums[i + 2]);
        if (i + 3 < c->count)
            AMX_PRODUCT(3, 5, 7, q + 3 * step, x->q_stride, c->weights[i + 3], sums[i + 3]);
    }
}

// Adds (or, if is_first, writes) a chunk's terms to an accumulator a[tile_rows][16] of the law.
static inline void amx_add_terms(const amx_chunk *c, const amx_panel *x, uint32_t tile,
                                 amx_sums sums, int is_first, float *a)
{
    for (uint32_t t = 0; t < x->tile_rows; t += 4) {
        __m512 s[4];
        const float *d = x->d + (amx_first_token(x, tile) + t) * x->d_stride + c->first;
        for (int k = 0; k < 4; k++)
            s[k] = is_first ? _mm512_setzero_ps() : _mm512_load_ps(a + 16 * (t + (uint32_t)k));
        for (uint32_t i = 0; i < c->count; i++, d += c->step)
            for (int k = 0; k < 4; k++) {
                __m512i isum = _mm512_load_si512(&sums[i][16 * (t + (uint32_t)k)]);
                __m512 scale = _mm512_mul_ps(c->scales[i],
                                             _mm512_set1_ps(d[(size_t)k * x->d_stride]));
                s[k] = _mm512_add_ps(s[k], _mm512_mul_ps(_mm512_cvtepi32_ps(isum), scale));
            }
        for (int k = 0; k < 4; k++)
            _mm512_store_ps(a + 16 * (t + (uint32_t)k), s[k]);
    }
}

#endif
