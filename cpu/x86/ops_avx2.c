// The vector of sixteen floats on AVX2: two registers.
#include <immintrin.h>
#include <stdint.h>

typedef struct v16 {
    __m256 a, b; // lanes 0-7 and 8-15
} v16;

static inline v16 v_load(const float *p)
{
    return (v16){_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)};
}
static inline void v_store(float *p, v16 v)
{
    _mm256_storeu_ps(p, v.a);
    _mm256_storeu_ps(p + 8, v.b);
}
static inline v16 v_set1(float f)
{
    return (v16){_mm256_set1_ps(f), _mm256_set1_ps(f)};
}
static inline v16 v_add(v16 x, v16 y)
{
    return (v16){_mm256_add_ps(x.a, y.a), _mm256_add_ps(x.b, y.b)};
}
static inline v16 v_sub(v16 x, v16 y)
{
    return (v16){_mm256_sub_ps(x.a, y.a), _mm256_sub_ps(x.b, y.b)};
}
static inline v16 v_mul(v16 x, v16 y)
{
    return (v16){_mm256_mul_ps(x.a, y.a), _mm256_mul_ps(x.b, y.b)};
}
static inline v16 v_fma(v16 x, v16 y, v16 z)
{
    return (v16){_mm256_fmadd_ps(x.a, y.a, z.a), _mm256_fmadd_ps(x.b, y.b, z.b)};
}
static inline v16 v_max(v16 x, v16 y)
{
    return (v16){_mm256_max_ps(x.a, y.a), _mm256_max_ps(x.b, y.b)};
}
static inline v16 v_min(v16 x, v16 y)
{
    return (v16){_mm256_min_ps(x.a, y.a), _mm256_min_ps(x.b, y.b)};
}
static inline v16 v_abs(v16 x)
{
    const __m256 sign = _mm256_set1_ps(-0.0f);
    return (v16){_mm256_andnot_ps(sign, x.a), _mm256_andnot_ps(sign, x.b)};
}
static inline v16 v_round(v16 x)
{
    return (v16){_mm256_round_ps(x.a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC),
                 _mm256_round_ps(x.b, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)};
}
static inline __m256 scale2(__m256 y, __m256 n)
{
    __m256i shift = _mm256_slli_epi32(_mm256_cvtps_epi32(n), 23);
    return _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(y), shift));
}
static inline v16 v_scale2(v16 y, v16 n)
{
    return (v16){scale2(y.a, n.a), scale2(y.b, n.b)};
}
static inline v16 v_zero_below(v16 y, v16 x, float limit)
{
    __m256 l = _mm256_set1_ps(limit);
    return (v16){_mm256_and_ps(_mm256_cmp_ps(x.a, l, _CMP_GE_OQ), y.a),
                 _mm256_and_ps(_mm256_cmp_ps(x.b, l, _CMP_GE_OQ), y.b)};
}
static inline float v_halve(v16 v)
{
    __m256 b = _mm256_add_ps(v.a, v.b);
    __m128 c = _mm_add_ps(_mm256_castps256_ps128(b), _mm256_extractf128_ps(b, 1));
    c = _mm_add_ps(c, _mm_movehl_ps(c, c));
    return _mm_cvtss_f32(_mm_add_ss(c, _mm_shuffle_ps(c, c, 1)));
}
// Lane j of the result is the tree of a[j], j < 8.
static inline __m256 halve8(const v16 a[8])
{
    __m256 u[4], w[2];
    for (int r = 0; r < 4; r++) {
        __m256 x = _mm256_add_ps(a[r].a, a[r].b), y = _mm256_add_ps(a[r + 4].a, a[r + 4].b);
        u[r] = _mm256_add_ps(_mm256_permute2f128_ps(x, y, 0x20),
                             _mm256_permute2f128_ps(x, y, 0x31));
    }
    for (int r = 0; r < 2; r++) {
        __m256d x = _mm256_castps_pd(u[2 * r]), y = _mm256_castps_pd(u[2 * r + 1]);
        w[r] = _mm256_add_ps(_mm256_castpd_ps(_mm256_unpacklo_pd(x, y)),
                             _mm256_castpd_ps(_mm256_unpackhi_pd(x, y)));
    }
    return _mm256_add_ps(_mm256_shuffle_ps(w[0], w[1], 0x88), _mm256_shuffle_ps(w[0], w[1], 0xdd));
}
static inline v16 v_halve16(const v16 a[16])
{
    return (v16){halve8(a), halve8(a + 8)};
}
static inline float v_max_of(v16 v)
{
    __m256 b = _mm256_max_ps(v.a, v.b);
    __m128 c = _mm_max_ps(_mm256_castps256_ps128(b), _mm256_extractf128_ps(b, 1));
    c = _mm_max_ps(c, _mm_movehl_ps(c, c));
    return _mm_cvtss_f32(_mm_max_ss(c, _mm_shuffle_ps(c, c, 1)));
}
static inline v16 v_load_half(const uint16_t *p)
{
    return (v16){_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p)),
                 _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(p + 8)))};
}
static inline void v_store_half(uint16_t *p, v16 v)
{
    _mm_storeu_si128((__m128i *)p,
                     _mm256_cvtps_ph(v.a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
    _mm_storeu_si128((__m128i *)(p + 8),
                     _mm256_cvtps_ph(v.b, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
static inline int32_t v_store_i8(int8_t *p, v16 v)
{
    const __m256i least = _mm256_set1_epi32(-127);
    __m256i a = _mm256_max_epi32(_mm256_cvtps_epi32(v.a), least);
    __m256i b = _mm256_max_epi32(_mm256_cvtps_epi32(v.b), least);
    __m128i a16 = _mm_packs_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1));
    __m128i b16 = _mm_packs_epi32(_mm256_castsi256_si128(b), _mm256_extracti128_si256(b, 1));
    __m128i bytes = _mm_packs_epi16(a16, b16);
    _mm_storeu_si128((__m128i *)p, bytes);
    // Sum of signed bytes: flip to unsigned, sum, take the 16*128 back.
    __m128i flipped = _mm_xor_si128(bytes, _mm_set1_epi8((char)0x80));
    __m128i sums = _mm_sad_epu8(flipped, _mm_setzero_si128());
    return _mm_cvtsi128_si32(sums) + _mm_extract_epi16(sums, 4) - 16 * 128;
}

enum { V_CHAINS = 4, V_COLUMNS = 2 };

#include "cpu/ops_v16.h"

#include "cpu/x86/x86.h"

void stk_cpu_init_avx2(stk_cpu *cpu)
{
    init_v16(cpu);
    cpu->name = "avx2";
}
