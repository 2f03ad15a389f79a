#include "engine/product.h"

#include <stdio.h>

uint32_t stk_product_code(const stk_product *p)
{
    return 1u << 24 | (uint32_t)p->kind << 16 | (uint32_t)p->format << 8 | p->type->gguf_id;
}

const char *stk_product_name(const stk_product *p, char text[STK_PRODUCT_NAME_BYTES])
{
    static const char *const kinds[STK_PRODUCT_KIND_COUNT] = {"dense", "up", "down"};
    static const char *const formats[STK_FORMAT_COUNT] = {
        [STK_FORMAT_ROWS] = "",
        [STK_FORMAT_ROWS_T] = " by neuron",
        [STK_FORMAT_X16] = " packed",
        [STK_FORMAT_BUNDLE_UP] = " bundle",
        [STK_FORMAT_BUNDLE_DOWN] = " bundle",
        [STK_FORMAT_BUNDLE_T_UP] = " bundle by neuron",
        [STK_FORMAT_BUNDLE_T_DOWN] = " bundle by neuron",
    };
    snprintf(text, STK_PRODUCT_NAME_BYTES, "%s %s%s", kinds[p->kind], p->type->name,
             formats[p->format]);
    return text;
}

stk_product stk_product_of_tensor(const stk_gguf_tensor *tensor, uint32_t cols)
{
    return (stk_product){STK_PRODUCT_DENSE, stk_dense_format(tensor->type, cols), tensor->type};
}

stk_product stk_product_of_matrix(stk_product_kind kind, const stk_matrix *matrix)
{
    return (stk_product){kind, matrix->format, matrix->type};
}

static void add(stk_product *list, uint32_t *count, stk_product p)
{
    for (uint32_t i = 0; i < *count; i++)
        if (stk_product_code(&list[i]) == stk_product_code(&p))
            return;
    if (*count < STK_PRODUCTS_MAX)
        list[(*count)++] = p;
}

uint32_t stk_products_of(const stk_model *m, stk_product out[STK_PRODUCTS_MAX])
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < m->layer_count; i++) {
        const stk_layer *l = &m->layers[i];
        const stk_gguf_tensor *const dense[] = {l->attn_q, l->attn_k, l->attn_v};
        const stk_expert_layout e = stk_expert_layout_of(m, l);
        for (size_t k = 0; k < sizeof dense / sizeof *dense; k++)
            add(out, &count, stk_product_of_tensor(dense[k], m->width));
        add(out, &count, stk_product_of_tensor(l->attn_output, m->head_count * m->head_dim));
        add(out, &count, stk_product_of_matrix(STK_PRODUCT_DENSE, &e.gate));
        add(out, &count, stk_product_of_matrix(STK_PRODUCT_UP, &e.up));
        add(out, &count, stk_product_of_matrix(STK_PRODUCT_DOWN, &e.down));
    }
    add(out, &count, stk_product_of_tensor(m->output, m->width));
    return count;
}

uint32_t stk_products_of_file(const char *path, stk_product out[STK_PRODUCTS_MAX])
{
    stk_gguf *gguf = NULL;
    stk_model model = {0};
    uint32_t count = 0;
    if (stk_gguf_open(path, NULL, &gguf) == STK_OK && stk_model_load(gguf, NULL, &model) == STK_OK)
        count = stk_products_of(&model, out);
    stk_model_free(&model);
    stk_gguf_close(&gguf);
    return count;
}
