// cpu/x86/down_panel.h: an expert's down product for many tokens: every neuron, active or not.
//
// Included after a dot_*.h. In a prompt most neurons are active for some token: nibbles are
// unpacked once for all tokens of a panel (panel.h); a neuron that is not active has q = 0 and adds
// nothing.
#include "cpu/x86/panel.h"
#include "cpu/x86/x86.h"

#include <string.h>

enum { OUTPUTS = 128, SETS = OUTPUTS / LANES, SETS_16 = 16 / LANES, TOKENS_MIN = 4 };

// Neurons 4*quad..4*quad+3 of a group for OUTPUTS outputs: w[set][quad], where set s is outputs
// LANES*s.. of them.
static inline void unpack_quad(const uint8_t *run, size_t run_bytes, uint32_t quad, __m256i (*w)[8])
{
    for (uint32_t set = 0; set < SETS_16; set++, run += 4 * LANES) {
        __m256i n[4];
        for (size_t i = 0; i < 4; i++)
            n[i] = load32(run + i * run_bytes);
        __m256i a = _mm256_unpacklo_epi8(n[0], n[1]), b = _mm256_unpacklo_epi8(n[2], n[3]);
        __m256i c = _mm256_unpackhi_epi8(n[0], n[1]), d = _mm256_unpackhi_epi8(n[2], n[3]);
        __m256i every16[4] = {_mm256_unpacklo_epi16(a, b), _mm256_unpackhi_epi16(a, b),
                              _mm256_unpacklo_epi16(c, d), _mm256_unpackhi_epi16(c, d)};
        for (uint32_t k = 0; k < 4; k++) {
            w[SETS_16 * k + set][quad] = low_nibbles(every16[k]);
            w[SETS_16 * (4 + k) + set][quad] = high_nibbles(every16[k]);
        }
    }
}

// Groups [begin, end), one part, for outputs [output, output+OUTPUTS): p[token][OUTPUTS].
static inline void sum_part(const stk_matrix *down, const stk_bundle *b, const panel *x,
                            uint32_t output, uint32_t begin, uint32_t end, float *p)
{
    memset(p, 0, (size_t)x->count * OUTPUTS * sizeof *p);
    for (uint32_t g = begin; g < end; g++) {
        const uint8_t *base = (const uint8_t *)down->data + (size_t)g * b->group_bytes;
        const uint8_t *run = base + b->scales_bytes + b->up_bytes + output / 2;
        const uint8_t *scales = base + 2 * (size_t)output;
        __m256i w[SETS][8];
        for (uint32_t quad = 0; quad < 8; quad++, run += 4 * (size_t)b->run_bytes)
            unpack_quad(run, b->run_bytes, quad, w);
        for (uint32_t s = 0; s < SETS; s++) {
            __m256i set[8];
            memcpy(set, w[s], sizeof set);
            panel_add_block(set, load_halves(scales + 2 * LANES * s), dot_nibbles, x, g,
                            p + LANES * s, OUTPUTS);
        }
    }
}

static inline void store_outputs(const panel *x, float (*p)[PANEL_TOKENS_MAX * OUTPUTS],
                                 uint32_t output, float *const *y)
{
    for (uint32_t t = 0; t < x->count; t++)
        for (uint32_t o = 0; o < OUTPUTS; o += LANES) {
            size_t at = (size_t)t * OUTPUTS + o;
            __m256 even = _mm256_add_ps(_mm256_load_ps(&p[0][at]), _mm256_load_ps(&p[2][at]));
            __m256 odd = _mm256_add_ps(_mm256_load_ps(&p[1][at]), _mm256_load_ps(&p[3][at]));
            _mm256_storeu_ps(y[t] + output + o, _mm256_add_ps(even, odd));
        }
}

// As stk_down_rows_fn says, for BUNDLE_DOWN.
static inline int down_rows(const stk_matrix *down, const stk_act *h, uint32_t count,
                            float *const *y)
{
    stk_bundle b = stk_bundle_of(down->rows, down->cols, 0);
    uint32_t groups = down->cols / 32, most = panel_tokens_max(groups);
    if (count < TOKENS_MIN || most < TOKENS_MIN)
        return 0;
    _Alignas(64) float p[STK_EXPERT_PARTS][PANEL_TOKENS_MAX * OUTPUTS];
    for (uint32_t at = 0; at < count; at += most) {
        panel x;
        panel_load(h + at, count - at < most ? count - at : most, groups, 8, &x);
        for (uint32_t output = 0; output < down->rows; output += OUTPUTS) {
            for (uint32_t part = 0; part < STK_EXPERT_PARTS; part++)
                sum_part(down, &b, &x, output, groups * part / STK_EXPERT_PARTS,
                         groups * (part + 1) / STK_EXPERT_PARTS, p[part]);
            store_outputs(&x, p, output, y + at);
        }
    }
    return 1;
}
