// model/gguf.h: reads the header of a GGUF model, which may be split over several files.
//
// Owns the mapping of each file's header and the parsed directory of metadata and tensors. Knows
// nothing of architectures. Every length, count and offset in the file is checked before it is
// used; a malformed file gives STK_FORMAT and a log line that names the file, the field and the
// byte offset. Invariant: after open, every tensor's byte range lies inside its file and no two
// tensors of one file overlap.
//
// Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md (versions 2 and 3).
#ifndef STK_MODEL_GGUF_H
#define STK_MODEL_GGUF_H

#include "base/log.h"
#include "base/str.h"
#include "model/types.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// Thread-safety: immutable after open.
typedef struct stk_gguf stk_gguf;

enum { STK_GGUF_DIMS_MAX = 4, STK_GGUF_FILES_MAX = 512 };

typedef enum stk_gguf_kind { // the values are the file format's
    STK_GGUF_U8 = 0,
    STK_GGUF_I8 = 1,
    STK_GGUF_U16 = 2,
    STK_GGUF_I16 = 3,
    STK_GGUF_U32 = 4,
    STK_GGUF_I32 = 5,
    STK_GGUF_F32 = 6,
    STK_GGUF_BOOL = 7,
    STK_GGUF_STRING = 8,
    STK_GGUF_ARRAY = 9,
    STK_GGUF_U64 = 10,
    STK_GGUF_I64 = 11,
    STK_GGUF_F64 = 12,
} stk_gguf_kind;

typedef struct stk_gguf_tensor {
    stk_str name;
    const stk_type *type;             // never NULL; tensors of unknown types are refused at open
    uint32_t dim_count;               // 1..4
    uint64_t dims[STK_GGUF_DIMS_MAX]; // dims[0] is contiguous; unused ones are 1
    uint32_t file_index;              // which split
    uint64_t offset_bytes;            // absolute, in that file
    uint64_t size_bytes;
} stk_gguf_tensor;

// An array in the file. Strings are reached through stk_gguf_array_str in order or by index.
typedef struct stk_gguf_array {
    stk_gguf_kind kind; // of the elements; never STK_GGUF_ARRAY (nested arrays are skipped)
    uint64_t count;
    const uint8_t *data;    // raw elements, unaligned; for strings use stk_gguf_array_str
    const stk_str *strings; // [count] when kind is STK_GGUF_STRING, else NULL
} stk_gguf_array;

// Opens `path`. If its name ends in -00001-of-0000N.gguf (or any other split of the set) the
// other splits are opened too. *out is written only on STK_OK; the caller closes it.
// STK_IO: cannot open or map; STK_FORMAT: malformed; STK_UNSUPPORTED: version or tensor type.
STK_CHECKED stk_status stk_gguf_open(const char *path, const stk_log *log, stk_gguf **out);

// Closes *gguf and sets it to NULL; NULL is allowed. Everything borrowed from it becomes invalid.
void stk_gguf_close(stk_gguf **gguf);

uint32_t stk_gguf_version(const stk_gguf *gguf);
uint32_t stk_gguf_file_count(const stk_gguf *gguf);
const char *stk_gguf_file_path(const stk_gguf *gguf, uint32_t file_index);
uint64_t stk_gguf_file_size_bytes(const stk_gguf *gguf, uint32_t file_index);

uint32_t stk_gguf_tensor_count(const stk_gguf *gguf);
const stk_gguf_tensor *stk_gguf_tensor_at(const stk_gguf *gguf, uint32_t index);
const stk_gguf_tensor *stk_gguf_tensor_find(const stk_gguf *gguf, const char *name); // or NULL

// Metadata. Each returns false, leaving *out alone, when the key is absent or of another kind.
// stk_gguf_u64 takes every integer kind (negative values are "another kind") and bool.
bool stk_gguf_has(const stk_gguf *gguf, const char *key);
bool stk_gguf_u64(const stk_gguf *gguf, const char *key, uint64_t *out);
bool stk_gguf_f64(const stk_gguf *gguf, const char *key, double *out);
bool stk_gguf_bool(const stk_gguf *gguf, const char *key, bool *out);
bool stk_gguf_string(const stk_gguf *gguf, const char *key, stk_str *out);
bool stk_gguf_get_array(const stk_gguf *gguf, const char *key, stk_gguf_array *out);
// Element `index` of an integer array of any width, sign-extended.
int64_t stk_gguf_array_i64(const stk_gguf_array *array, uint64_t index);

#endif
