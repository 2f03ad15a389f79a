#include "store/read_at.h"

#include <errno.h>
#include <unistd.h>

int stk_read_at(int fd, void *to, uint64_t bytes, uint64_t needed, uint64_t at)
{
    uint64_t got = 0;
    while (got < needed) {
        ssize_t n = pread(fd, (char *)to + got, bytes - got, (off_t)(at + got));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return errno;
        if (n == 0)
            return ENODATA;
        got += (uint64_t)n;
    }
    return 0;
}
