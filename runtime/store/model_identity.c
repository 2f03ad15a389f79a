#include "store/model_identity.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "store/read_at.h"

enum { SAMPLES = 64, SAMPLE_BYTES = 4096, CHUNK_BYTES = 1 << 20 };

static stk_status hash_range(int fd, uint64_t at, uint64_t bytes, uint8_t *buffer, uint64_t *hash)
{
    while (bytes > 0) {
        size_t want = bytes < CHUNK_BYTES ? (size_t)bytes : CHUNK_BYTES;
        errno = stk_read_at(fd, buffer, want, want, at);
        if (errno != 0)
            return STK_IO;
        *hash = XXH3_64bits_withSeed(buffer, want, *hash);
        at += want;
        bytes -= want;
    }
    return STK_OK;
}

// Everything before the first tensor of a file.
static uint64_t header_bytes(const stk_gguf *gguf, uint32_t file)
{
    uint64_t bytes = stk_gguf_file_size_bytes(gguf, file);
    for (uint32_t i = 0; i < stk_gguf_tensor_count(gguf); i++) {
        const stk_gguf_tensor *t = stk_gguf_tensor_at(gguf, i);
        if (t->file_index == file && t->offset_bytes < bytes)
            bytes = t->offset_bytes;
    }
    return bytes;
}

static stk_status hash_file(const stk_gguf *gguf, uint32_t file, uint8_t *buffer, uint64_t *hash)
{
    uint64_t size = stk_gguf_file_size_bytes(gguf, file), header = header_bytes(gguf, file);
    uint64_t step = (size - header) / SAMPLES / SAMPLE_BYTES * SAMPLE_BYTES;
    int fd = open(stk_gguf_file_path(gguf, file), O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return STK_IO;
    stk_status status = hash_range(fd, 0, header, buffer, hash);
    for (uint64_t i = 0; i < SAMPLES && status == STK_OK && step > 0; i++)
        status = hash_range(fd, header + i * step, SAMPLE_BYTES, buffer, hash);
    if (status == STK_OK && step == 0) // small enough to take whole
        status = hash_range(fd, header, size - header, buffer, hash);
    int error = errno;
    close(fd);
    errno = error;
    return status;
}

stk_status stk_model_identity_read(const stk_gguf *gguf, const stk_log *log,
                                   stk_model_identity *out)
{
    stk_model_identity id = {0};
    uint8_t *buffer = malloc(CHUNK_BYTES);
    stk_status status = buffer ? STK_OK : STK_NO_MEMORY;
    for (uint32_t i = 0; i < stk_gguf_file_count(gguf) && status == STK_OK; i++) {
        status = hash_file(gguf, i, buffer, &id.hash);
        if (status != STK_OK)
            (void)stk_fail(log, status, "%s: %s", stk_gguf_file_path(gguf, i),
                           errno == ENODATA ? "the file has become shorter" : strerror(errno));
        id.size_bytes += stk_gguf_file_size_bytes(gguf, i);
    }
    free(buffer);
    if (status == STK_OK)
        *out = id;
    return status;
}
