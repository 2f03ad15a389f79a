// tests/store_break.h: makes reads and writes fail on command (see store_faults.cmake).
#ifndef STORE_BREAK_H
#define STORE_BREAK_H

#include <stdatomic.h>
#include <stdint.h>

typedef enum store_fault {
    STORE_FAULT_NONE,
    STORE_FAULT_ERROR, // the n-th fails with `error`
    STORE_FAULT_HALF,  // every one delivers about half of what was asked for
    STORE_FAULT_EINTR, // every other one is interrupted
} store_fault;

typedef struct store_breaks {
    _Atomic store_fault read; // of pread and of io_uring alike
    atomic_int error;
    atomic_uint nth, reads; // counted from 1 since store_break_reads
    atomic_uint struck;     // how often a fault was made

    atomic_llong disk_bytes;  // pwrite beyond this many bytes in all: ENOSPC; -1: endless
    atomic_uint syncs_left;   // fdatasync fails with EIO after that many; UINT32_MAX: never
    atomic_bool ring_refused; // io_uring_queue_init is not permitted
    atomic_bool ring_dies;    // io_uring_submit_and_wait fails for good
} store_breaks;
extern store_breaks breaks;

void store_break_reads(store_fault fault, int error, uint32_t nth);
void store_break_nothing(void);

#endif
