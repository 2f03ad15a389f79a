// cpu/x86/amx.h: the tile instructions of Intel AMX, as one block of 32 values uses them.
//
// Written as assembly because the intrinsics of GCC 12 tell the compiler that a tile configuration
// has 8 bytes, and nothing of the memory that tile loads and stores touch. Shape in use: a product
// of [rows tokens][32 values] by [32 values][16 outputs], whose integer sums are exact.
#ifndef STK_CPU_X86_AMX_H
#define STK_CPU_X86_AMX_H

#include <stddef.h>
#include <stdint.h>
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

#endif
