// model/gguf_writer.h: writes a GGUF file (version 3) as a stream, for synth and for tests.
//
// Use: open, add keys and declare tensors in any order, then append the bytes of every tensor in
// the order of declaration, then finish. The header is kept in memory, data is not. The file
// grows under a temporary name beside `path` and takes its name only in finish, so no reader ever
// sees half a model. A failure is remembered: it is logged once, later calls return it, and what
// was written is removed.
#ifndef STK_MODEL_GGUF_WRITER_H
#define STK_MODEL_GGUF_WRITER_H

#include "model/gguf.h"

// Thread-safety: none.
typedef struct stk_gguf_writer stk_gguf_writer;

typedef struct stk_gguf_writer_options {
    const char *path;   // copied
    bool overwrite;     // false: STK_INVALID when `path` exists
    uint32_t version;   // 0 means 3; 2 has the same layout
    uint32_t alignment; // of tensor data, a power of two; 0 means 32 and adds no key
} stk_gguf_writer_options;

// STK_IO when the file cannot be created. *out is written only on STK_OK; end it with finish or
// abandon.
STK_CHECKED stk_status stk_gguf_writer_open(const stk_gguf_writer_options *options,
                                            const stk_log *log, stk_gguf_writer **out);

// Metadata, before the first append. A failure to allocate shows in the next checked call.
void stk_gguf_writer_u8(stk_gguf_writer *writer, const char *key, uint8_t value);
void stk_gguf_writer_i8(stk_gguf_writer *writer, const char *key, int8_t value);
void stk_gguf_writer_u16(stk_gguf_writer *writer, const char *key, uint16_t value);
void stk_gguf_writer_i16(stk_gguf_writer *writer, const char *key, int16_t value);
void stk_gguf_writer_u32(stk_gguf_writer *writer, const char *key, uint32_t value);
void stk_gguf_writer_i32(stk_gguf_writer *writer, const char *key, int32_t value);
void stk_gguf_writer_u64(stk_gguf_writer *writer, const char *key, uint64_t value);
void stk_gguf_writer_i64(stk_gguf_writer *writer, const char *key, int64_t value);
void stk_gguf_writer_f32(stk_gguf_writer *writer, const char *key, float value);
void stk_gguf_writer_f64(stk_gguf_writer *writer, const char *key, double value);
void stk_gguf_writer_bool(stk_gguf_writer *writer, const char *key, bool value);
void stk_gguf_writer_string(stk_gguf_writer *writer, const char *key, stk_str value);
// values[count] of a scalar kind, native layout (bool: one byte each, 0 or 1).
void stk_gguf_writer_array(stk_gguf_writer *writer, const char *key, stk_gguf_kind kind,
                           const void *values, uint64_t count);
void stk_gguf_writer_strings(stk_gguf_writer *writer, const char *key, const stk_str *values,
                             uint64_t count);

// Declares a tensor of dims[dim_count], dims[0] contiguous and whole blocks of `type`.
void stk_gguf_writer_tensor(stk_gguf_writer *writer, const char *name, const stk_type *type,
                            const uint64_t *dims, uint32_t dim_count);

// Bytes of all declared tensors, padding included.
uint64_t stk_gguf_writer_data_bytes(const stk_gguf_writer *writer);

// Appends data[0..size_bytes), which must not cross the end of a tensor; pads where one ends. The
// first call writes the header. STK_IO names the path and errno.
STK_CHECKED stk_status stk_gguf_writer_append(stk_gguf_writer *writer, const void *data,
                                              size_t size_bytes);

// Flushes, renames and frees; *writer becomes NULL whatever happens. STK_INVALID when a declared
// tensor lacks data.
STK_CHECKED stk_status stk_gguf_writer_finish(stk_gguf_writer **writer);

// Removes what was written and frees; *writer becomes NULL. NULL is allowed.
void stk_gguf_writer_abandon(stk_gguf_writer **writer);

#endif
