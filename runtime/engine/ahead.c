#include "engine/ahead.h"

void stk_ahead_neurons(const stk_expert *expert, uint32_t group, const uint32_t *active,
                       uint32_t count)
{
    const stk_matrix *up = &expert->up;
    if (count == 0)
        return;
    if (up->format == STK_FORMAT_ROWS) { // down lies elsewhere and is left to the hardware
        size_t bytes = stk_type_row_bytes(up->type, up->cols);
        for (uint32_t i = 0; i < count; i++)
            stk_ahead_bytes(stk_matrix_row(up, active[i]), bytes);
        return;
    }
    stk_bundle b = stk_bundle_of(up->cols, up->rows, up->format == STK_FORMAT_BUNDLE_T_UP);
    const char *base = (const char *)up->data + (size_t)group * b.group_bytes;
    for (uint32_t i = 0; i < count; i++)
        stk_ahead_bytes(base + b.scales_bytes + (size_t)(active[i] % 32) * b.run_bytes,
                        b.run_bytes);
    stk_ahead_bytes(base, b.scales_bytes);
}
