#include "store/model_file.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "store/read_at.h"

enum { BOUNCE_BYTES = 1 << 20 };

struct stk_model_file {
    const stk_gguf *gguf;
    const stk_log *log;
    bool direct;
    uint32_t count;
    int fds[]; // [count]
};

static int open_one(stk_model_file *file, const char *path)
{
    if (file->direct) {
        int fd = open(path, O_RDONLY | O_CLOEXEC | O_DIRECT);
        if (fd >= 0 || errno != EINVAL)
            return fd;
        stk_info(file->log, "%s: this file system has no direct reads; its page cache will grow",
                 path);
        file->direct = false;
    }
    return open(path, O_RDONLY | O_CLOEXEC);
}

stk_status stk_model_file_open(const stk_gguf *gguf, bool direct, const stk_log *log,
                               stk_model_file **out)
{
    uint32_t count = stk_gguf_file_count(gguf);
    stk_model_file *file = calloc(1, sizeof *file + count * sizeof *file->fds);
    if (!file)
        return STK_NO_MEMORY;
    file->gguf = gguf;
    file->log = log;
    file->direct = direct;
    for (; file->count < count; file->count++) {
        const char *path = stk_gguf_file_path(gguf, file->count);
        file->fds[file->count] = open_one(file, path);
        if (file->fds[file->count] < 0) {
            stk_status status = stk_fail(log, STK_IO, "%s: %s", path, strerror(errno));
            stk_model_file_close(&file);
            return status;
        }
    }
    // One file without direct reads decides for all: unaligned reads must be possible everywhere.
    for (uint32_t i = 0; i < count && direct && !file->direct; i++)
        (void)fcntl(file->fds[i], F_SETFL, O_RDONLY);
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

bool stk_model_file_is_direct(const stk_model_file *file)
{
    return file->direct;
}

int stk_model_file_fd(const stk_model_file *file, uint32_t file_index)
{
    return file->fds[file_index];
}

// Direct reads go through an aligned buffer, a piece at a time.
static int read_direct(int fd, uint8_t *to, uint64_t bytes, uint64_t at, uint64_t *failed_at)
{
    uint8_t *bounce = aligned_alloc(STK_DIRECT_ALIGN, BOUNCE_BYTES);
    if (!bounce)
        return ENOMEM;
    int error = 0;
    while (bytes > 0 && error == 0) {
        uint64_t skip = at % STK_DIRECT_ALIGN, room = BOUNCE_BYTES - skip;
        uint64_t take = bytes < room ? bytes : room;
        uint64_t whole = (skip + take + STK_DIRECT_ALIGN - 1) / STK_DIRECT_ALIGN * STK_DIRECT_ALIGN;
        error = stk_read_at(fd, bounce, whole, skip + take, at - skip);
        *failed_at = at;
        if (error == 0)
            memcpy(to, bounce + skip, take);
        to += take;
        at += take;
        bytes -= take;
    }
    free(bounce);
    return error;
}

static stk_status failed(const stk_model_file *file, const stk_gguf_tensor *tensor, uint64_t at,
                         int error)
{
    return stk_fail(file->log, STK_IO, "%s: tensor '%.*s', at byte %" PRIu64 ": %s",
                    stk_gguf_file_path(file->gguf, tensor->file_index), (int)tensor->name.len_bytes,
                    tensor->name.data, at,
                    error == ENODATA ? "the file has become shorter" : strerror(error));
}

stk_status stk_model_file_read(const stk_model_file *file, const stk_gguf_tensor *tensor,
                               uint64_t offset_bytes, uint64_t size_bytes, void *to)
{
    uint64_t at = tensor->offset_bytes + offset_bytes;
    int fd = file->fds[tensor->file_index];
    int error = file->direct ? read_direct(fd, to, size_bytes, at, &at)
                             : stk_read_at(fd, to, size_bytes, size_bytes, at);
    return error == 0 ? STK_OK : failed(file, tensor, at, error);
}

uint64_t stk_model_file_view_bytes(uint64_t size_bytes)
{
    return (size_bytes + 2 * STK_DIRECT_ALIGN - 2) / STK_DIRECT_ALIGN * STK_DIRECT_ALIGN;
}

stk_status stk_model_file_view(const stk_model_file *file, const stk_gguf_tensor *tensor,
                               uint64_t offset_bytes, uint64_t size_bytes, void *pages,
                               const void **out)
{
    uint64_t at = tensor->offset_bytes + offset_bytes, skip = at % STK_DIRECT_ALIGN;
    uint64_t whole = (skip + size_bytes + STK_DIRECT_ALIGN - 1) / STK_DIRECT_ALIGN *
                     STK_DIRECT_ALIGN;
    int error = stk_read_at(file->fds[tensor->file_index], pages, whole, skip + size_bytes,
                            at - skip);
    if (error != 0)
        return failed(file, tensor, at, error);
    *out = (const uint8_t *)pages + skip;
    return STK_OK;
}
