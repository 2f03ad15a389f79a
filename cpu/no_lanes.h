// cpu/no_lanes.h: for rows_panel.h, where many tokens are computed as few are.
#ifndef STK_CPU_NO_LANES_H
#define STK_CPU_NO_LANES_H

#include "cpu/blocks.h"

STK_INLINE uint32_t matmul_lanes(blocks_of type, const stk_matrix *w, uint32_t row_begin,
                                 uint32_t row_end, const stk_act *acts, uint32_t count, float *y,
                                 size_t y_stride)
{
    (void)type, (void)w, (void)row_begin, (void)row_end, (void)acts, (void)count, (void)y;
    (void)y_stride;
    return 0;
}

STK_INLINE uint32_t down_rows_lanes(blocks_of type, const stk_matrix *w, const stk_act *h,
                                    uint32_t count, float *const *y)
{
    (void)type, (void)w, (void)h, (void)count, (void)y;
    return 0;
}

#endif
