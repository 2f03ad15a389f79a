// tests/convert_model.h: rewrites a SmallThinker GGUF with other tensor types, orientation or fewer
// layers.
//
// Float values go through the types' own codecs; Q4_K and Q6_K, which stoker never writes, get a
// small encoder here that is good for what came from Q4_0. The vocabulary is left out.
#ifndef STK_TESTS_CONVERT_MODEL_H
#define STK_TESTS_CONVERT_MODEL_H

#include "model/gguf.h"
#include <stdbool.h>

typedef struct test_conversion {
    const char *from, *to; // paths
    uint32_t layer_count;  // 0: all
    bool transpose_down;   // ffn_down_exps [ffn, width, experts] to [width, ffn, experts]
    // The type to write a weight matrix with (norms and routers stay as they are). layer is -1
    // outside of blocks. Where a row is no multiple of the type's block, Q8_0 is written.
    const stk_type *(*type_of)(const char *name, int layer, void *user);
    void *user;
} test_conversion;

// Ends the test on failure.
void test_convert(const test_conversion *conversion);

#endif
