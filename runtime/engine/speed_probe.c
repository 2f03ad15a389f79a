#include "engine/speed_probe.h"

#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/pages.h"
#include "engine/engine_impl.h"

enum { ROWS_PER_TAKE = 64, PASSES = 3, READS = 8, READ_BYTES = 4 << 20 };
static const uint64_t MATRIX_BYTES = 96u << 20, MATRIX_BYTES_MIN = 4u << 20;
static const stk_speed GUESS = {10e9, 0.5e9};

static double now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

typedef struct product {
    stk_matrix matrix;
    stk_matmul_fn matmul;
    stk_act act;
    float *y;
    uint8_t *bytes;
    uint64_t size;
} product;

static void multiply_worker(stk_worker *worker, void *argument)
{
    const product *p = argument;
    uint32_t from, to;
    while (stk_worker_take(worker, p->matrix.rows, ROWS_PER_TAKE, &from, &to))
        p->matmul(&p->matrix, from, to, &p->act, 1, p->y + from, p->matrix.rows);
}

// Touches every page, so that the passes that count do not.
static void fill_worker(stk_worker *worker, void *argument)
{
    const product *p = argument;
    uint32_t from, to, pieces = (uint32_t)(p->size >> 20);
    while (stk_worker_take(worker, pieces, 1, &from, &to))
        memset(p->bytes + ((uint64_t)from << 20), 0x11, 1 << 20);
}

static double probe_memory(stk_engine *e, uint64_t most)
{
    uint32_t cols = e->model.width;
    const stk_type *type = e->model.all_layers[0].attn_q->type;
    stk_format format = stk_dense_format(type, cols);
    uint64_t size = most < MATRIX_BYTES ? most : MATRIX_BYTES;
    uint64_t group = stk_dense_bytes(type, format, ROWS_PER_TAKE, cols);
    uint32_t rows = (uint32_t)(size / group) * ROWS_PER_TAKE;
    if (size < MATRIX_BYTES_MIN || rows == 0)
        return GUESS.memory_bytes_per_s;
    product p = {.size = size, .bytes = stk_pages_alloc(size)};
    float *x = calloc(cols, sizeof *x), *d = calloc(cols / 32, sizeof *d);
    int8_t *q = calloc(cols, 1);
    int32_t *sum = calloc(cols / 32, sizeof *sum);
    p.y = malloc(rows * sizeof *p.y);
    double best = INFINITY;
    if (p.bytes && x && d && q && sum && p.y) {
        p.matrix = (stk_matrix){type, format, rows, cols, p.bytes};
        p.matmul = stk_cpu_matmul(&e->cpu, format, type);
        p.act = (stk_act){x, q, d, sum};
        stk_team_run(e->team, fill_worker, &p);
        for (int i = 0; i < PASSES; i++) {
            double begin = now_s();
            stk_team_run(e->team, multiply_worker, &p);
            best = fmin(best, now_s() - begin);
        }
    }
    stk_pages_free(p.bytes, size);
    free(x);
    free(d);
    free(q);
    free(sum);
    free(p.y);
    return isfinite(best) && best > 0 ? (double)stk_dense_bytes(type, format, rows, cols) / best
                                      : GUESS.memory_bytes_per_s;
}

static double probe_disk(const stk_engine *e)
{
    const char *path = stk_gguf_file_path(e->gguf, 0);
    uint64_t size = stk_gguf_file_size_bytes(e->gguf, 0);
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_DIRECT);
    void *buffer = stk_pages_alloc(READ_BYTES);
    uint64_t read_bytes = 0;
    double begin = now_s();
    for (uint64_t i = 0; fd >= 0 && buffer && i < READS; i++) {
        uint64_t at = size / READS * i / STK_DIRECT_ALIGN * STK_DIRECT_ALIGN;
        ssize_t n = pread(fd, buffer, READ_BYTES, (off_t)at);
        if (n <= 0)
            break;
        read_bytes += (uint64_t)n;
    }
    double seconds = now_s() - begin;
    if (fd >= 0)
        close(fd);
    stk_pages_free(buffer, READ_BYTES);
    return read_bytes > 0 && seconds > 0 ? (double)read_bytes / seconds : GUESS.disk_bytes_per_s;
}

stk_speed stk_speed_probe(stk_engine *engine, uint64_t memory_bytes_max)
{
    return (stk_speed){probe_memory(engine, memory_bytes_max), probe_disk(engine)};
}
