// cpu/x86/bundle_x16.h: sixteen up rows of a bundle rearranged as STK_FORMAT_X16 has them, so that
// many tokens can use the dense kernels. Needs only what every x86-64 has.
#ifndef STK_CPU_X86_BUNDLE_X16_H
#define STK_CPU_X86_BUNDLE_X16_H

#include "model/matrix.h"

#include <emmintrin.h>
#include <string.h>

enum {
    BUNDLE_X16_COLS_MAX = 8192,
    BUNDLE_X16_PAIR_BYTES = 64 + 2 * 256,
    BUNDLE_X16_BYTES_MAX = BUNDLE_X16_COLS_MAX / 64 * BUNDLE_X16_PAIR_BYTES,
};

static inline __m128i bundle_x16_load(const uint8_t *p)
{
    return _mm_loadu_si128((const __m128i *)p);
}

// Four rows' 16 bytes each -> four runs' 16 bytes each, 64 bytes apart.
static inline void bundle_x16_nibbles(const uint8_t *from, size_t stride, uint8_t *to)
{
    __m128i a = bundle_x16_load(from), b = bundle_x16_load(from + stride);
    __m128i c = bundle_x16_load(from + 2 * stride), d = bundle_x16_load(from + 3 * stride);
    __m128i ab = _mm_unpacklo_epi32(a, b), AB = _mm_unpackhi_epi32(a, b);
    __m128i cd = _mm_unpacklo_epi32(c, d), CD = _mm_unpackhi_epi32(c, d);
    _mm_store_si128((__m128i *)(to), _mm_unpacklo_epi64(ab, cd));
    _mm_store_si128((__m128i *)(to + 64), _mm_unpackhi_epi64(ab, cd));
    _mm_store_si128((__m128i *)(to + 128), _mm_unpacklo_epi64(AB, CD));
    _mm_store_si128((__m128i *)(to + 192), _mm_unpackhi_epi64(AB, CD));
}

// Half scales [8 rows][8 blocks] -> [block][8 rows] at to[block].
static inline void bundle_x16_scales(const uint8_t *from, size_t stride, uint8_t *const to[8])
{
    __m128i r[8], s[8];
    for (int i = 0; i < 8; i++)
        r[i] = bundle_x16_load(from + (size_t)i * stride);
    for (int i = 0; i < 4; i++) {
        s[2 * i] = _mm_unpacklo_epi16(r[i], r[i + 4]);
        s[2 * i + 1] = _mm_unpackhi_epi16(r[i], r[i + 4]);
    }
    for (int i = 0; i < 4; i++) {
        r[2 * i] = _mm_unpacklo_epi16(s[i], s[i + 4]);
        r[2 * i + 1] = _mm_unpackhi_epi16(s[i], s[i + 4]);
    }
    for (int i = 0; i < 4; i++) {
        _mm_store_si128((__m128i *)to[2 * i], _mm_unpacklo_epi16(r[i], r[i + 4]));
        _mm_store_si128((__m128i *)to[2 * i + 1], _mm_unpackhi_epi16(r[i], r[i + 4]));
    }
}

// Rows [row, row+16) of a BUNDLE_UP or BUNDLE_T_UP matrix with at most BUNDLE_X16_COLS_MAX columns;
// `to` is 64-byte aligned. A padding block at the end is left as it is.
static inline void bundle_x16(const stk_matrix *w, uint32_t row, uint8_t *to)
{
    stk_bundle b = stk_bundle_of(w->cols, w->rows, w->format == STK_FORMAT_BUNDLE_T_UP);
    const uint8_t *from = (const uint8_t *)w->data + (size_t)(row / 32) * b.group_bytes +
                          b.scales_bytes + (size_t)(row % 32) * b.run_bytes;
    const uint8_t *scales = from + 16 * (size_t)(w->cols / 32);
    uint32_t blocks = w->cols / 32, at = 0;
    for (uint32_t i = 0; i < blocks; i++) {
        uint8_t *values = to + (size_t)(i / 2) * BUNDLE_X16_PAIR_BYTES + 64 + (i & 1) * 256;
        for (uint32_t r = 0; r < 16; r += 4)
            bundle_x16_nibbles(from + r * b.run_bytes + 16 * (size_t)i, b.run_bytes,
                               values + 4 * r);
    }
    for (; at + 8 <= blocks; at += 8)
        for (uint32_t r = 0; r < 16; r += 8) {
            uint8_t *places[8];
            for (uint32_t i = 0; i < 8; i++)
                places[i] = to + (size_t)((at + i) / 2) * BUNDLE_X16_PAIR_BYTES + 32 * (i & 1) +
                            2 * (size_t)r;
            bundle_x16_scales(scales + r * b.run_bytes + 2 * (size_t)at, b.run_bytes, places);
        }
    for (; at < blocks; at++)
        for (uint32_t r = 0; r < 16; r++)
            memcpy(to + (size_t)(at / 2) * BUNDLE_X16_PAIR_BYTES + 32 * (at & 1) + 2 * (size_t)r,
                   scales + r * b.run_bytes + 2 * (size_t)at, 2);
}

#endif
