#include "store/sidecar.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "store/read_at.h"
#include "store/sidecar_format.h"

struct stk_sidecar {
    char *path;
    const stk_log *log;
    int fd;
    uint32_t entry_count, expert_count;
    uint32_t entry_first; // in the file, of the callers' entry 0
    uint64_t *layer_at;   // [layer_count]: offset of its first expert
    uint64_t *slot_bytes; // [layer_count]
    uint64_t *checksums;  // [entry_count]
    uint8_t *dropped;     // [entry_count]
};

bool stk_sidecar_default_path(const char *model_path, char *out, size_t out_bytes)
{
    size_t n = strlen(model_path);
    if (n > 5 && strcmp(model_path + n - 5, ".gguf") == 0)
        n -= 5;
    if (n + sizeof ".stoker" > out_bytes)
        return false;
    memcpy(out, model_path, n);
    memcpy(out + n, ".stoker", sizeof ".stoker");
    return true;
}

// It is not used, which is no failure of what was asked for.
#define refuse(log, status, ...) (stk_warn((log), __VA_ARGS__), (status))

static stk_status check_header(const stk_sidecar_header *h, const stk_sidecar_header *want,
                               const char *path, const stk_log *log)
{
    if (memcmp(h->magic, want->magic, sizeof h->magic) != 0)
        return refuse(log, STK_FORMAT, "%s: not a stoker sidecar", path);
    if (h->version != want->version)
        return refuse(log, STK_FORMAT,
                      "%s: sidecar version %u, this stoker reads version %u; pack it again", path,
                      h->version, want->version);
    if (h->hash != stk_sidecar_header_hash(h))
        return refuse(log, STK_FORMAT, "%s: the header is damaged; pack it again", path);
    if (h->model_bytes != want->model_bytes || h->model_mtime_ns != want->model_mtime_ns ||
        h->model_hash != want->model_hash)
        return refuse(log, STK_INVALID,
                      "%s: made from another model or an older copy of it; pack it again", path);
    if (h->data_bytes != want->data_bytes || h->entry_count != want->entry_count)
        return refuse(log, STK_FORMAT, "%s: other sizes than the model's; pack it again", path);
    if (h->packed_count != want->entry_count)
        return refuse(log, STK_FORMAT, "%s: unfinished; pack it again", path);
    return STK_OK;
}

static stk_status read_tables(stk_sidecar *s, const stk_gguf *gguf, const stk_model *model)
{
    stk_sidecar_header h, want;
    struct stat st;
    stk_status status = stk_sidecar_describe(gguf, model, &want, s->log);
    if (status != STK_OK)
        return status;
    int fd = open(s->path, O_RDONLY | O_CLOEXEC); // s->fd may be direct and want alignment
    if (fd < 0)
        return refuse(s->log, STK_IO, "%s: %s", s->path, strerror(errno));
    uint64_t sums = s->entry_count * sizeof *s->checksums;
    if (stk_read_at(fd, &h, sizeof h, sizeof h, 0) != 0)
        status = refuse(s->log, STK_FORMAT, "%s: too short for a sidecar", s->path);
    if (status == STK_OK)
        status = check_header(&h, &want, s->path, s->log);
    if (status == STK_OK &&
        (fstat(fd, &st) != 0 || (uint64_t)st.st_size < want.data_at + want.data_bytes))
        status = refuse(s->log, STK_FORMAT, "%s: truncated; pack it again", s->path);
    if (status == STK_OK && (stk_read_at(fd, s->checksums, sums, sums, STK_SIDECAR_PAGE) != 0 ||
                             XXH3_64bits(s->checksums, sums) != h.checksums_hash))
        status = refuse(s->log, STK_FORMAT, "%s: the checksums are damaged; pack it again",
                        s->path);
    close(fd);
    return status;
}

stk_status stk_sidecar_open(const char *path, const stk_gguf *gguf, const stk_model *part,
                            bool direct, const stk_log *log, stk_sidecar **out)
{
    const stk_model whole = stk_model_whole(part), *model = &whole; // as the file is
    int fd = open(path, O_RDONLY | O_CLOEXEC | (direct ? O_DIRECT : 0));
    if (fd < 0 && errno == ENOENT)
        return STK_IO;
    if (fd < 0)
        return refuse(log, STK_IO, "%s: %s", path, strerror(errno));
    stk_sidecar *s = calloc(1, sizeof *s);
    stk_status status = STK_NO_MEMORY;
    if (!s) {
        close(fd);
        return status;
    }
    s->fd = fd;
    s->log = log;
    s->expert_count = model->expert_count;
    s->entry_count = model->layer_count * model->expert_count;
    s->entry_first = part->layer_first * model->expert_count;
    s->path = strdup(path);
    s->layer_at = calloc(model->layer_count, sizeof *s->layer_at);
    s->slot_bytes = calloc(model->layer_count, sizeof *s->slot_bytes);
    s->checksums = calloc(s->entry_count, sizeof *s->checksums);
    s->dropped = calloc(s->entry_count, 1);
    if (s->path && s->layer_at && s->slot_bytes && s->checksums && s->dropped) {
        stk_sidecar_place(model, s->layer_at, s->slot_bytes);
        status = read_tables(s, gguf, model);
    }
    if (status != STK_OK) {
        stk_sidecar_close(&s);
        return status;
    }
    *out = s;
    return STK_OK;
}

void stk_sidecar_close(stk_sidecar **sidecar)
{
    stk_sidecar *s = *sidecar;
    if (!s)
        return;
    close(s->fd);
    free(s->path);
    free(s->layer_at);
    free(s->slot_bytes);
    free(s->checksums);
    free(s->dropped);
    free(s);
    *sidecar = NULL;
}

bool stk_sidecar_has(const stk_sidecar *s, uint32_t entry)
{
    return !s->dropped[s->entry_first + entry];
}

int stk_sidecar_fd(const stk_sidecar *s)
{
    return s->fd;
}

const char *stk_sidecar_path(const stk_sidecar *s)
{
    return s->path;
}

uint64_t stk_sidecar_offset(const stk_sidecar *s, uint32_t entry)
{
    uint32_t layer = (s->entry_first + entry) / s->expert_count;
    return s->layer_at[layer] + (entry % s->expert_count) * s->slot_bytes[layer];
}

bool stk_sidecar_verify(const stk_sidecar *s, uint32_t entry, const void *slot)
{
    uint64_t bytes = s->slot_bytes[(s->entry_first + entry) / s->expert_count];
    return XXH3_64bits(slot, bytes) == s->checksums[s->entry_first + entry];
}

void stk_sidecar_drop(stk_sidecar *s, uint32_t entry)
{
    s->dropped[s->entry_first + entry] = 1;
}
