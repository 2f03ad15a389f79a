#include "engine/ahead.h"

void stk_ahead_neurons(stk_ahead *ahead, const stk_expert *expert, uint32_t group,
                       const uint32_t *active, uint32_t count)
{
    const stk_matrix *up = &expert->up;
    stk_ahead_clear(ahead, 0);
    if (count == 0)
        return;
    if (up->format == STK_FORMAT_ROWS) { // down lies elsewhere and is left to the hardware
        ahead->run_bytes = (uint32_t)stk_type_row_bytes(up->type, up->cols);
        for (uint32_t i = 0; i < count; i++)
            ahead->runs[ahead->count++] = stk_matrix_row(up, active[i]);
        return;
    }
    stk_bundle b = stk_bundle_of(up->cols, up->rows, up->format == STK_FORMAT_BUNDLE_T_UP);
    const char *base = (const char *)up->data + (size_t)group * b.group_bytes;
    ahead->run_bytes = b.run_bytes;
    for (uint32_t i = 0; i < count; i++)
        ahead->runs[ahead->count++] = base + b.scales_bytes +
                                      (active[i] % 32) * (size_t)b.run_bytes;
    for (uint32_t at = 0; at < b.scales_bytes && ahead->count < STK_AHEAD_RUNS_MAX;
         at += b.run_bytes)
        ahead->runs[ahead->count++] = base + at;
}

void stk_ahead_bytes(stk_ahead *ahead, const void *from, size_t bytes)
{
    stk_ahead_clear(ahead, 1024);
    for (size_t at = 0; from && at < bytes && ahead->count < STK_AHEAD_RUNS_MAX; at += 1024)
        ahead->runs[ahead->count++] = (const char *)from + at;
}
