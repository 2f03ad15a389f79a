// store/model_identity.h: whether two copies of a model are the same.
#ifndef STK_STORE_MODEL_IDENTITY_H
#define STK_STORE_MODEL_IDENTITY_H

#include "base/log.h"
#include "model/gguf.h"

typedef struct stk_model_identity {
    uint64_t size_bytes; // of all files
    uint64_t hash;       // of the header: metadata, tensor names, types, places; and of samples
} stk_model_identity;

// Reads the header and 64 samples of 4 KiB spread over each file, so that it takes no time worth
// mentioning: enough to tell models apart, not to find damage. STK_IO, STK_NO_MEMORY.
STK_CHECKED stk_status stk_model_identity_read(const stk_gguf *gguf, const stk_log *log,
                                               stk_model_identity *out);

#endif
