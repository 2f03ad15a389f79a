// An expert's down product for many tokens, AVX-VNNI.
#include "cpu/x86/dot_avxvnni.h"

#include "cpu/x86/down_panel.h"

int stk_down_rows_bundle_q4_0_avxvnni(const stk_matrix *down, const stk_act *h, uint32_t count,
                                      float *const *y)
{
    return down_rows(down, h, count, y);
}
