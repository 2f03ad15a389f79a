#include "store/model_file.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct stk_model_file {
    const stk_gguf *gguf;
    const stk_log *log;
    uint32_t count;
    int fds[]; // [count]
};

stk_status stk_model_file_open(const stk_gguf *gguf, const stk_log *log, stk_model_file **out)
{
    uint32_t count = stk_gguf_file_count(gguf);
    stk_model_file *file = calloc(1, sizeof *file + count * sizeof *file->fds);
    if (!file)
        return STK_NO_MEMORY;
    file->gguf = gguf;
    file->log = log;
    for (; file->count < count; file->count++) {
        const char *path = stk_gguf_file_path(gguf, file->count);
        file->fds[file->count] = open(path, O_RDONLY | O_CLOEXEC);
        if (file->fds[file->count] < 0) {
            stk_status status = stk_fail(log, STK_IO, "%s: %s", path, strerror(errno));
            stk_model_file_close(&file);
            return status;
        }
    }
    *out = file;
    return STK_OK;
}

void stk_model_file_close(stk_model_file **file)
{
    if (!*file)
        return;
    for (uint32_t i = 0; i < (*file)->count; i++)
        close((*file)->fds[i]);
    free(*file);
    *file = NULL;
}

stk_status stk_model_file_read(const stk_model_file *file, const stk_gguf_tensor *tensor,
                               uint64_t offset_bytes, uint64_t size_bytes, void *to)
{
    uint64_t at = tensor->offset_bytes + offset_bytes;
    char *p = to;
    while (size_bytes > 0) {
        ssize_t n = pread(file->fds[tensor->file_index], p, size_bytes, (off_t)at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return stk_fail(file->log, STK_IO, "%s: tensor '%.*s', byte %" PRIu64 ": %s",
                            stk_gguf_file_path(file->gguf, tensor->file_index),
                            (int)tensor->name.len_bytes, tensor->name.data, at,
                            n < 0 ? strerror(errno) : "the file has become shorter");
        p += n;
        at += (uint64_t)n;
        size_bytes -= (uint64_t)n;
    }
    return STK_OK;
}

void stk_model_file_forget(const stk_model_file *file, const stk_gguf_tensor *tensor)
{
    posix_fadvise(file->fds[tensor->file_index], (off_t)tensor->offset_bytes,
                  (off_t)tensor->size_bytes, POSIX_FADV_DONTNEED);
}
