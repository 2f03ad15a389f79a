// engine/product.h: the products of weights and activations that a model is made of, each by the
// kernels that compute it.
//
// What a plan counts and what a measurement times are named alike here. Knows layouts and types;
// neither speeds nor layers.
#ifndef STK_ENGINE_PRODUCT_H
#define STK_ENGINE_PRODUCT_H

#include "model/model.h"
#include "store/expert_layout.h"

typedef enum stk_product_kind {
    STK_PRODUCT_DENSE, // attention, head, an expert's gate
    STK_PRODUCT_UP,    // of an expert: rows of neurons
    STK_PRODUCT_DOWN,
    STK_PRODUCT_KIND_COUNT
} stk_product_kind;

typedef struct stk_product {
    stk_product_kind kind;
    stk_format format;
    const stk_type *type;
} stk_product;

enum { STK_PRODUCTS_MAX = 48, STK_PRODUCT_NAME_BYTES = 48 };

// What the scheduler calls it (stk_plan_rate); never 0, and the same in every process.
uint32_t stk_product_code(const stk_product *product);
// "up Q4_K", "down Q4_0 bundle". Returns `text`.
const char *stk_product_name(const stk_product *product, char text[STK_PRODUCT_NAME_BYTES]);

stk_product stk_product_of_tensor(const stk_gguf_tensor *tensor, uint32_t cols); // a dense one
stk_product stk_product_of_matrix(stk_product_kind kind, const stk_matrix *matrix);

// Each of a model's products once, at most STK_PRODUCTS_MAX. Returns how many.
uint32_t stk_products_of(const stk_model *model, stk_product out[STK_PRODUCTS_MAX]);
// The same of a file; 0 of one that cannot be read, which whoever opens it in earnest says.
uint32_t stk_products_of_file(const char *path, stk_product out[STK_PRODUCTS_MAX]);

#endif
