#include "engine/kernel_rate.h"

#include "base/half.h"
#include "base/random.h"
#include "cpu/cpu.h"
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum { ROWS = 64, COLS = 1024, BLOCKS = COLS / 32, OPERATIONS = 1 << 22 };

struct stk_kernel_rate {
    stk_cpu cpu;
    stk_matrix matrix;
    stk_matmul_fn matmul;
    uint32_t row_count, worker_count;
    uint8_t *packed;
    float *x;                               // [COLS]
    int8_t *q;                              // [COLS]
    float *d;                               // [BLOCKS]
    int32_t *sums;                          // [BLOCKS]
    stk_act acts[STK_KERNEL_RATE_ROWS_MAX]; // all the same: a kernel does not look
    float *outputs;                         // [worker_count][row_count][ROWS]
};

static void *take(size_t bytes)
{
    return aligned_alloc(64, (bytes + 63) / 64 * 64);
}

static stk_status fill_matrix(stk_kernel_rate *r)
{
    const stk_type *type = &stk_type_q4_0;
    stk_format format = stk_dense_format(type, COLS);
    size_t bytes = ROWS * stk_type_row_bytes(type, COLS);
    uint8_t *source = take(bytes);
    r->packed = take(stk_dense_bytes(type, format, ROWS, COLS));
    if (source && r->packed) {
        stk_random random = stk_random_seeded(1);
        uint16_t scale = stk_half_from_float(0.01f);
        for (size_t i = 0; i < bytes; i++)
            source[i] = (uint8_t)(stk_random_u64(&random) >> 56);
        for (size_t i = 0; i < bytes; i += type->block_bytes)
            memcpy(source + i, &scale, sizeof scale);
        stk_dense_pack(type, format, ROWS, COLS, 0, ROWS, source, r->packed);
    }
    bool is_ok = source && r->packed;
    free(source);
    r->matrix = (stk_matrix){type, format, ROWS, COLS, r->packed};
    r->matmul = stk_cpu_matmul(&r->cpu, format, type);
    return is_ok ? STK_OK : STK_NO_MEMORY;
}

static stk_status fill_acts(stk_kernel_rate *r)
{
    r->x = take(COLS * sizeof *r->x);
    r->q = take(COLS);
    r->d = take(BLOCKS * sizeof *r->d);
    r->sums = take(BLOCKS * sizeof *r->sums);
    r->outputs = take((size_t)r->worker_count * r->row_count * ROWS * sizeof *r->outputs);
    if (!r->x || !r->q || !r->d || !r->sums || !r->outputs)
        return STK_NO_MEMORY;
    stk_random random = stk_random_seeded(2);
    for (uint32_t i = 0; i < COLS; i++)
        r->x[i] = (float)(stk_random_unit(&random) * 2 - 1);
    r->cpu.quantize(r->x, COLS, r->q, r->d, r->sums);
    for (uint32_t i = 0; i < r->row_count; i++)
        r->acts[i] = (stk_act){r->x, r->q, r->d, r->sums};
    return STK_OK;
}

stk_status stk_kernel_rate_open(const stk_kernel_rate_options *options, const stk_log *log,
                                stk_kernel_rate **out)
{
    if (options->row_count == 0 || options->row_count > STK_KERNEL_RATE_ROWS_MAX ||
        options->worker_count == 0)
        return stk_fail(log, STK_INVALID, "a kernel's rate is measured with 1 to %d rows",
                        STK_KERNEL_RATE_ROWS_MAX);
    stk_kernel_rate *r = calloc(1, sizeof *r);
    if (!r)
        return stk_fail(log, STK_NO_MEMORY, "no memory for a measurement");
    r->row_count = options->row_count;
    r->worker_count = options->worker_count;
    stk_status status = stk_cpu_init(options->cpu_mask, log, &r->cpu);
    if (status == STK_OK) {
        status = fill_matrix(r);
        if (status == STK_OK)
            status = fill_acts(r);
        if (status != STK_OK)
            (void)stk_fail(log, status, "no memory for a measurement");
    }
    if (status == STK_OK)
        *out = r;
    else
        stk_kernel_rate_close(&r);
    return status;
}

void stk_kernel_rate_close(stk_kernel_rate **rate)
{
    stk_kernel_rate *r = *rate;
    if (!r)
        return;
    free(r->packed);
    free(r->x);
    free(r->q);
    free(r->d);
    free(r->sums);
    free(r->outputs);
    free(r);
    *rate = NULL;
}

uint64_t stk_kernel_rate_run(void *rate, uint32_t worker)
{
    const stk_kernel_rate *r = rate;
    uint64_t once = (uint64_t)ROWS * COLS * r->row_count, done = 0;
    float *output = r->outputs + (size_t)worker * r->row_count * ROWS;
    for (; done < OPERATIONS; done += once)
        r->matmul(&r->matrix, 0, ROWS, r->acts, r->row_count, output, ROWS);
    return done;
}
