#include "cli/output.h"

#include "cli/commands.h"
#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdio_ext.h>
#include <string.h>
#include <unistd.h>

int stk_output_write(const void *data, size_t size_bytes)
{
    errno = 0;
    if (fwrite(data, 1, size_bytes, stdout) == size_bytes && fflush(stdout) == 0)
        return 0;
    return errno ? errno : EIO;
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
