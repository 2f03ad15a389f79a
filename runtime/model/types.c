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

const stk_type *stk_type_by_name(const char *name)
{
    for (size_t i = 0; i < TYPE_COUNT; i++) {
        if (strcasecmp(types[i]->name, name) == 0)
            return types[i];
    }
    return NULL;
}
