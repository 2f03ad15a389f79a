#include "engine/kernel_rate.h"

#include "base/random.h"
#include "cpu/cpu.h"
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum {
    ROWS = 64, // of a dense product; neurons of `up`
    COLS = 1024,
    NEURONS = 768, // of `down`
    OUTPUTS = 256,
    ACTIVE = 13, // of 32 neurons
    COLS_MAX = COLS > NEURONS ? COLS : NEURONS,
    OUTPUTS_MAX = OUTPUTS > ROWS ? OUTPUTS : ROWS,
    OPERATIONS = 1 << 22
};

struct stk_kernel_rate {
    stk_cpu cpu;
    stk_product product;
    stk_matrix matrix;
    stk_matmul_fn matmul; // NULL: gather takes the rows one by one
    stk_gather_fn gather;
    stk_down_fn down;
    stk_down_rows_fn down_rows; // or NULL
    uint32_t row_count, worker_count, cols;
    uint8_t *weights;
    float *x;       // [row_count][cols]
    int8_t *q;      // [row_count][cols]
    float *d;       // [row_count][cols/32]
    int32_t *sums;  // [row_count][cols/32]
    float *outputs; // [worker_count][row_count][OUTPUTS_MAX]
    stk_act acts[STK_KERNEL_RATE_ROWS_MAX];
    uint32_t active[NEURONS], first[NEURONS / 32 + 1]; // of every row
};

static void *take(size_t bytes)
{
    return aligned_alloc(64, (bytes + 63) / 64 * 64);
}

// Any bytes will do; without their highest bits every scale is a small number.
static void fill_random(uint8_t *bytes, uint64_t count)
{
    stk_random random = stk_random_seeded(1);
    for (uint64_t i = 0; i < count; i++)
        bytes[i] = stk_random_u64(&random) >> 56 & 0x37;
}

static bool is_bundle(stk_format format)
{
    return format >= STK_FORMAT_BUNDLE_UP && format <= STK_FORMAT_BUNDLE_T_DOWN;
}

static void find_kernels(stk_kernel_rate *r)
{
    const stk_cpu *cpu = &r->cpu;
    stk_format format = r->product.format;
    const stk_type *type = r->product.type;
    r->gather = stk_cpu_gather(cpu, format, type);
    r->down = stk_cpu_down(cpu, format, type);
    r->down_rows = stk_cpu_down_rows(cpu, format, type);
    r->matmul = r->product.kind == STK_PRODUCT_DENSE ? stk_cpu_matmul(cpu, format, type)
                : r->row_count > 1                   ? stk_cpu_up_rows(cpu, format, type)
                                                     : NULL;
}

// 13 of 32, spread; rows begin with a multiple of 32.
static bool is_active(uint32_t neuron)
{
    return neuron % 32 * ACTIVE % 32 < ACTIVE;
}

static void list_active(stk_kernel_rate *r)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < NEURONS; i++) {
        if (i % 32 == 0)
            r->first[i / 32] = count;
        if (is_active(i))
            r->active[count++] = i;
    }
    r->first[NEURONS / 32] = count;
}

static stk_status fill_matrix(stk_kernel_rate *r)
{
    const stk_type *type = r->product.type;
    stk_format format = r->product.format;
    bool is_down = r->product.kind == STK_PRODUCT_DOWN;
    bool by_neuron = format == STK_FORMAT_ROWS_T || format == STK_FORMAT_BUNDLE_T_DOWN ||
                     format == STK_FORMAT_BUNDLE_T_UP;
    uint32_t width = is_down ? OUTPUTS : COLS, neurons = is_down ? NEURONS : ROWS;
    uint32_t rows = is_down && !by_neuron ? OUTPUTS : is_down ? NEURONS : ROWS;
    uint32_t cols = is_down && !by_neuron ? NEURONS : is_down ? OUTPUTS : COLS;
    r->cols = is_down ? NEURONS : COLS;
    r->matrix = (stk_matrix){type, format, rows, cols, NULL};
    uint64_t bytes = rows * stk_type_row_bytes(type, cols);
    if (is_bundle(format)) {
        const stk_bundle bundle = stk_bundle_of(width, neurons, by_neuron);
        bytes = stk_bundle_bytes(&bundle);
    } else if (format == STK_FORMAT_X16) {
        bytes = stk_dense_bytes(type, format, rows, cols);
    }
    r->weights = take(bytes);
    if (!r->weights)
        return STK_NO_MEMORY;
    fill_random(r->weights, bytes);
    r->matrix.data = r->weights;
    find_kernels(r);
    list_active(r);
    return STK_OK;
}

static stk_status fill_acts(stk_kernel_rate *r)
{
    size_t values = (size_t)r->row_count * r->cols, blocks = r->cols / 32;
    r->x = take(values * sizeof *r->x);
    r->q = take(values);
    r->d = take(values / 32 * sizeof *r->d);
    r->sums = take(values / 32 * sizeof *r->sums);
    r->outputs = take((size_t)r->worker_count * r->row_count * OUTPUTS_MAX * sizeof *r->outputs);
    if (!r->x || !r->q || !r->d || !r->sums || !r->outputs)
        return STK_NO_MEMORY;
    bool is_inner = r->product.kind == STK_PRODUCT_DOWN;
    stk_random random = stk_random_seeded(2);
    for (size_t i = 0; i < values; i++) {
        float value = (float)(stk_random_unit(&random) * 2 - 1);
        r->x[i] = is_inner && !is_active((uint32_t)i) ? 0 : value;
    }
    for (uint32_t t = 0; t < r->row_count; t++) {
        size_t at = t * (size_t)r->cols, block = t * blocks;
        r->cpu.quantize(r->x + at, r->cols, r->q + at, r->d + block, r->sums + block);
        r->acts[t] = (stk_act){r->x + at, r->q + at, r->d + block, r->sums + block};
    }
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
    const stk_product q4_0 = {STK_PRODUCT_DENSE, STK_FORMAT_X16, &stk_type_q4_0};
    r->product = options->product ? *options->product : q4_0;
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
    free(r->weights);
    free(r->x);
    free(r->q);
    free(r->d);
    free(r->sums);
    free(r->outputs);
    free(r);
    *rate = NULL;
}

static uint64_t run_up(const stk_kernel_rate *r, float *y)
{
    uint32_t count = r->first[ROWS / 32];
    if (r->matmul) {
        r->matmul(&r->matrix, 0, ROWS, r->acts, r->row_count, y, OUTPUTS_MAX);
        return (uint64_t)ROWS * COLS * r->row_count;
    }
    for (uint32_t t = 0; t < r->row_count; t++)
        r->gather(&r->matrix, r->active, count, &r->acts[t], y + (size_t)t * OUTPUTS_MAX);
    return (uint64_t)count * COLS * r->row_count;
}

static uint64_t run_down(const stk_kernel_rate *r, float *y)
{
    float *rows[STK_KERNEL_RATE_ROWS_MAX];
    for (uint32_t t = 0; t < r->row_count; t++)
        rows[t] = y + (size_t)t * OUTPUTS_MAX;
    // As the engine does: what cannot skip neurons takes them all at once, for one row, too.
    bool is_whole = r->row_count > 1 || r->product.format == STK_FORMAT_ROWS;
    if (r->down_rows && is_whole && r->down_rows(&r->matrix, r->acts, r->row_count, rows))
        return (uint64_t)NEURONS * OUTPUTS * r->row_count;
    for (uint32_t t = 0; t < r->row_count; t++) {
        const stk_act *a = &r->acts[t];
        const stk_neurons neurons = {a->x, a->q, a->d, a->sum, r->active, r->first};
        memset(rows[t], 0, OUTPUTS * sizeof **rows);
        r->down(&r->matrix, &neurons, 0, NEURONS / 32, rows[t]);
    }
    return (uint64_t)r->first[NEURONS / 32] * OUTPUTS * r->row_count;
}

uint64_t stk_kernel_rate_run(void *rate, uint32_t worker)
{
    const stk_kernel_rate *r = rate;
    uint64_t done = 0;
    float *y = r->outputs + (size_t)worker * r->row_count * OUTPUTS_MAX;
    while (done < OPERATIONS) {
        if (r->product.kind == STK_PRODUCT_UP)
            done += run_up(r, y);
        else if (r->product.kind == STK_PRODUCT_DOWN)
            done += run_down(r, y);
        else {
            r->matmul(&r->matrix, 0, ROWS, r->acts, r->row_count, y, OUTPUTS_MAX);
            done += (uint64_t)ROWS * COLS * r->row_count;
        }
    }
    return done;
}
