// cpu/x86/x16.h: where the blocks of STK_FORMAT_X16 lie, for the kernels that read it.
#ifndef STK_CPU_X86_X16_H
#define STK_CPU_X86_X16_H

#include "cpu/ahead.h"
#include "cpu/x86/bundle_x16.h"

enum { X16_ROWS = 16 };

// A type's blocks of sixteen rows. `bias` is what its unsigned form adds to a value.
typedef struct x16_type {
    uint32_t values_bytes; // of one block
    int32_t bias;
} x16_type;

static const x16_type x16_q4_0 = {256, 8}, x16_q8_0 = {512, 128};

static inline size_t x16_group_bytes(const x16_type *t, uint32_t blocks)
{
    return (size_t)((blocks + 1) / 2) * (64 + 2 * t->values_bytes);
}

// The pair of blocks that holds `block`; its scales and values are found by x16_scales and
// x16_values.
static inline const uint8_t *x16_pair(const uint8_t *group, const x16_type *t, uint32_t block)
{
    return group + (size_t)(block / 2) * (64 + 2 * t->values_bytes);
}

static inline const uint8_t *x16_scales(const uint8_t *pair, uint32_t block)
{
    return pair + 32 * (block & 1);
}

static inline const uint8_t *x16_values(const uint8_t *pair, const x16_type *t, uint32_t block)
{
    return pair + 64 + (block & 1) * t->values_bytes;
}

// How far ahead of the weights one token streams lines are asked for, in two steps: into L2, which
// can wait for more lines at once than L1, and from there into L1. The hardware's own streams stop
// at every 4 KiB. bench/2026-11-22-xeon.md has the distances tried.
enum { X16_NEAR_BYTES = 1152, X16_FAR_BYTES = 4096 };

// Asks for what lies ahead of a block; for the scales with the even one of a pair.
static inline void x16_prefetch(const uint8_t *pair, const x16_type *t, uint32_t block)
{
    const char *at = (const char *)(block & 1 ? x16_values(pair, t, block) : pair);
    uint32_t bytes = t->values_bytes + (block & 1 ? 0 : 64);
    for (uint32_t i = 0; i < bytes; i += 64) {
        _mm_prefetch(at + X16_NEAR_BYTES + i, _MM_HINT_T0);
        _mm_prefetch(at + X16_FAR_BYTES + i, _MM_HINT_T1);
    }
}

// A place for each whole block that one token streams in rows [row_begin, row_end).
static inline void x16_spread(const stk_matrix *w, uint32_t row_begin, uint32_t row_end,
                              stk_ahead *ahead)
{
    uint32_t groups = (row_end - row_begin + X16_ROWS - 1) / X16_ROWS;
    stk_ahead_spread(ahead, groups * (w->cols / 32));
}

// Rows [row, row+16) of a matrix: in place, or of a bundle by way of buffer[BUNDLE_X16_BYTES_MAX],
// 64-byte aligned.
static inline const uint8_t *x16_group(const stk_matrix *w, const x16_type *t, uint32_t row,
                                       uint8_t *buffer)
{
    if (w->format == STK_FORMAT_X16)
        return (const uint8_t *)w->data + row / X16_ROWS * x16_group_bytes(t, w->cols / 32);
    bundle_x16(w, row, buffer);
    return buffer;
}

#endif
