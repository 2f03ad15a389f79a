#include "cli/output.h"

#include "cli/commands.h"
#include <errno.h>
#include <libgen.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdio_ext.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int stk_output_write(const void *data, size_t size_bytes)
{
    errno = 0;
    if (fwrite(data, 1, size_bytes, stdout) == size_bytes && fflush(stdout) == 0)
        return 0;
    return errno ? errno : EIO;
}

// 0, or errno.
static int try_folder(const char *path)
{
    char *copy = strdup(path);
    int error = !copy ? ENOMEM : access(dirname(copy), W_OK | X_OK) != 0 ? errno : 0;
    free(copy);
    return error;
}

stk_status stk_output_check(const char *path, const char *model_path, const stk_log *log)
{
    struct stat out, model;
    int error = 0;
    if (stat(path, &out) != 0)
        error = errno == ENOENT ? try_folder(path) : errno;
    else if (stat(model_path, &model) == 0 && out.st_dev == model.st_dev &&
             out.st_ino == model.st_ino)
        return stk_fail(log, STK_INVALID, "%s: that is the model; write to another file", path);
    else if (S_ISDIR(out.st_mode))
        error = EISDIR;
    else if (access(path, W_OK) != 0)
        error = errno;
    return error ? stk_fail(log, STK_IO, "%s: %s", path, strerror(error)) : STK_OK;
}

int stk_output_failed(int error)
{
    __fpurge(stdout); // else exit would try again
    clearerr(stdout);
    if (error == EPIPE)
        return STK_EXIT_DONE;
    fprintf(stderr, "stoker: error: standard output: %s\n", strerror(error));
    return STK_EXIT_FAILED;
}

int stk_output_finish(int exit_code)
{
    errno = 0;
    if (fflush(stdout) != 0)
        return stk_output_failed(errno ? errno : EIO);
    if (!ferror(stdout))
        return exit_code;
    // A write inside printf failed and its errno is gone: ask whether it was the reader who left.
    struct pollfd out = {.fd = STDOUT_FILENO, .events = POLLOUT};
    bool is_gone = poll(&out, 1, 0) == 1 && (out.revents & POLLERR);
    return stk_output_failed(is_gone ? EPIPE : EIO);
}
