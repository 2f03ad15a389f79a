// Does this device compute what docs/arithmetic.md says? Drivers differ in what they take for
// granted, so a device is asked before it is trusted with tokens.
#include "engine/experts_gpu_impl.h"

#include <stdlib.h>
#include <string.h>

#include "base/random.h"

enum { ROWS = 4 };

// Everything the CPU needs to compute one expert for ROWS rows.
typedef struct probe {
    float *x, *d, *gate, *h, *up, *hd, *parts, *y;
    int8_t *q, *hq;
    int32_t *sum, *hsum;
    uint32_t *active, *first;
} probe;

static void *carve(uint8_t **at, size_t bytes)
{
    void *p = *at;
    *at += (bytes + 63) / 64 * 64;
    return p;
}

// Bytes of the tables, which are laid out from `base` on.
static size_t lay_out(probe *p, const stk_model *m, uint8_t *base)
{
    uint8_t *at = base;
    size_t width = m->width, ffn = m->ffn_width, padded = width + STK_OUTPUT_PAD;
    p->x = carve(&at, ROWS * width * 4);
    p->q = carve(&at, ROWS * width);
    p->d = carve(&at, ROWS * width / 8);
    p->sum = carve(&at, ROWS * width / 8);
    p->gate = carve(&at, ffn * 4);
    p->up = carve(&at, ffn * 4);
    p->h = carve(&at, ffn * 4);
    p->hq = carve(&at, ffn);
    p->hd = carve(&at, ffn / 8);
    p->hsum = carve(&at, ffn / 8);
    p->active = carve(&at, ffn * 4);
    p->first = carve(&at, (ffn / 32 + 1) * 4);
    p->parts = carve(&at, STK_EXPERT_PARTS * padded * 4);
    p->y = carve(&at, padded * 4);
    return (size_t)(at - base);
}

static stk_act act_of(const probe *p, uint32_t width, uint32_t row)
{
    return (stk_act){p->x + (size_t)row * width, p->q + (size_t)row * width,
                     p->d + (size_t)row * (width / 32), p->sum + (size_t)row * (width / 32)};
}

// Rows of very different sizes, so that roundings at every exponent are seen.
static void make_rows(const stk_engine *e, const probe *p)
{
    static const float sizes[ROWS] = {1, 1e-3f, 300, 1e-12f};
    stk_random random = stk_random_seeded(1);
    uint32_t width = e->model.width;
    for (uint32_t r = 0; r < ROWS; r++)
        for (uint32_t i = 0; i < width; i++)
            p->x[r * width + i] = (float)(stk_random_unit(&random) - 0.5) * sizes[r];
    e->cpu.quantize(p->x, ROWS * width, p->q, p->d, p->sum);
}

static void compute(const stk_engine *e, const stk_expert_kernels *kernels,
                    const stk_expert *expert, const probe *p, uint32_t row)
{
    uint32_t width = e->model.width, ffn = e->model.ffn_width, groups = ffn / 32, count = 0;
    size_t padded = (width + STK_OUTPUT_PAD - 1) / STK_OUTPUT_PAD * STK_OUTPUT_PAD;
    stk_act act = act_of(p, width, row);
    kernels->gate(&expert->gate, 0, ffn, &act, 1, p->gate, ffn);
    for (uint32_t j = 0; j < ffn; j++) {
        if (j % 32 == 0)
            p->first[j / 32] = count;
        if (p->gate[j] > 0)
            p->active[count++] = j;
    }
    p->first[groups] = count;
    kernels->up(&expert->up, p->active, count, &act, p->up);
    memset(p->h, 0, ffn * sizeof *p->h);
    for (uint32_t a = 0; a < count; a++)
        p->h[p->active[a]] = p->gate[p->active[a]] * p->up[a];
    e->cpu.quantize(p->h, ffn, p->hq, p->hd, p->hsum);
    stk_neurons n = {p->h, p->hq, p->hd, p->hsum, p->active, p->first};
    memset(p->parts, 0, STK_EXPERT_PARTS * padded * sizeof *p->parts);
    for (uint32_t part = 0; part < STK_EXPERT_PARTS; part++)
        kernels->down(&expert->down, &n, groups * part / STK_EXPERT_PARTS,
                      groups * (part + 1) / STK_EXPERT_PARTS, p->parts + part * padded);
    e->cpu.sum_parts(p->parts, padded, width, p->y);
}

stk_status stk_gpu_probe(stk_engine *e, stk_vk_experts *experts, const stk_expert_kernels *kernels,
                         const stk_expert *expert, uint32_t slot, bool *equal)
{
    probe p;
    stk_vk_row rows[ROWS];
    stk_vk_pair pairs[ROWS];
    uint32_t job = 0;
    size_t bytes = lay_out(&p, &e->model, NULL);
    uint8_t *base = aligned_alloc(64, bytes);
    if (!base)
        return STK_NO_MEMORY;
    lay_out(&p, &e->model, base);
    make_rows(e, &p);
    for (uint32_t r = 0; r < ROWS; r++) {
        stk_act act = act_of(&p, e->model.width, r);
        rows[r] = (stk_vk_row){act.q, act.d, act.sum};
        pairs[r] = (stk_vk_pair){r, slot};
    }
    stk_status status = stk_vk_experts_submit(experts, rows, ROWS, pairs, ROWS, &job);
    if (status == STK_OK) {
        status = stk_vk_experts_wait(experts, job);
        *equal = status == STK_OK;
        for (uint32_t r = 0; r < ROWS && *equal; r++) {
            compute(e, kernels, expert, &p, r);
            *equal = memcmp(p.y, stk_vk_experts_output(experts, job, r),
                            e->model.width * sizeof *p.y) == 0;
        }
        stk_vk_experts_release(experts, job);
    }
    free(base);
    return status;
}
