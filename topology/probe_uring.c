// topology/probe_uring.c: reads by io_uring.
#include "topology/probe_disk_impl.h"

#include "topology/clock.h"
#include <errno.h>
#include <liburing.h>

typedef struct ring {
    struct io_uring uring;
    const stk_disk_pattern *pattern;
    uint64_t offsets[STK_DISK_DEPTH_MAX]; // of the reads in flight
    uint64_t submitted, completed;
} ring;

static void put_read(ring *r, uint32_t slot)
{
    const stk_disk_pattern *p = r->pattern;
    struct io_uring_sqe *sqe = io_uring_get_sqe(
        &r->uring); // never full: depth entries, depth slots
    uint64_t index = r->submitted++;
    r->offsets[slot] = stk_disk_offset(p, index);
    io_uring_prep_read(sqe, p->fd, stk_disk_target(p, index), p->block_bytes, r->offsets[slot]);
    io_uring_sqe_set_data64(sqe, slot);
}

// Takes one completion. go_on: read again into its buffer.
static stk_status take_read(ring *r, struct io_uring_cqe *cqe, bool go_on, const stk_log *log)
{
    uint32_t slot = (uint32_t)io_uring_cqe_get_data64(cqe);
    int got = cqe->res;
    io_uring_cqe_seen(&r->uring, cqe);
    r->completed++;
    if (got != (int)r->pattern->block_bytes)
        return stk_disk_read_failed(r->pattern, r->offsets[slot], got, log);
    if (go_on)
        put_read(r, slot);
    return STK_OK;
}

static stk_status run(const stk_disk_pattern *pattern, const stk_log *log, stk_disk_result *out)
{
    ring r = {.pattern = pattern};
    // Containers often forbid the system call, and old kernels lack it.
    if (io_uring_queue_init(pattern->depth, &r.uring, 0) != 0)
        return STK_UNSUPPORTED;
    stk_status status = STK_OK;
    uint64_t begin_ns = stk_clock_ns(), now_ns = begin_ns;
    for (uint32_t slot = 0; slot < pattern->depth; slot++)
        put_read(&r, slot);
    // After a failure, too, every read must have come back before its buffer is freed.
    while (r.completed < r.submitted) {
        struct io_uring_cqe *cqe;
        int rc = io_uring_submit_and_wait(&r.uring, 1);
        if (rc < 0 && rc != -EINTR) {
            status = status == STK_OK ? stk_disk_read_failed(pattern, 0, rc, log) : status;
            break;
        }
        now_ns = stk_clock_ns();
        while (io_uring_peek_cqe(&r.uring, &cqe) == 0) {
            bool go_on = status == STK_OK && now_ns - begin_ns < pattern->nanoseconds_max;
            stk_status one = take_read(&r, cqe, go_on, status == STK_OK ? log : NULL);
            status = status == STK_OK ? one : status;
        }
    }
    io_uring_queue_exit(&r.uring);
    *out = (stk_disk_result){r.completed, stk_clock_ns() - begin_ns};
    return status;
}

const stk_disk_engine stk_disk_uring = {"io_uring", run};
