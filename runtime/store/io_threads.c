// Reads with a few threads and pread: for systems where io_uring is not allowed.
#include "store/io_impl.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "store/read_at.h"

enum { THREADS_MAX = 8 };

typedef struct threads {
    stk_io_source source;
    pthread_mutex_t lock; // guards the source and what follows
    pthread_cond_t wake;
    uint32_t kicks; // so that a kick between "nothing to read" and the wait is not lost
    bool stop;
    uint32_t count;
    pthread_t thread[THREADS_MAX];
} threads;

static void *thread_main(void *argument)
{
    threads *t = argument;
    pthread_mutex_lock(&t->lock);
    while (!t->stop) {
        stk_read r;
        uint32_t kicks = t->kicks;
        pthread_mutex_unlock(&t->lock);
        bool worked = t->source.work(t->source.user); // meanwhile the other threads read
        pthread_mutex_lock(&t->lock);
        if (worked)
            continue;
        if (t->source.next(t->source.user, &r)) {
            pthread_mutex_unlock(&t->lock);
            int error = stk_read_at(r.fd, r.to, r.bytes, r.bytes_needed, r.offset_bytes);
            pthread_mutex_lock(&t->lock);
            t->source.done(t->source.user, &r, error);
            continue;
        }
        while (!t->stop && kicks == t->kicks)
            pthread_cond_wait(&t->wake, &t->lock);
    }
    pthread_mutex_unlock(&t->lock);
    return NULL;
}

static void threads_close(void *state)
{
    threads *t = state;
    pthread_mutex_lock(&t->lock);
    t->stop = true;
    pthread_cond_broadcast(&t->wake);
    pthread_mutex_unlock(&t->lock);
    for (uint32_t i = 0; i < t->count; i++)
        pthread_join(t->thread[i], NULL);
    pthread_cond_destroy(&t->wake);
    pthread_mutex_destroy(&t->lock);
    free(t);
}

static stk_status threads_open(const stk_io_options *options, void **state)
{
    threads *t = calloc(1, sizeof *t);
    if (!t)
        return STK_NO_MEMORY;
    t->source = options->source;
    pthread_mutex_init(&t->lock, NULL);
    pthread_cond_init(&t->wake, NULL);
    uint32_t wanted = options->inflight_max < THREADS_MAX ? options->inflight_max : THREADS_MAX;
    for (; t->count < wanted; t->count++) {
        int rc = pthread_create(&t->thread[t->count], NULL, thread_main, t);
        if (rc != 0 && t->count == 0) {
            threads_close(t);
            return stk_fail(options->log, STK_NO_MEMORY, "cannot start a reading thread: %s",
                            strerror(rc));
        }
        if (rc != 0)
            break; // fewer will do
    }
    *state = t;
    return STK_OK;
}

static void threads_kick(void *state)
{
    threads *t = state;
    pthread_mutex_lock(&t->lock);
    t->kicks++;
    pthread_cond_broadcast(&t->wake);
    pthread_mutex_unlock(&t->lock);
}

const stk_io_ops stk_io_threads_ops = {"threads", threads_open, threads_close, threads_kick};
