// model/types.h: the tensor element types met in GGUF files, and what each means.
//
// One file per type (model/types/NAME.c) holds its id, its block geometry and its reference
// codec; types.def lists them. Knows nothing of kernels: a kernel for a type is an entry in the
// cpu or vulkan tables, and a type without one still runs through the reference.
#ifndef STK_MODEL_TYPES_H
#define STK_MODEL_TYPES_H

#include <stddef.h>
#include <stdint.h>

// 32 consecutive values of a block-quantised row, exactly: value[i] = d * q[i] - m.
typedef struct stk_block32 {
    float d;       // finite for a sane file
    float m;       // 0 for symmetric types
    int16_t q[32]; // |q[i]| <= 4096, so that an int32 holds the dot product with 32 int8
} stk_block32;

typedef struct stk_type {
    const char *name;     // "Q4_0"
    uint32_t gguf_id;     // ggml_type in the file
    uint32_t block_len;   // values per block; rows hold whole blocks
    uint32_t block_bytes; // bytes per block
    // Integer view of values [32*index, 32*index+32) of a row; NULL for float types (F32, F16,
    // BF16), which are multiplied with unquantised activations. See docs/arithmetic.md.
    void (*unpack32)(const void *row, size_t index, stk_block32 *out);
    // Writes `count` floats, exactly what the file means; count is a multiple of block_len.
    void (*dequantize)(const void *row, float *out, size_t count);
    // Quantises as llama.cpp's reference does; NULL where stoker never writes the type.
    void (*quantize)(const float *in, void *row, size_t count);
} stk_type;

#define STK_TYPE(symbol, name) extern const stk_type stk_type_##symbol;
#include "model/types.def"
#undef STK_TYPE

// The type with this id in GGUF files, or NULL.
const stk_type *stk_type_find(uint32_t gguf_id);
// The type with this name ("Q4_0", case ignored), or NULL.
const stk_type *stk_type_by_name(const char *name);
// What other programs call a type that stoker does not compute with; NULL where that is not known.
const char *stk_type_foreign_name(uint32_t gguf_id);
// Types of types.def in order; NULL past the end. For tests and listings.
const stk_type *stk_type_at(size_t index);

// Bytes of a row of `count` values (a multiple of block_len).
static inline uint64_t stk_type_row_bytes(const stk_type *type, uint64_t count)
{
    return count / type->block_len * type->block_bytes;
}

#endif
