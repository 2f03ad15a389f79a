// Reads with io_uring: one thread that mostly sleeps in the kernel.
//
// An eventfd in the ring wakes it for new work. Files are registered; buffers are not: with slots
// on huge pages the kernel pins a 512 KiB read in one step, and slots must be able to shrink.
#include "store/io_impl.h"

#include <errno.h>
#include <liburing.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

enum { INFLIGHT_MAX = 256, BROKEN_PAUSE_NS = 5000000 };

typedef struct slot {
    stk_read read;
    uint32_t got; // bytes so far: short reads are continued
    bool busy;
} slot;

typedef struct ring {
    struct io_uring uring;
    stk_io_source source;
    const stk_log *log;
    int event_fd;
    uint64_t event_value;
    uint32_t inflight_max, inflight;
    bool waiting_for_event;
    atomic_bool stop;
    bool files_registered;
    uint32_t fd_count;
    int fds[64];
    slot slots[INFLIGHT_MAX];
    pthread_t thread;
} ring;

static int registered_index(const ring *r, int fd)
{
    for (uint32_t i = 0; i < r->fd_count && r->files_registered; i++)
        if (r->fds[i] == fd)
            return (int)i;
    return -1;
}

// The submission queue is larger than everything that can be in flight, so it never fills.
static void submit(ring *r, slot *s)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&r->uring);
    int index = registered_index(r, s->read.fd);
    io_uring_prep_read(sqe, index >= 0 ? index : s->read.fd, (char *)s->read.to + s->got,
                       s->read.bytes - s->got, s->read.offset_bytes + s->got);
    if (index >= 0)
        sqe->flags |= IOSQE_FIXED_FILE;
    io_uring_sqe_set_data(sqe, s);
}

static void fill(ring *r)
{
    for (uint32_t i = 0; i < r->inflight_max && r->inflight < r->inflight_max; i++) {
        slot *s = &r->slots[i];
        if (s->busy)
            continue;
        if (!r->source.next(r->source.user, &s->read))
            break;
        s->busy = true;
        s->got = 0;
        r->inflight++;
        submit(r, s);
    }
    if (!r->waiting_for_event) {
        struct io_uring_sqe *sqe = io_uring_get_sqe(&r->uring);
        io_uring_prep_read(sqe, r->event_fd, &r->event_value, sizeof r->event_value, 0);
        io_uring_sqe_set_data(sqe, NULL);
        r->waiting_for_event = true;
    }
}

static void finish(ring *r, slot *s, int error)
{
    s->busy = false;
    r->inflight--;
    r->source.done(r->source.user, &s->read, error);
}

static void complete(ring *r, const struct io_uring_cqe *cqe)
{
    slot *s = io_uring_cqe_get_data(cqe);
    if (!s) {
        r->waiting_for_event = false;
    } else if (cqe->res == -EINTR || cqe->res == -EAGAIN) {
        submit(r, s);
    } else if (cqe->res < 0) {
        finish(r, s, -cqe->res);
    } else if (cqe->res == 0) {
        finish(r, s, s->got >= s->read.bytes_needed ? 0 : ENODATA);
    } else {
        s->got += (uint32_t)cqe->res;
        if (s->got < s->read.bytes && s->got < s->read.bytes_needed)
            submit(r, s);
        else
            finish(r, s, 0);
    }
}

// The ring is broken for good: every read fails from now on, so that nobody waits for one. Looks
// for them now and then, because the ring's own read of the event may still swallow kicks.
static void fail_everything(ring *r, int error)
{
    const struct timespec pause = {.tv_nsec = BROKEN_PAUSE_NS};
    for (uint32_t i = 0; i < r->inflight_max; i++)
        if (r->slots[i].busy)
            finish(r, &r->slots[i], error);
    while (!atomic_load_explicit(&r->stop, memory_order_acquire)) {
        stk_read wanted;
        while (r->source.next(r->source.user, &wanted))
            r->source.done(r->source.user, &wanted, error);
        while (r->source.work(r->source.user))
            ;
        nanosleep(&pause, NULL);
    }
}

// Sees to what has come; false: nothing.
static bool reap(ring *r)
{
    struct io_uring_cqe *cqe;
    bool any = false;
    while (io_uring_peek_cqe(&r->uring, &cqe) == 0) {
        complete(r, cqe);
        io_uring_cqe_seen(&r->uring, cqe);
        any = true;
    }
    return any;
}

// The source's work is done in pieces, each after new reads were submitted, and only when none has
// come back: so the disk does not wait for it.
static void *thread_main(void *argument)
{
    ring *r = argument;
    bool maybe_work = false;
    while (!atomic_load_explicit(&r->stop, memory_order_acquire) || r->inflight > 0) {
        if (!atomic_load_explicit(&r->stop, memory_order_acquire))
            fill(r);
        int rc = io_uring_submit_and_wait(&r->uring, maybe_work ? 0 : 1);
        if (rc < 0 && rc != -EINTR && rc != -EAGAIN && rc != -EBUSY) {
            stk_error(r->log, "io_uring: %s", strerror(-rc));
            fail_everything(r, -rc);
            return NULL;
        }
        maybe_work = reap(r) || (maybe_work && r->source.work(r->source.user));
    }
    return NULL;
}

static void uring_kick(void *state)
{
    ring *r = state;
    uint64_t one = 1;
    // Fails only when 2^64 kicks are pending, and then the thread is awake anyway.
    if (write(r->event_fd, &one, sizeof one) < 0)
        return;
}

static stk_status uring_open(const stk_io_options *options, void **state)
{
    ring *r = calloc(1, sizeof *r);
    if (!r)
        return STK_NO_MEMORY;
    r->source = options->source;
    r->log = options->log;
    r->inflight_max = options->inflight_max < INFLIGHT_MAX ? options->inflight_max : INFLIGHT_MAX;
    int rc = io_uring_queue_init(2 * r->inflight_max + 2, &r->uring, 0);
    if (rc < 0) {
        stk_debug(options->log, "io_uring: %s", strerror(-rc));
        goto err_free;
    }
    r->event_fd = eventfd(0, EFD_CLOEXEC);
    if (r->event_fd < 0)
        goto err_ring;
    if (options->fd_count <= sizeof r->fds / sizeof *r->fds) {
        memcpy(r->fds, options->fds, options->fd_count * sizeof *r->fds);
        r->fd_count = options->fd_count;
        r->files_registered = io_uring_register_files(&r->uring, r->fds, r->fd_count) == 0;
    }
    rc = pthread_create(&r->thread, NULL, thread_main, r);
    if (rc != 0)
        goto err_event;
    *state = r;
    return STK_OK;

err_event:
    close(r->event_fd);
err_ring:
    io_uring_queue_exit(&r->uring);
err_free:
    free(r);
    return STK_UNSUPPORTED;
}

static void uring_close(void *state)
{
    ring *r = state;
    atomic_store_explicit(&r->stop, true, memory_order_release);
    uring_kick(r);
    pthread_join(r->thread, NULL);
    io_uring_queue_exit(&r->uring);
    close(r->event_fd);
    free(r);
}

const stk_io_ops stk_io_uring_ops = {"io_uring", uring_open, uring_close, uring_kick};
