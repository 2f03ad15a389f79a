#include "store_break.h"

#include <errno.h>
#include <liburing.h>
#include <stdbool.h>
#include <unistd.h>

store_breaks breaks = {.disk_bytes = -1, .syncs_left = UINT32_MAX};

void store_break_reads(store_fault fault, int error, uint32_t nth)
{
    atomic_store(&breaks.reads, 0);
    atomic_store(&breaks.struck, 0);
    atomic_store(&breaks.error, error);
    atomic_store(&breaks.nth, nth);
    atomic_store(&breaks.read, fault);
}

void store_break_nothing(void)
{
    store_break_reads(STORE_FAULT_NONE, 0, 0);
    atomic_store(&breaks.disk_bytes, -1);
    atomic_store(&breaks.syncs_left, UINT32_MAX);
    atomic_store(&breaks.ring_refused, false);
    atomic_store(&breaks.ring_dies, false);
}

// What becomes of a read that the system answered with `result` bytes. Half of a direct read ends
// on a sector, as the system's own short reads do.
static long spoil(long result)
{
    store_fault fault = atomic_load(&breaks.read);
    if (fault == STORE_FAULT_NONE)
        return result;
    uint32_t n = atomic_fetch_add(&breaks.reads, 1) + 1;
    long half = result > 1024 ? result / 2 / 512 * 512 : result;
    long spoilt = fault == STORE_FAULT_HALF                  ? half
                  : fault == STORE_FAULT_EINTR && n % 2 == 1 ? -EINTR
                  : fault == STORE_FAULT_ERROR && n == atomic_load(&breaks.nth)
                      ? -atomic_load(&breaks.error)
                      : result;
    if (spoilt != result)
        atomic_fetch_add(&breaks.struck, 1);
    return spoilt;
}

ssize_t __real_pread(int fd, void *to, size_t bytes, off_t at);
ssize_t __wrap_pread(int fd, void *to, size_t bytes, off_t at);
ssize_t __wrap_pread(int fd, void *to, size_t bytes, off_t at)
{
    ssize_t n = __real_pread(fd, to, bytes, at);
    if (n < 0)
        return n;
    long spoilt = spoil(n);
    if (spoilt >= 0)
        return spoilt;
    errno = (int)-spoilt;
    return -1;
}

ssize_t __real_pwrite(int fd, const void *from, size_t bytes, off_t at);
ssize_t __wrap_pwrite(int fd, const void *from, size_t bytes, off_t at);
ssize_t __wrap_pwrite(int fd, const void *from, size_t bytes, off_t at)
{
    long long room = atomic_load(&breaks.disk_bytes);
    if (room == 0) {
        errno = ENOSPC;
        return -1;
    }
    if (room > 0 && (long long)bytes > room)
        bytes = (size_t)room; // the rest of the disk, then nothing
    ssize_t n = __real_pwrite(fd, from, bytes, at);
    if (room > 0 && n > 0)
        atomic_store(&breaks.disk_bytes, room - n);
    return n;
}

int __real_fdatasync(int fd);
int __wrap_fdatasync(int fd);
int __wrap_fdatasync(int fd)
{
    uint32_t left = atomic_load(&breaks.syncs_left);
    if (left == 0) {
        errno = EIO;
        return -1;
    }
    if (left != UINT32_MAX)
        atomic_store(&breaks.syncs_left, left - 1);
    return __real_fdatasync(fd);
}

int __real_io_uring_queue_init(unsigned entries, struct io_uring *ring, unsigned flags);
int __wrap_io_uring_queue_init(unsigned entries, struct io_uring *ring, unsigned flags);
int __wrap_io_uring_queue_init(unsigned entries, struct io_uring *ring, unsigned flags)
{
    return atomic_load(&breaks.ring_refused) ? -EPERM
                                             : __real_io_uring_queue_init(entries, ring, flags);
}

// Reads that are about to be submitted; zero is the wake-up, not a read.
static unsigned reads_queued(const struct io_uring *ring)
{
    unsigned count = 0;
    for (unsigned i = ring->sq.sqe_head; i != ring->sq.sqe_tail; i++)
        count += ring->sq.sqes[i & ring->sq.ring_mask].user_data != 0;
    return count;
}

// Waits until that many reads have come back.
static void await_reads(struct io_uring *ring, unsigned count)
{
    for (;;) {
        unsigned head, done = 0;
        struct io_uring_cqe *cqe;
        io_uring_for_each_cqe(ring, head, cqe) done += cqe->user_data != 0;
        if (done >= count)
            return;
        (void)io_uring_wait_cqe_nr(ring, &cqe, io_uring_cq_ready(ring) + 1);
    }
}

// Completions are spoilt between the kernel and the program: the queue is in shared memory. Every
// read is waited for, because one that came later would reach the program as it is.
int __real_io_uring_submit_and_wait(struct io_uring *ring, unsigned count);
int __wrap_io_uring_submit_and_wait(struct io_uring *ring, unsigned count);
int __wrap_io_uring_submit_and_wait(struct io_uring *ring, unsigned count)
{
    if (atomic_load(&breaks.ring_dies))
        return -EBADF;
    unsigned head, reads = reads_queued(ring);
    int rc = __real_io_uring_submit_and_wait(ring, count);
    if (rc < 0)
        return rc;
    await_reads(ring, reads);
    struct io_uring_cqe *cqe;
    io_uring_for_each_cqe(ring, head, cqe)
    {
        if (cqe->user_data != 0 && cqe->res >= 0)
            cqe->res = (int)spoil(cqe->res);
    }
    return rc;
}
