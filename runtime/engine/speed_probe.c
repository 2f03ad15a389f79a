#include "engine/speed_probe.h"

#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/pages.h"
#include "cluster/cluster.h"
#include "engine/engine_impl.h"
#include "vulkan/probe.h"

enum { ROWS_PER_TAKE = 64, PASSES = 3, READS = 8, READ_BYTES = 4 << 20 };
static const uint64_t MATRIX_BYTES = 96u << 20, MATRIX_BYTES_MIN = 4u << 20;
static const uint64_t GPU_COPY_BYTES = 32u << 20;
enum { PINGS = 12, LINK_PINGS = 3, ACK_BYTES = 64 };
static const double LINK_MAX = 1e11; // bytes/s: more than can be told
static const stk_speed GUESS = {.memory_bytes_per_s = 10e9, .disk_bytes_per_s = 0.5e9};

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

double stk_speed_gpu_layer_s(bool is_discrete)
{
    return is_discrete ? 80e-6 : 60e-6;
}

// In memory the GPU shares, it reads no faster than the cores do; a software device is the cores,
// with more in between.
static void probe_gpu(const stk_engine *e, const stk_engine_options *options, stk_speed *out)
{
    stk_vk_speeds speeds;
    if (!e->device || options->gpu_experts_percent == 0)
        return;
    stk_vk *vk = stk_gpu_device_vk(e->device);
    const stk_vk_device_info *info = stk_vk_info(vk);
    bool stays_out = info->unified && options->memory_bytes != 0; // see stk_gpu_open
    if (stays_out || stk_vk_probe(vk, GPU_COPY_BYTES, &speeds) != STK_OK)
        return;
    double cores = out->memory_bytes_per_s, own = (double)speeds.copy_mib_s * 0x1p20;
    out->gpu_memory_bytes = stk_gpu_room_bytes(e) / 16 * 15;
    out->gpu_bytes_per_s = info->kind == STK_VK_CPU ? cores / 4
                           : info->unified          ? fmin(own, cores)
                                                    : own;
    out->gpu_layer_s = stk_speed_gpu_layer_s(info->kind == STK_VK_DISCRETE);
    if (!(out->gpu_bytes_per_s > 0))
        out->gpu_memory_bytes = 0;
}

stk_speed stk_speed_probe(stk_engine *engine, const stk_engine_options *options,
                          uint64_t memory_bytes_max)
{
    stk_speed speed = {.memory_bytes_per_s = probe_memory(engine, memory_bytes_max),
                       .disk_bytes_per_s = probe_disk(engine)};
    probe_gpu(engine, options, &speed);
    return speed;
}

// ---- between ranks ----

// Once around all of them.
double stk_speed_hop(stk_cluster *c, size_t bytes)
{
    uint32_t rank = stk_cluster_rank(c), count = stk_cluster_count(c);
    double best = INFINITY;
    for (int i = 0; i < PINGS; i++) {
        size_t size;
        double begin = now_s();
        if (rank > 0)
            stk_cluster_receive(c, &size);
        memset(stk_cluster_send_begin(c), 0, bytes);
        stk_cluster_send_end(c, (rank + 1) % count, bytes);
        if (rank == 0)
            stk_cluster_receive(c, &size);
        best = fmin(best, now_s() - begin);
    }
    return best / count;
}

// One link after the other: large data there, a short message back.
double stk_speed_link(stk_cluster *c, double hop_s, void *data)
{
    uint32_t rank = stk_cluster_rank(c), count = stk_cluster_count(c);
    double best = INFINITY;
    uint8_t done = 0, all[STK_CLUSTER_RANKS_MAX];
    size_t size;
    memset(data, 0, STK_SPEED_LINK_BYTES);
    for (uint32_t from = 0; from < count; from++) {
        uint32_t to = (from + 1) % count;
        for (int i = 0; i < LINK_PINGS; i++) {
            double begin = now_s();
            if (rank == from) {
                stk_cluster_bulk_send(c, to, data, STK_SPEED_LINK_BYTES);
                stk_cluster_receive(c, &size);
                best = fmin(best, now_s() - begin);
            } else if (rank == to) {
                stk_cluster_bulk_expect(c, 0, from, data, STK_SPEED_LINK_BYTES);
                (void)!stk_cluster_bulk_arrived(c, 0, STK_SPEED_LINK_BYTES);
                memset(stk_cluster_send_begin(c), 0, ACK_BYTES);
                stk_cluster_send_end(c, from, ACK_BYTES);
            }
        }
        stk_cluster_gather(c, &done, 1, all); // the next link's turn
    }
    return STK_SPEED_LINK_BYTES / fmax(best - 2 * hop_s, STK_SPEED_LINK_BYTES / LINK_MAX);
}
