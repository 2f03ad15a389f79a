// Weights: in place where the device reads host memory, else copied into one buffer.
#include "vulkan/dense_impl.h"

#include <stdlib.h>
#include <string.h>

static const struct {
    const stk_type *type;
    stk_format format;
    stk_vk_shader shader;
    stk_vk_shader tile; // for many rows of activations, 32 by 32; STK_VK_SHADER_COUNT: none
    uint32_t rows;      // of a workgroup of `shader`
    uint32_t cols_unit; // the columns are a multiple of it
    bool is_float, has_sum;
} products[] = {
    {&stk_type_q4_0, STK_FORMAT_X16, STK_VK_SHADER_matmul_x16_q4_0,
     STK_VK_SHADER_matmul_x16_q4_0_tile, 16, 32, false, true},
    {&stk_type_q8_0, STK_FORMAT_X16, STK_VK_SHADER_matmul_x16_q8_0,
     STK_VK_SHADER_matmul_x16_q8_0_tile, 16, 32, false, true},
    {&stk_type_q6_k, STK_FORMAT_ROWS, STK_VK_SHADER_matmul_q6_k, STK_VK_SHADER_COUNT, 16, 256,
     false, false},
    {&stk_type_q4_k, STK_FORMAT_ROWS, STK_VK_SHADER_matmul_q4_k, STK_VK_SHADER_COUNT, 16, 256,
     false, true},
    {&stk_type_q5_k, STK_FORMAT_ROWS, STK_VK_SHADER_matmul_q5_k, STK_VK_SHADER_COUNT, 16, 256,
     false, true},
    {&stk_type_f32, STK_FORMAT_ROWS, STK_VK_SHADER_matmul_f32, STK_VK_SHADER_COUNT, 8, 1, true,
     false},
    {&stk_type_f16, STK_FORMAT_ROWS, STK_VK_SHADER_matmul_f16, STK_VK_SHADER_COUNT, 8, 2, true,
     false},
    {&stk_type_bf16, STK_FORMAT_ROWS, STK_VK_SHADER_matmul_bf16, STK_VK_SHADER_COUNT, 8, 2, true,
     false},
};
enum { PRODUCTS = sizeof products / sizeof *products };

static size_t find_product(const stk_matrix *m)
{
    size_t i = 0;
    while (i < PRODUCTS && (products[i].type != m->type || products[i].format != m->format ||
                            m->cols % products[i].cols_unit != 0))
        i++;
    return i;
}

bool stk_vk_dense_supports(const stk_matrix *matrix)
{
    return find_product(matrix) < PRODUCTS;
}

static bool is_tiled(size_t p, bool many)
{
    return many && products[p].tile != STK_VK_SHADER_COUNT;
}

VkDispatchIndirectCommand stk_vk_dense_size(const stk_matrix *m, uint32_t rows, bool many)
{
    size_t p = find_product(m);
    if (is_tiled(p, many))
        return (VkDispatchIndirectCommand){(m->rows + 31) / 32, (rows + 31) / 32, 1};
    return (VkDispatchIndirectCommand){(m->rows + products[p].rows - 1) / products[p].rows, rows,
                                       1};
}

stk_status stk_vk_dense_bind(stk_vk *vk, VkCommandBuffer commands, const dense_matrix *matrix,
                             const dense_acts *acts, VkDeviceAddress y, uint32_t y_stride,
                             VkDeviceAddress many_rows)
{
    const stk_matrix *m = &matrix->shape;
    size_t p = find_product(m);
    const VkDeviceAddress floats[] = {matrix->address, acts->x, y};
    const VkDeviceAddress blocks[] = {matrix->address, acts->q, acts->d, y};
    const VkDeviceAddress blocks_sum[] = {matrix->address, acts->q, acts->d,
                                          acts->sum,       y,       many_rows};
    const uint32_t constants[] = {m->rows, m->cols, y_stride};
    const uint32_t constants_sum[] = {m->rows, m->cols, UINT32_MAX, y_stride};
    if (is_tiled(p, many_rows != 0))
        return stk_vk_bind(vk, commands, products[p].tile, blocks_sum, constants);
    if (products[p].has_sum)
        return stk_vk_bind(vk, commands, products[p].shader, blocks_sum, constants_sum);
    return stk_vk_bind(vk, commands, products[p].shader, products[p].is_float ? floats : blocks,
                       constants);
}

static uint64_t matrix_bytes(const stk_matrix *m)
{
    return stk_dense_bytes(m->type, m->format, m->rows, m->cols);
}

// ---- where the weights go ----

// One pass counts, another one copies.
typedef struct placer {
    stk_vk_dense *dense;
    const uint8_t *pages; // not NULL: in place
    uint64_t at;
    bool copies;
    stk_status status;
} placer;

static VkDeviceAddress place(placer *p, const void *data, uint64_t bytes)
{
    stk_vk_dense *d = p->dense;
    if (p->pages)
        return d->import.address + (uint64_t)((const uint8_t *)data - p->pages);
    uint64_t at = p->at;
    p->at += stk_vk_padded(bytes);
    if (p->copies && p->status == STK_OK)
        p->status = stk_vk_upload(d->vk, &d->copies, at, data, bytes);
    return d->copies.address + at;
}

static dense_matrix place_matrix(placer *p, const stk_matrix *m)
{
    return (dense_matrix){*m, place(p, m->data, matrix_bytes(m))};
}

static dense_matrix place_router(placer *p, const stk_matrix *m)
{
    return m->rows != 0 ? place_matrix(p, m) : (dense_matrix){0};
}

static void place_all(placer *p, const stk_vk_dense_options *o)
{
    stk_vk_dense *d = p->dense;
    for (uint32_t i = 0; i < o->layer_count; i++) {
        const stk_vk_dense_layer *from = &o->layers[i];
        if (!from->here)
            continue;
        d->layers[i] = (dense_layer){.here = true,
                                     .attn_norm = place(p, from->attn_norm, o->width * 4),
                                     .ffn_norm = place(p, from->ffn_norm, o->width * 4),
                                     .q = place_matrix(p, &from->q),
                                     .k = place_matrix(p, &from->k),
                                     .v = place_matrix(p, &from->v),
                                     .output = place_matrix(p, &from->output),
                                     .router = place_router(p, &from->router),
                                     .window_tokens = from->window_tokens,
                                     .has_rope = from->has_rope};
    }
    if (o->has_head) {
        d->head_norm = place(p, o->head_norm, o->width * 4);
        d->head = place_matrix(p, &o->head);
    }
}

uint64_t stk_vk_dense_bytes(const stk_vk_dense_options *o)
{
    uint64_t bytes = o->has_head
                         ? stk_vk_padded(o->width * 4) + stk_vk_padded(matrix_bytes(&o->head))
                         : 0;
    for (uint32_t i = 0; i < o->layer_count; i++) {
        const stk_vk_dense_layer *l = &o->layers[i];
        if (l->here)
            bytes += 2 * stk_vk_padded(o->width * 4) + stk_vk_padded(matrix_bytes(&l->q)) +
                     stk_vk_padded(matrix_bytes(&l->k)) + stk_vk_padded(matrix_bytes(&l->v)) +
                     stk_vk_padded(matrix_bytes(&l->output)) +
                     (l->router.rows != 0 ? stk_vk_padded(matrix_bytes(&l->router)) : 0);
    }
    return bytes;
}

static bool import_pages(stk_vk_dense *d, const stk_vk_dense_options *o)
{
    const stk_vk_device_info *info = stk_vk_info(d->vk);
    uint64_t align = info->import_align_bytes, page = 4096;
    if (!o->pages || !info->unified || align == 0 || align > page ||
        (uintptr_t)o->pages % align != 0)
        return false;
    uint64_t bytes = (o->pages_bytes + page - 1) / page * page; // what mmap gave
    return stk_vk_buffer_import(d->vk, o->pages, bytes, &d->import) == STK_OK;
}

static bool are_supported(const stk_vk_dense_options *o)
{
    bool all = o->width % 32 == 0 && o->head_count * o->head_dim % 32 == 0 &&
               o->head_dim % 16 == 0 && o->head_count % o->kv_head_count == 0;
    for (uint32_t i = 0; i < o->layer_count; i++) {
        const stk_vk_dense_layer *l = &o->layers[i];
        all = all &&
              (!l->here || (stk_vk_dense_supports(&l->q) && stk_vk_dense_supports(&l->k) &&
                            stk_vk_dense_supports(&l->v) && stk_vk_dense_supports(&l->output) &&
                            (l->router.rows == 0 || stk_vk_dense_supports(&l->router))));
    }
    return all && (!o->has_head || stk_vk_dense_supports(&o->head));
}

stk_status stk_vk_dense_open(const stk_vk_dense_options *o, stk_vk_dense **out)
{
    if (!are_supported(o))
        return STK_UNSUPPORTED;
    stk_vk_dense *d = calloc(1, sizeof *d);
    if (!d)
        return STK_NO_MEMORY;
    d->vk = o->vk;
    d->options = *o;
    d->options.layers = NULL;
    d->layers = calloc(o->layer_count, sizeof *d->layers);
    placer p = {.dense = d, .status = d->layers ? STK_OK : STK_NO_MEMORY};
    if (p.status == STK_OK && import_pages(d, o)) {
        p.pages = o->pages;
        place_all(&p, o);
    } else if (p.status == STK_OK) {
        place_all(&p, o);
        p.status = stk_vk_buffer_take(d->vk, STK_VK_LOCAL, p.at, &d->copies);
        p.at = 0;
        p.copies = true;
        if (p.status == STK_OK)
            place_all(&p, o);
    }
    if (p.status != STK_OK) {
        stk_vk_dense_close(&d);
        return p.status;
    }
    *out = d;
    return STK_OK;
}

void stk_vk_dense_close(stk_vk_dense **pointer)
{
    stk_vk_dense *d = *pointer;
    if (!d)
        return;
    (void)d->vk->fn.DeviceWaitIdle(d->vk->device);
    stk_vk_buffer_give(d->vk, &d->import);
    stk_vk_buffer_give(d->vk, &d->copies);
    free(d->layers);
    free(d);
    *pointer = NULL;
}

bool stk_vk_dense_is_in_place(const stk_vk_dense *d)
{
    return d->import.handle != VK_NULL_HANDLE;
}
