// An expert's down product for many tokens, AMX int8 tiles: every neuron, active or not.
//
// In a prompt most neurons are active for some token. Nibbles are unpacked once for all of them; a
// neuron that is not active has q = 0 and adds nothing.
#include "cpu/x86/amx.h"
#include "cpu/x86/x86.h"

enum { OUTPUTS = 128, SETS = OUTPUTS / 16, TOKENS = 32 };

// Groups [group, group+count) of a chunk of 128 outputs, as eight sets of 16 outputs.
static void load_groups(const stk_matrix *down, const stk_bundle *b, uint32_t output,
                        uint32_t group, uint32_t count, amx_chunk sets[SETS])
{
    const __m512i low = _mm512_set1_epi8(15), bias = _mm512_set1_epi8(8);
    for (uint32_t s = 0; s < SETS; s++) {
        sets[s].first = group;
        sets[s].step = 1;
        sets[s].count = count;
    }
    for (uint32_t g = 0; g < count; g++) {
        const uint8_t *base = (const uint8_t *)down->data + (size_t)(group + g) * b->group_bytes;
        const uint8_t *run = base + b->scales_bytes + b->up_bytes + output / 2;
        for (uint32_t s = 0; s < SETS; s++)
            sets[s].scales[g] = _mm512_cvtph_ps(
                _mm256_loadu_si256((const __m256i *)(base + 2 * (size_t)output + 32 * (size_t)s)));
        for (uint32_t quad = 0; quad < 8; quad++, run += 4 * (size_t)b->run_bytes) {
            __m512i n0 = _mm512_loadu_si512(run), n1 = _mm512_loadu_si512(run + b->run_bytes);
            __m512i n2 = _mm512_loadu_si512(run + 2 * (size_t)b->run_bytes);
            __m512i n3 = _mm512_loadu_si512(run + 3 * (size_t)b->run_bytes);
            __m512i a = _mm512_unpacklo_epi8(n0, n1), c = _mm512_unpacklo_epi8(n2, n3);
            __m512i A = _mm512_unpackhi_epi8(n0, n1), C = _mm512_unpackhi_epi8(n2, n3);
            __m512i w[4] = {_mm512_unpacklo_epi16(a, c), _mm512_unpackhi_epi16(a, c),
                            _mm512_unpacklo_epi16(A, C), _mm512_unpackhi_epi16(A, C)};
            for (int k = 0; k < 4; k++) {
                __m512i lo = _mm512_and_si512(w[k], low);
                __m512i hi = _mm512_and_si512(_mm512_srli_epi16(w[k], 4), low);
                _mm512_store_si512(sets[k].weights[g] + 64 * quad, _mm512_sub_epi8(lo, bias));
                _mm512_store_si512(sets[4 + k].weights[g] + 64 * quad, _mm512_sub_epi8(hi, bias));
            }
        }
    }
}

// Accumulators of the four parts for one chunk of outputs.
typedef float part_sums[STK_EXPERT_PARTS][SETS][TOKENS * 16];

// One part, a few groups at a time: its accumulators p[sets][tokens][16].
static void add_part(const stk_matrix *down, const stk_bundle *b, const amx_panel *x,
                     uint32_t output, uint32_t begin, uint32_t end, float (*p)[TOKENS * 16])
{
    amx_chunk sets[SETS];
    _Alignas(64) amx_sums sums[2];
    if (begin == end)
        memset(p, 0, SETS * sizeof *p);
    for (uint32_t at = begin; at < end; at += AMX_CHUNK_MAX) {
        uint32_t steps = SETS * x->tiles;
        load_groups(down, b, output, at, end - at < AMX_CHUNK_MAX ? end - at : AMX_CHUNK_MAX, sets);
        // Sums are scaled one step after they are computed: the two overlap.
        for (uint32_t step = 0; step <= steps; step++) {
            uint32_t last = step - 1;
            if (step < steps)
                amx_multiply(&sets[step / x->tiles], x, step % x->tiles, sums[step & 1]);
            if (step > 0)
                amx_add_terms(&sets[last / x->tiles], x, last % x->tiles, sums[last & 1],
                              at == begin,
                              p[last / x->tiles] + 16 * (last % x->tiles) * x->tile_rows);
        }
    }
}

static void store_outputs(const amx_panel *x, part_sums p, uint32_t output, float *const *y)
{
    for (uint32_t tile = 0; tile < x->tiles; tile++)
        for (uint32_t t = 0; t < x->tile_rows; t++)
            for (uint32_t s = 0; s < SETS; s++) {
                size_t at = 16 * (size_t)(tile * x->tile_rows + t);
                __m512 even = _mm512_add_ps(_mm512_load_ps(&p[0][s][at]),
                                            _mm512_load_ps(&p[2][s][at]));
                __m512 odd = _mm512_add_ps(_mm512_load_ps(&p[1][s][at]),
                                           _mm512_load_ps(&p[3][s][at]));
                _mm512_storeu_ps(y[amx_first_token(x, tile) + t] + output + 16 * s,
                                 _mm512_add_ps(even, odd));
            }
}

int stk_down_rows_bundle_q4_0_amx(const stk_matrix *down, const stk_act *h, uint32_t count,
                                  float *const *y)
{
    stk_bundle b = stk_bundle_of(down->rows, down->cols, 0);
    uint32_t groups = down->cols / 32;
    if (!amx_suits(h, count))
        return 0;
    _Alignas(64) part_sums p;
    uint32_t passes = (count + TOKENS - 1) / TOKENS, per_pass = (count + passes - 1) / passes;
    for (uint32_t at = 0; at < count; at += per_pass) {
        uint32_t end = count - at < per_pass ? count : at + per_pass;
        uint32_t from = end - at < AMX_TOKENS_MIN ? end - AMX_TOKENS_MIN : at; // repeats a few
        amx_panel x = amx_panel_of(h + from, end - from);
        amx_begin(x.tile_rows);
        for (uint32_t output = 0; output < down->rows; output += OUTPUTS) {
            for (uint32_t part = 0; part < STK_EXPERT_PARTS; part++)
                add_part(down, &b, &x, output, groups * part / STK_EXPERT_PARTS,
                         groups * (part + 1) / STK_EXPERT_PARTS, p[part]);
            store_outputs(&x, p, output, y + from);
        }
    }
    amx_end();
    return 1;
}
