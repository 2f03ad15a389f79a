#include "topology/probe_file.h"

#include "base/random.h"
#include "base/size.h"
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

enum { CHUNK_BYTES = 1 << 20, TEMPORARY_BYTES_LEAST = 4 << 20 };

// Reopens for direct reads what is open as fd, which it closes. Without /proc or where the
// filesystem refuses, fd itself is used and its cached pages are dropped.
static int reopen_direct(int fd, bool *is_direct)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    int direct = open(path, O_RDONLY | O_DIRECT | O_CLOEXEC);
    *is_direct = direct >= 0;
    if (direct < 0) {
        posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
        return fd;
    }
    close(fd);
    return direct;
}

static stk_status fill(int fd, uint64_t bytes, const char *folder, const stk_log *log)
{
    uint64_t *chunk = malloc(CHUNK_BYTES);
    if (!chunk)
        return stk_fail(log, STK_NO_MEMORY, "no memory for a measurement");
    stk_random random = stk_random_seeded(1);
    stk_status status = STK_OK;
    for (uint64_t done = 0; done < bytes && status == STK_OK; done += CHUNK_BYTES) {
        stk_progress(log, "writing a test file", done, bytes);
        for (size_t i = 0; i < CHUNK_BYTES / sizeof *chunk; i++)
            chunk[i] = stk_random_u64(&random); // some disks compress
        if (pwrite(fd, chunk, CHUNK_BYTES, (off_t)done) != CHUNK_BYTES)
            status = stk_fail(log, STK_IO, "%s: a test file cannot be written: %s", folder,
                              strerror(errno ? errno : ENOSPC));
    }
    free(chunk);
    stk_progress(log, "writing a test file", 1, 1);
    if (status == STK_OK && fsync(fd) != 0) // else reads would wait for the writes
        status = stk_fail(log, STK_IO, "%s: a test file cannot be written: %s", folder,
                          strerror(errno));
    return status;
}

static int create_nameless(const char *folder)
{
    int fd = open(folder, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (fd >= 0 || (errno != EOPNOTSUPP && errno != EISDIR && errno != EINVAL))
        return fd;
    char path[PATH_MAX]; // a filesystem without nameless files
    if (snprintf(path, sizeof path, "%s/.stoker-probe-XXXXXX", folder) >= (int)sizeof path) {
        errno = ENAMETOOLONG;
        return -1;
    }
    fd = mkostemp(path, O_CLOEXEC);
    if (fd >= 0)
        unlink(path);
    return fd;
}

static stk_status open_temporary(const char *folder, uint64_t bytes_max, const stk_log *log,
                                 stk_probe_file *out)
{
    struct statvfs space;
    char text[STK_SIZE_TEXT_BYTES];
    if (statvfs(folder, &space) != 0)
        return stk_fail(log, STK_IO, "%s: %s", folder, strerror(errno));
    uint64_t free_bytes = (uint64_t)space.f_bavail * space.f_frsize;
    uint64_t bytes = bytes_max < free_bytes / 8 ? bytes_max : free_bytes / 8;
    bytes = bytes / CHUNK_BYTES * CHUNK_BYTES;
    if (bytes < TEMPORARY_BYTES_LEAST) {
        stk_warn(log, "%s: %s free is too little to measure the disk; name a large file to read",
                 folder, stk_size_format(free_bytes, text));
        return STK_UNSUPPORTED;
    }
    int fd = create_nameless(folder);
    if (fd < 0) {
        stk_warn(log, "%s: no test file to measure the disk: %s; name a large file to read", folder,
                 strerror(errno));
        return STK_UNSUPPORTED;
    }
    stk_status status = fill(fd, bytes, folder, log);
    if (status != STK_OK) {
        close(fd);
        return status;
    }
    out->is_temporary = true;
    out->size_bytes = bytes;
    out->fd = reopen_direct(fd, &out->is_direct);
    return STK_OK;
}

stk_status stk_probe_file_open(const char *path, uint64_t bytes_max, const stk_log *log,
                               stk_probe_file *out)
{
    struct stat info;
    char folder[PATH_MAX];
    *out = (stk_probe_file){.fd = -1};
    if (stat(path, &info) != 0)
        return stk_fail(log, STK_IO, "%s: %s", path, strerror(errno));
    if (S_ISDIR(info.st_mode))
        return open_temporary(path, bytes_max, log, out);
    if (!S_ISREG(info.st_mode))
        return stk_fail(log, STK_IO, "%s: neither a file nor a folder", path);
    // Holes are read without any disk: a file with many of them says nothing.
    bool is_solid = (uint64_t)info.st_blocks * 512 >= (uint64_t)info.st_size / 8 * 7;
    if (info.st_size < STK_PROBE_FILE_BYTES_MIN || !is_solid) {
        if (snprintf(folder, sizeof folder, "%s", path) >= (int)sizeof folder)
            return stk_fail(log, STK_IO, "%s: the name is too long", path);
        char *slash = strrchr(folder, '/');
        if (slash)
            slash[slash == folder] = '\0';
        return open_temporary(slash ? folder : ".", bytes_max, log, out);
    }
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return stk_fail(log, STK_IO, "%s: %s", path, strerror(errno));
    out->size_bytes = (uint64_t)info.st_size;
    out->fd = reopen_direct(fd, &out->is_direct);
    return STK_OK;
}

void stk_probe_file_close(stk_probe_file *file)
{
    if (file->fd >= 0)
        close(file->fd);
    file->fd = -1;
}
