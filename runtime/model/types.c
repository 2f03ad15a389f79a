#include "model/types.h"

#include <strings.h>

static const stk_type *const types[] = {
#define STK_TYPE(symbol, name) &stk_type_##symbol,
#include "model/types.def"
#undef STK_TYPE
};

enum { TYPE_COUNT = sizeof types / sizeof types[0] };

const stk_type *stk_type_at(size_t index)
{
    return index < TYPE_COUNT ? types[index] : NULL;
}

const stk_type *stk_type_find(uint32_t gguf_id)
{
    for (size_t i = 0; i < TYPE_COUNT; i++) {
        if (types[i]->gguf_id == gguf_id)
            return types[i];
    }
    return NULL;
}

const char *stk_type_foreign_name(uint32_t gguf_id)
{
    static const char *const names[] = {
        [9] = "Q8_1",     [10] = "Q2_K",  [15] = "Q8_K",  [16] = "IQ2_XXS", [17] = "IQ2_XS",
        [18] = "IQ3_XXS", [19] = "IQ1_S", [21] = "IQ3_S", [22] = "IQ2_S",   [29] = "IQ1_M",
        [34] = "TQ1_0",   [35] = "TQ2_0", [40] = "NVFP4",
    };
    return gguf_id < sizeof names / sizeof *names ? names[gguf_id] : NULL;
}

const stk_type *stk_type_by_name(const char *name)
{
    for (size_t i = 0; i < TYPE_COUNT; i++) {
        if (strcasecmp(types[i]->name, name) == 0)
            return types[i];
    }
    return NULL;
}
