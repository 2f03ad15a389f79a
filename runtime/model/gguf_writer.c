#include "model/gguf_writer.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct bytes {
    uint8_t *data;
    size_t size, capacity;
} bytes;

struct stk_gguf_writer {
    char *path, *temporary;
    const stk_log *log;
    int fd;
    stk_status status; // the first failure; sticky
    uint32_t version, alignment;
    bool overwrite;
    bytes keys, infos;
    uint64_t key_count, tensor_count;
    uint64_t *sizes; // [tensor_count] bytes of each tensor
    uint64_t data_bytes;
    bool header_written;
    uint64_t current, current_done; // tensor being appended, bytes of it so far
};

static uint64_t padding(const stk_gguf_writer *writer, uint64_t size)
{
    return -size & (writer->alignment - 1);
}

static void fail_memory(stk_gguf_writer *writer)
{
    if (writer->status == STK_OK)
        writer->status = stk_fail(writer->log, STK_NO_MEMORY, "%s: no memory for the header",
                                  writer->path);
}

static void put(stk_gguf_writer *writer, bytes *to, const void *data, size_t size)
{
    if (writer->status != STK_OK || size == 0)
        return;
    if (size > to->capacity - to->size) {
        size_t capacity = 2 * (to->size + size);
        uint8_t *grown = realloc(to->data, capacity);
        if (!grown) {
            fail_memory(writer);
            return;
        }
        to->data = grown;
        to->capacity = capacity;
    }
    memcpy(to->data + to->size, data, size);
    to->size += size;
}

static void put_u32(stk_gguf_writer *writer, bytes *to, uint32_t value)
{
    put(writer, to, &value, sizeof value);
}

static void put_u64(stk_gguf_writer *writer, bytes *to, uint64_t value)
{
    put(writer, to, &value, sizeof value);
}

static void put_string(stk_gguf_writer *writer, bytes *to, stk_str text)
{
    put_u64(writer, to, text.len_bytes);
    put(writer, to, text.data, text.len_bytes);
}

static void put_key(stk_gguf_writer *writer, const char *key, stk_gguf_kind kind)
{
    put_string(writer, &writer->keys, stk_str_of(key));
    put_u32(writer, &writer->keys, kind);
    writer->key_count++;
}

stk_status stk_gguf_writer_open(const stk_gguf_writer_options *options, const stk_log *log,
                                stk_gguf_writer **out)
{
    struct stat info;
    if (!options->overwrite && lstat(options->path, &info) == 0)
        return stk_fail(log, STK_INVALID, "%s: exists already", options->path);
    if (stat(options->path, &info) == 0 && !S_ISREG(info.st_mode))
        return stk_fail(log, STK_INVALID, "%s: is not a regular file", options->path);
    stk_gguf_writer *writer = calloc(1, sizeof *writer);
    if (!writer)
        return stk_fail(log, STK_NO_MEMORY, "%s: no memory to write it", options->path);
    writer->log = log;
    writer->fd = -1;
    writer->version = options->version ? options->version : 3;
    writer->alignment = options->alignment ? options->alignment : 32;
    writer->overwrite = options->overwrite;
    stk_status status = STK_OK;
    if (asprintf(&writer->path, "%s", options->path) < 0) {
        writer->path = NULL;
        status = stk_fail(log, STK_NO_MEMORY, "%s: no memory to write it", options->path);
    } else if (asprintf(&writer->temporary, "%s.%ld.tmp", options->path, (long)getpid()) < 0) {
        writer->temporary = NULL;
        status = stk_fail(log, STK_NO_MEMORY, "%s: no memory to write it", options->path);
    } else {
        writer->fd = open(writer->temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (writer->fd < 0) {
            status = stk_fail(log, STK_IO, "%s: cannot create: %s", writer->temporary,
                              strerror(errno));
            free(writer->temporary); // not ours to remove
            writer->temporary = NULL;
        }
    }
    if (status != STK_OK) {
        stk_gguf_writer_abandon(&writer);
        return status;
    }
    if (options->alignment)
        stk_gguf_writer_u32(writer, "general.alignment", options->alignment);
    *out = writer;
    return STK_OK;
}

#define SCALAR(suffix, c_type, file_kind)                                                          \
    void stk_gguf_writer_##suffix(stk_gguf_writer *writer, const char *key, c_type value)          \
    {                                                                                              \
        put_key(writer, key, file_kind);                                                           \
        put(writer, &writer->keys, &value, sizeof value);                                          \
    }
SCALAR(u8, uint8_t, STK_GGUF_U8)
SCALAR(i8, int8_t, STK_GGUF_I8)
SCALAR(u16, uint16_t, STK_GGUF_U16)
SCALAR(i16, int16_t, STK_GGUF_I16)
SCALAR(u32, uint32_t, STK_GGUF_U32)
SCALAR(i32, int32_t, STK_GGUF_I32)
SCALAR(u64, uint64_t, STK_GGUF_U64)
SCALAR(i64, int64_t, STK_GGUF_I64)
SCALAR(f32, float, STK_GGUF_F32)
SCALAR(f64, double, STK_GGUF_F64)
#undef SCALAR

void stk_gguf_writer_bool(stk_gguf_writer *writer, const char *key, bool value)
{
    uint8_t byte = value;
    put_key(writer, key, STK_GGUF_BOOL);
    put(writer, &writer->keys, &byte, 1);
}

void stk_gguf_writer_string(stk_gguf_writer *writer, const char *key, stk_str value)
{
    put_key(writer, key, STK_GGUF_STRING);
    put_string(writer, &writer->keys, value);
}

static size_t kind_bytes(stk_gguf_kind kind)
{
    switch (kind) {
    case STK_GGUF_U8:
    case STK_GGUF_I8:
    case STK_GGUF_BOOL:
        return 1;
    case STK_GGUF_U16:
    case STK_GGUF_I16:
        return 2;
    case STK_GGUF_U32:
    case STK_GGUF_I32:
    case STK_GGUF_F32:
        return 4;
    default:
        return 8;
    }
}

void stk_gguf_writer_array(stk_gguf_writer *writer, const char *key, stk_gguf_kind kind,
                           const void *values, uint64_t count)
{
    put_key(writer, key, STK_GGUF_ARRAY);
    put_u32(writer, &writer->keys, kind);
    put_u64(writer, &writer->keys, count);
    put(writer, &writer->keys, values, count * kind_bytes(kind));
}

void stk_gguf_writer_strings(stk_gguf_writer *writer, const char *key, const stk_str *values,
                             uint64_t count)
{
    put_key(writer, key, STK_GGUF_ARRAY);
    put_u32(writer, &writer->keys, STK_GGUF_STRING);
    put_u64(writer, &writer->keys, count);
    for (uint64_t i = 0; i < count; i++)
        put_string(writer, &writer->keys, values[i]);
}

void stk_gguf_writer_tensor(stk_gguf_writer *writer, const char *name, const stk_type *type,
                            const uint64_t *dims, uint32_t dim_count)
{
    uint64_t rows = 1;
    uint64_t *sizes = realloc(writer->sizes, (writer->tensor_count + 1) * sizeof *sizes);
    if (!sizes) {
        fail_memory(writer);
        return;
    }
    writer->sizes = sizes;
    put_string(writer, &writer->infos, stk_str_of(name));
    put_u32(writer, &writer->infos, dim_count);
    for (uint32_t i = 0; i < dim_count; i++) {
        put_u64(writer, &writer->infos, dims[i]);
        rows *= i ? dims[i] : 1;
    }
    put_u32(writer, &writer->infos, type->gguf_id);
    put_u64(writer, &writer->infos, writer->data_bytes);
    uint64_t size = rows * stk_type_row_bytes(type, dims[0]);
    sizes[writer->tensor_count++] = size;
    writer->data_bytes += size + padding(writer, size);
}

uint64_t stk_gguf_writer_data_bytes(const stk_gguf_writer *writer)
{
    return writer->data_bytes;
}

static void write_all(stk_gguf_writer *writer, const void *data, size_t size)
{
    const uint8_t *p = data;
    while (size && writer->status == STK_OK) {
        ssize_t n = write(writer->fd, p, size);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            writer->status = stk_fail(writer->log, STK_IO, "%s: cannot write: %s",
                                      writer->temporary, strerror(n < 0 ? errno : EIO));
            return;
        }
        p += n;
        size -= (size_t)n;
    }
}

static void write_padding(stk_gguf_writer *writer, uint64_t size)
{
    static const uint8_t zeros[4096];
    for (uint64_t left = padding(writer, size); left && writer->status == STK_OK;) {
        size_t n = left < sizeof zeros ? left : sizeof zeros;
        write_all(writer, zeros, n);
        left -= n;
    }
}

static void write_header(stk_gguf_writer *writer)
{
    bytes head = {0};
    if (writer->header_written)
        return;
    writer->header_written = true;
    put(writer, &head, "GGUF", 4);
    put_u32(writer, &head, writer->version);
    put_u64(writer, &head, writer->tensor_count);
    put_u64(writer, &head, writer->key_count);
    write_all(writer, head.data, head.size);
    write_all(writer, writer->keys.data, writer->keys.size);
    write_all(writer, writer->infos.data, writer->infos.size);
    write_padding(writer, head.size + writer->keys.size + writer->infos.size);
    free(head.data);
}

stk_status stk_gguf_writer_append(stk_gguf_writer *writer, const void *data, size_t size_bytes)
{
    write_header(writer);
    if (writer->status != STK_OK)
        return writer->status;
    if (writer->current >= writer->tensor_count ||
        size_bytes > writer->sizes[writer->current] - writer->current_done) {
        writer->status = stk_fail(writer->log, STK_INVALID,
                                  "%s: more data than tensor %" PRIu64 " of %" PRIu64 " holds",
                                  writer->path, writer->current, writer->tensor_count);
        return writer->status;
    }
    write_all(writer, data, size_bytes);
    writer->current_done += size_bytes;
    if (writer->current_done == writer->sizes[writer->current]) {
        write_padding(writer, writer->current_done);
        writer->current++;
        writer->current_done = 0;
    }
    return writer->status;
}

stk_status stk_gguf_writer_finish(stk_gguf_writer **writer)
{
    stk_gguf_writer *w = *writer;
    write_header(w);
    if (w->status == STK_OK && w->current != w->tensor_count) {
        w->status = stk_fail(w->log, STK_INVALID,
                             "%s: tensor %" PRIu64 " of %" PRIu64 " lacks data", w->path,
                             w->current, w->tensor_count);
    }
    if (w->status == STK_OK) {
        int failed = close(w->fd); // where some file systems report that the disk is full
        w->fd = -1;
        unsigned flags = w->overwrite ? 0 : RENAME_NOREPLACE;
        if (!failed)
            failed = renameat2(AT_FDCWD, w->temporary, AT_FDCWD, w->path, flags);
        if (failed && errno == EINVAL && flags) // a file system without RENAME_NOREPLACE
            failed = rename(w->temporary, w->path);
        if (failed)
            w->status = stk_fail(w->log, STK_IO, "%s: cannot finish: %s", w->path, strerror(errno));
    }
    stk_status status = w->status;
    if (status == STK_OK) {
        free(w->temporary);
        w->temporary = NULL;
    }
    stk_gguf_writer_abandon(writer);
    return status;
}

void stk_gguf_writer_abandon(stk_gguf_writer **writer)
{
    stk_gguf_writer *w = *writer;
    if (!w)
        return;
    if (w->fd >= 0)
        close(w->fd);
    if (w->temporary)
        unlink(w->temporary);
    free(w->temporary);
    free(w->path);
    free(w->keys.data);
    free(w->infos.data);
    free(w->sizes);
    free(w);
    *writer = NULL;
}
