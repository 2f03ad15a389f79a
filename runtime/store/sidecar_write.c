// Writes a sidecar, resumably: experts go into PATH.partial in order, and every so often the
// checksums and the count reach the disk after the data they speak of.
#include "store/sidecar.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "store/expert_layout.h"
#include "store/model_file.h"
#include "store/read_at.h"
#include "store/sidecar_format.h"

enum { COMMIT_EVERY = 64 }; // experts

typedef struct writer {
    char partial[4096];
    const stk_model *model;
    const stk_log *log;
    int fd;
    stk_sidecar_header header;
    uint64_t *layer_at, *slot_bytes, *checksums;
    uint8_t *slot, *source;
    stk_model_file *file;
} writer;

static stk_status write_at(const writer *w, const void *data, uint64_t bytes, uint64_t at)
{
    const uint8_t *p = data;
    while (bytes > 0) {
        ssize_t n = pwrite(w->fd, p, bytes, (off_t)at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return stk_fail(w->log, STK_IO, "%s: %s", w->partial, strerror(n < 0 ? errno : ENOSPC));
        p += n;
        at += (uint64_t)n;
        bytes -= (uint64_t)n;
    }
    return STK_OK;
}

// Data first, then what vouches for it.
static stk_status commit(writer *w, uint32_t packed)
{
    uint64_t sums = w->header.entry_count * sizeof *w->checksums;
    uint8_t page[STK_SIDECAR_PAGE] = {0};
    if (fdatasync(w->fd) != 0)
        return stk_fail(w->log, STK_IO, "%s: %s", w->partial, strerror(errno));
    posix_fadvise(w->fd, 0, 0, POSIX_FADV_DONTNEED);
    stk_sidecar_header h = w->header;
    h.packed_count = packed;
    h.checksums_hash = XXH3_64bits(w->checksums, sums);
    h.hash = stk_sidecar_header_hash(&h);
    memcpy(page, &h, sizeof h);
    stk_status status = write_at(w, w->checksums, sums, STK_SIDECAR_PAGE);
    if (status == STK_OK)
        status = write_at(w, page, sizeof page, 0);
    if (status == STK_OK && fdatasync(w->fd) != 0)
        status = stk_fail(w->log, STK_IO, "%s: %s", w->partial, strerror(errno));
    if (status == STK_OK)
        w->header = h;
    return status;
}

static bool read_at(const writer *w, void *to, uint64_t bytes, uint64_t at)
{
    return stk_read_at(w->fd, to, bytes, bytes, at) == 0;
}

static uint64_t offset_of(const writer *w, uint32_t index)
{
    uint32_t layer = index / w->model->expert_count;
    return w->layer_at[layer] + (index % w->model->expert_count) * w->slot_bytes[layer];
}

// How many experts an earlier, interrupted run left that still hold. The table is written in place,
// so it may be newer than its header or half of each: every expert is checked against its checksum.
static uint32_t resume_count(writer *w)
{
    stk_sidecar_header old;
    uint32_t count = 0, total = w->header.entry_count;
    if (!read_at(w, &old, sizeof old, 0) || old.hash != stk_sidecar_header_hash(&old) ||
        old.version != w->header.version || old.model_hash != w->header.model_hash ||
        old.model_bytes != w->header.model_bytes ||
        old.model_mtime_ns != w->header.model_mtime_ns || old.entry_count != total ||
        !read_at(w, w->checksums, total * sizeof *w->checksums, STK_SIDECAR_PAGE))
        return 0;
    for (; count < total; count++) {
        uint64_t bytes = w->slot_bytes[count / w->model->expert_count];
        if (!read_at(w, w->slot, bytes, offset_of(w, count)) ||
            XXH3_64bits(w->slot, bytes) != w->checksums[count])
            break;
        stk_progress(w->log, "checking what is packed", count + 1, total);
    }
    posix_fadvise(w->fd, 0, 0, POSIX_FADV_DONTNEED);
    return count;
}

static stk_status pack_one(writer *w, uint32_t index)
{
    const stk_model *m = w->model;
    stk_expert_layout layout = stk_expert_layout_of(m, &m->layers[index / m->expert_count]);
    memset(w->slot, 0, layout.slot_bytes);
    stk_status status = stk_expert_read(w->file, m, &layout, index, w->source, w->slot);
    if (status != STK_OK)
        return status;
    w->checksums[index] = XXH3_64bits(w->slot, layout.slot_bytes);
    return write_at(w, w->slot, layout.slot_bytes, offset_of(w, index));
}

// After a failure: vouches for what was packed since the last commit, if the disk still lets us.
static void keep(writer *w, uint32_t packed)
{
    const stk_log *log = w->log;
    w->log = NULL; // the failure itself was said
    stk_status status = commit(w, packed);
    w->log = log;
    uint32_t kept = status == STK_OK ? packed : w->header.packed_count;
    if (kept > 0)
        stk_error(log, "%s: %u of %u experts are kept, run the command again to go on", w->partial,
                  kept, w->header.entry_count);
}

static stk_status pack_all(writer *w, const atomic_int *cancel)
{
    uint32_t total = w->header.entry_count, i = resume_count(w);
    if (i > 0)
        stk_info(w->log, "%s: going on after %u of %u experts", w->partial, i, total);
    w->header.packed_count = i;
    // An older run's file may be longer than this one's will be.
    if (i < total && ftruncate(w->fd, i > 0 ? (off_t)offset_of(w, i) : 0) != 0)
        return stk_fail(w->log, STK_IO, "%s: %s", w->partial, strerror(errno));
    for (; i < total; i++) {
        if (cancel && atomic_load(cancel)) {
            stk_status kept = commit(w, i);
            return kept != STK_OK ? kept : STK_CANCELLED;
        }
        stk_status status = pack_one(w, i);
        if (status == STK_OK && (i + 1) % COMMIT_EVERY == 0)
            status = commit(w, i + 1);
        if (status != STK_OK) {
            keep(w, i);
            return status;
        }
        stk_progress(w->log, "packing experts", i + 1, total);
    }
    stk_status status = commit(w, total);
    if (status != STK_OK)
        keep(w, total);
    return status;
}

static stk_status take_buffers(writer *w)
{
    uint64_t slot = 0, source = 0;
    for (uint32_t i = 0; i < w->model->layer_count; i++) {
        stk_expert_layout layout = stk_expert_layout_of(w->model, &w->model->layers[i]);
        slot = layout.slot_bytes > slot ? layout.slot_bytes : slot;
        source = layout.source_bytes > source ? layout.source_bytes : source;
    }
    w->layer_at = calloc(w->model->layer_count, sizeof *w->layer_at);
    w->slot_bytes = calloc(w->model->layer_count, sizeof *w->slot_bytes);
    w->checksums = calloc(w->header.entry_count, sizeof *w->checksums);
    w->slot = aligned_alloc(STK_SIDECAR_PAGE, slot);
    w->source = malloc(source);
    return w->layer_at && w->slot_bytes && w->checksums && w->slot && w->source ? STK_OK
                                                                                : STK_NO_MEMORY;
}

// Opens the partial file for this writer alone. Another may have finished it, or given it up,
// between the opening and the lock: then it has no name any more, or another file has it.
static stk_status open_partial(writer *w)
{
    for (;;) {
        w->fd = open(w->partial, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
        if (w->fd < 0)
            return stk_fail(w->log, STK_IO, "%s: %s", w->partial, strerror(errno));
        // Any other error: the file system has no locks, so nobody can tell.
        if (flock(w->fd, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK)
            return stk_fail(w->log, STK_BUSY, "%s: another stoker is writing it", w->partial);
        struct stat opened, named;
        if (fstat(w->fd, &opened) == 0 && stat(w->partial, &named) == 0 &&
            opened.st_dev == named.st_dev && opened.st_ino == named.st_ino)
            return STK_OK;
        close(w->fd);
    }
}

// A finished sidecar replaces one, or an empty file; not a model that was named by mistake.
static stk_status check_target(const char *path, const stk_log *log)
{
    struct stat st;
    char magic[8];
    if (stat(path, &st) != 0)
        return STK_OK;
    int fd = S_ISREG(st.st_mode) ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    bool is_ours = fd >= 0 && (st.st_size == 0 ||
                               (stk_read_at(fd, magic, sizeof magic, sizeof magic, 0) == 0 &&
                                memcmp(magic, STK_SIDECAR_MAGIC, sizeof magic) == 0));
    if (fd >= 0)
        close(fd);
    return is_ours ? STK_OK
                   : stk_fail(log, STK_INVALID,
                              "%s: exists and is not a sidecar; name another file with -o", path);
}

stk_status stk_sidecar_write(const char *path, const stk_gguf *gguf, const stk_model *model,
                             const stk_log *log, const atomic_int *cancel)
{
    writer w = {.model = model, .log = log, .fd = -1};
    if ((size_t)snprintf(w.partial, sizeof w.partial, "%s.partial", path) >= sizeof w.partial)
        return stk_fail(log, STK_INVALID, "%s: the path is too long", path);
    stk_status status = check_target(path, log);
    if (status == STK_OK)
        status = stk_sidecar_describe(gguf, model, &w.header, log);
    if (status == STK_OK)
        status = take_buffers(&w);
    if (status == STK_OK)
        status = stk_model_file_open(gguf, true, log, &w.file);
    if (status == STK_OK) {
        stk_sidecar_place(model, w.layer_at, w.slot_bytes);
        status = open_partial(&w);
    }
    if (status == STK_OK) {
        status = pack_all(&w, cancel);
        if (status != STK_OK && w.header.packed_count == 0)
            unlink(w.partial); // nothing to go on from
        if (status == STK_OK && rename(w.partial, path) != 0)
            status = stk_fail(log, STK_IO, "%s: %s", path, strerror(errno));
    }
    if (w.fd >= 0)
        close(w.fd); // and with it the lock
    stk_model_file_close(&w.file);
    free(w.layer_at);
    free(w.slot_bytes);
    free(w.checksums);
    free(w.slot);
    free(w.source);
    return status;
}
