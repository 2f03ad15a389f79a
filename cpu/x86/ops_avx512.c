// The vector of sixteen floats on AVX-512: one register.
#include <immintrin.h>
#include <stdint.h>

typedef __m512 v16;

static inline v16 v_load(const float *p)
{
    return _mm512_loadu_ps(p);
}
static inline void v_store(float *p, v16 a)
{
    _mm512_storeu_ps(p, a);
}
static inline v16 v_set1(float f)
{
    return _mm512_set1_ps(f);
}
static inline v16 v_add(v16 a, v16 b)
{
    return _mm512_add_ps(a, b);
}
static inline v16 v_sub(v16 a, v16 b)
{
    return _mm512_sub_ps(a, b);
}
static inline v16 v_mul(v16 a, v16 b)
{
    return _mm512_mul_ps(a, b);
}
static inline v16 v_fma(v16 a, v16 b, v16 c)
{
    return _mm512_fmadd_ps(a, b, c);
}
static inline v16 v_max(v16 a, v16 b)
{
    return _mm512_max_ps(a, b);
}
static inline v16 v_min(v16 a, v16 b)
{
    return _mm512_min_ps(a, b);
}
static inline v16 v_abs(v16 a)
{
    return _mm512_abs_ps(a);
}
static inline v16 v_round(v16 a)
{
    return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
static inline v16 v_scale2(v16 y, v16 n)
{
    __m512i shift = _mm512_slli_epi32(_mm512_cvtps_epi32(n), 23);
    return _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(y), shift));
}
static inline v16 v_zero_below(v16 y, v16 x, float limit)
{
    return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x, _mm512_set1_ps(limit), _CMP_GE_OQ), y);
}
static inline float v_halve(v16 a)
{
    __m256 b = _mm256_add_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1));
    __m128 c = _mm_add_ps(_mm256_castps256_ps128(b), _mm256_extractf128_ps(b, 1));
    c = _mm_add_ps(c, _mm_movehl_ps(c, c));
    return _mm_cvtss_f32(_mm_add_ss(c, _mm_shuffle_ps(c, c, 1)));
}
// Lane 4L+r comes from u[r], which holds a[r], a[4+r], a[8+r] and a[12+r], four lanes each.
static inline v16 v_halve16(const v16 a[16])
{
    __m512 u[4], w[2];
    for (int r = 0; r < 4; r++) {
        __m512 x = _mm512_add_ps(_mm512_shuffle_f32x4(a[r], a[r + 4], 0x44),
                                 _mm512_shuffle_f32x4(a[r], a[r + 4], 0xee));
        __m512 y = _mm512_add_ps(_mm512_shuffle_f32x4(a[r + 8], a[r + 12], 0x44),
                                 _mm512_shuffle_f32x4(a[r + 8], a[r + 12], 0xee));
        u[r] = _mm512_add_ps(_mm512_shuffle_f32x4(x, y, 0x88), _mm512_shuffle_f32x4(x, y, 0xdd));
    }
    for (int r = 0; r < 2; r++) {
        __m512d x = _mm512_castps_pd(u[2 * r]), y = _mm512_castps_pd(u[2 * r + 1]);
        w[r] = _mm512_add_ps(_mm512_castpd_ps(_mm512_unpacklo_pd(x, y)),
                             _mm512_castpd_ps(_mm512_unpackhi_pd(x, y)));
    }
    return _mm512_add_ps(_mm512_shuffle_ps(w[0], w[1], 0x88), _mm512_shuffle_ps(w[0], w[1], 0xdd));
}
static inline float v_max_of(v16 a)
{
    return _mm512_reduce_max_ps(a);
}
static inline v16 v_load_half(const uint16_t *p)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p));
}
static inline void v_store_half(uint16_t *p, v16 a)
{
    _mm256_storeu_si256((__m256i *)p,
                        _mm512_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
static inline int32_t v_store_i8(int8_t *p, v16 a)
{
    __m512i i = _mm512_cvtps_epi32(a);
    i = _mm512_max_epi32(_mm512_min_epi32(i, _mm512_set1_epi32(127)), _mm512_set1_epi32(-127));
    _mm_storeu_si128((__m128i *)p, _mm512_cvtepi32_epi8(i));
    return _mm512_reduce_add_epi32(i);
}

enum { V_CHAINS = 16, V_COLUMNS = 8 };

#include "cpu/ops_v16.h"

#include "cpu/x86/attend_avx512.h"

#include "cpu/x86/x86.h"

void stk_cpu_init_avx512(stk_cpu *cpu)
{
    init_v16(cpu);
    cpu->attend = attend_avx512;
    cpu->name = "avx512";
}
