// store/io.h: keeps a bounded number of reads in flight, whoever does them.
//
// Owns the threads and rings that read. Knows nothing of experts or priorities: it asks its source
// for the next read whenever it has room for one, so the order is decided as late as possible.
// Invariant: every read that was handed over comes back through `done` exactly once.
#ifndef STK_STORE_IO_H
#define STK_STORE_IO_H

#include "base/log.h"
#include <stdbool.h>
#include <stdint.h>

typedef struct stk_read {
    int fd;
    uint32_t bytes;        // to read; for O_DIRECT a multiple of the alignment
    uint32_t bytes_needed; // a read that ends the file may come up short, but not below this
    uint64_t offset_bytes;
    void *to;
    void *user; // the source's
} stk_read;

// Where reads come from. Called from I/O threads; next and done never two at once for one stk_io.
typedef struct stk_io_source {
    bool (*next)(void *user, stk_read *out);                   // false: nothing to read now
    void (*done)(void *user, const stk_read *read, int error); // 0, or errno
    // Does a part of what is to be done with bytes that have come, when reads have been seen to.
    // False: there is nothing to do.
    bool (*work)(void *user);
    void *user;
} stk_io_source;

typedef enum stk_io_kind {
    STK_IO_AUTO, // io_uring where the system allows it, else threads
    STK_IO_URING,
    STK_IO_THREADS,
} stk_io_kind;

typedef struct stk_io_options {
    stk_io_kind kind;
    uint32_t inflight_max; // reads at once, 1..256
    const int *fds;        // files the reads will use, [fd_count]; registered where possible
    uint32_t fd_count;
    stk_io_source source;
    const stk_log *log;
} stk_io_options;

// Thread-safety: kick may be called from any thread.
typedef struct stk_io stk_io;

// STK_UNSUPPORTED: io_uring was asked for by name and is not allowed here. STK_NO_MEMORY.
STK_CHECKED stk_status stk_io_open(const stk_io_options *options, stk_io **out);
// Waits for the reads in flight (each still comes back through `done`), sets *io to NULL.
void stk_io_close(stk_io **io);

// The source has something new. Never blocks.
void stk_io_kick(stk_io *io);

const char *stk_io_name(const stk_io *io); // "io_uring" or "threads"

#endif
