// cpu/x86/panel.h: LANES outputs by many tokens, one block of 32 values at a time.
//
// A block is unpacked once for all tokens of a panel, and the law's
// accumulators of all tokens lie in memory, so that blocks are taken in the order in which they are
// stored. Scaling what the integers sum up to is a third of the work.
#ifndef STK_CPU_X86_PANEL_H
#define STK_CPU_X86_PANEL_H

#include "cpu/cpu.h"
#include "cpu/x86/x8.h"

// A panel takes up to PANEL_TOKENS_MAX tokens, fewer of long rows: PANEL_BLOCKS_MAX blocks in all.
enum { PANEL_TOKENS_MAX = 32, PANEL_BLOCKS_MAX = 8192 };

// What a token brings to a block's term besides its values.
typedef struct panel_scale {
    float d;
    int32_t bias; // to be added to the integer sum: what unsigned weights made it too large by
} panel_scale;

typedef struct panel {
    const int8_t *q[PANEL_TOKENS_MAX];
    panel_scale scales[PANEL_BLOCKS_MAX]; // [block][count]
    uint32_t count;
} panel;

// How many tokens of so many blocks fit; 0: not even one.
static inline uint32_t panel_tokens_max(uint32_t blocks)
{
    uint32_t fit = PANEL_BLOCKS_MAX / blocks;
    return fit < PANEL_TOKENS_MAX ? fit : PANEL_TOKENS_MAX;
}

// `bias`: what the weights' unsigned form adds to a value.
static inline void panel_load(const stk_act *acts, uint32_t count, uint32_t blocks, int32_t bias,
                              panel *x)
{
    x->count = count;
    for (uint32_t t = 0; t < count; t++) {
        x->q[t] = acts[t].q;
        for (uint32_t b = 0; b < blocks; b++)
            x->scales[b * count + t] = (panel_scale){acts[t].d[b], -bias * acts[t].sum[b]};
    }
}

// start + the integer sums of a block.
typedef __m256i (*dot_fn)(const __m256i w[8], const int8_t *q, __m256i start);

// a[token][LANES] += the block's terms; `stride` in floats.
static inline __attribute__((always_inline)) void panel_add_block(const __m256i w[8], __m256 dw,
                                                                  dot_fn dot, const panel *x,
                                                                  uint32_t block, float *a,
                                                                  size_t stride)
{
    const panel_scale *scale = x->scales + (size_t)block * x->count;
    for (uint32_t t = 0; t < x->count; t++, scale++, a += stride) {
        __m256i sum = dot(w, x->q[t] + 32 * (size_t)block, _mm256_set1_epi32(scale->bias));
        __m256 term = _mm256_mul_ps(_mm256_cvtepi32_ps(sum),
                                    _mm256_mul_ps(dw, _mm256_set1_ps(scale->d)));
        _mm256_storeu_ps(a, _mm256_add_ps(_mm256_load_ps(a), term));
    }
}

#endif
