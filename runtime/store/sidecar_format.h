// store/sidecar_format.h: the bytes of a sidecar's header, shared by its reader and its writer.
#ifndef STK_STORE_SIDECAR_FORMAT_H
#define STK_STORE_SIDECAR_FORMAT_H

#include "base/log.h"
#include "model/gguf.h"
#include "model/model.h"

enum { STK_SIDECAR_PAGE = 4096, STK_SIDECAR_VERSION = 1 };

#define STK_SIDECAR_MAGIC "STKEXPRT" // without the zero

typedef struct stk_sidecar_header { // little endian, padded to a page in the file
    char magic[8];                  // STK_SIDECAR_MAGIC
    uint32_t version;
    uint32_t entry_count;  // experts of all layers
    uint32_t packed_count; // of which are written; entry_count when finished
    uint32_t reserved;
    uint64_t model_bytes;    // all files of the GGUF
    uint64_t model_mtime_ns; // newest of them
    uint64_t model_hash;     // of tensor names, types, shapes and places
    uint64_t data_at, data_bytes;
    uint64_t checksums_hash; // of the table, when finished
    uint64_t hash;           // of everything before it
} stk_sidecar_header;

uint64_t stk_sidecar_header_hash(const stk_sidecar_header *header);
// The header a finished sidecar of this model has, but for packed_count and the hashes of it.
STK_CHECKED stk_status stk_sidecar_describe(const stk_gguf *gguf, const stk_model *model,
                                            stk_sidecar_header *out, const stk_log *log);
// Where each layer's experts start and how long one is.
void stk_sidecar_place(const stk_model *model, uint64_t *layer_at, uint64_t *slot_bytes);

#endif
