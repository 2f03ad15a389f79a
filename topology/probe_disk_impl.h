// topology/probe_disk_impl.h: one pattern of reads, and who can run it.
#ifndef STK_TOPOLOGY_PROBE_DISK_IMPL_H
#define STK_TOPOLOGY_PROBE_DISK_IMPL_H

#include "base/log.h"
#include <stdbool.h>
#include <stdint.h>

enum { STK_DISK_DEPTH_MAX = 32 };

typedef struct stk_disk_pattern {
    int fd;
    const char *name;     // of the file, for messages
    uint64_t file_bytes;  // at least one block
    uint32_t block_bytes; // a multiple of 4096
    uint32_t depth;       // reads in flight, 1..STK_DISK_DEPTH_MAX
    bool is_random;
    uint32_t run_blocks; // of a random place, read one after the other; 0: one
    uint64_t nanoseconds_max;
    // 4096-byte aligned, at least depth blocks; reads end in one block of it after the other. What
    // ends in the caches is faster than what goes on to memory.
    uint8_t *memory;
    uint64_t memory_bytes;
} stk_disk_pattern;

typedef struct stk_disk_result {
    uint64_t reads; // whole blocks
    uint64_t elapsed_ns;
} stk_disk_result;

// Where read number `index` begins: block after block, from the start again at the end; or the
// next block of a run whose place is drawn.
uint64_t stk_disk_offset(const stk_disk_pattern *pattern, uint64_t index);
// Where it ends in memory.
uint8_t *stk_disk_target(const stk_disk_pattern *pattern, uint64_t index);

// Logs what went wrong with a read that returned `got` bytes, or -errno. Returns STK_IO.
stk_status stk_disk_read_failed(const stk_disk_pattern *pattern, uint64_t offset, int64_t got,
                                const stk_log *log);

typedef struct stk_disk_engine {
    const char *name;
    // STK_UNSUPPORTED: this engine does not work here (not logged), nothing was read.
    stk_status (*run)(const stk_disk_pattern *pattern, const stk_log *log, stk_disk_result *out);
} stk_disk_engine;

extern const stk_disk_engine stk_disk_uring; // probe_uring.c
extern const stk_disk_engine stk_disk_threads;

#endif
