// topology/probe.h: how fast this machine's memory, processors and disks really are.
//
// Measures; keeps nothing. Every measurement has a bounded time and a bounded size. Threads are
// bound for the measurement and the caller's binding is restored. Speeds are the best of several
// runs: what disturbs a run only makes it slower.
#ifndef STK_TOPOLOGY_PROBE_H
#define STK_TOPOLOGY_PROBE_H

#include "topology/block.h"
#include "topology/machine.h"

// Reading the memory of one node from all cores of another, or of the same.
typedef struct stk_probe_read {
    uint32_t from_node, to_node; // indexes: whose cores read, whose memory is read
    uint32_t thread_count;       // one per core of from_node
    uint64_t read_mib_s;         // all threads together
    uint64_t one_thread_mib_s;
    uint64_t buffer_bytes; // more than twice the caches, where memory allows
    // The same with jumps: 160 KiB from a random place, then runs of 1.5 KiB that skip about as
    // much, as networks read whose neurons mostly rest.
    uint64_t runs_mib_s, one_thread_runs_mib_s;
} stk_probe_read;

typedef struct stk_probe_memory_options {
    uint64_t buffer_bytes_max; // per pair of nodes; 0: 4 GiB; never over a quarter of what is free
    uint32_t runs;             // 0: 5
} stk_probe_memory_options;

// Measures every pair of a node with cores and a node with memory. Writes at most `capacity`
// results and their number; node_count squared is always enough. STK_INVALID: not this machine;
// STK_NO_MEMORY: no buffer at all. A node whose memory cannot be taken is left out (logged).
STK_CHECKED stk_status stk_probe_memory(const stk_machine *machine,
                                        const stk_probe_memory_options *options, const stk_log *log,
                                        stk_probe_read *results, uint32_t capacity,
                                        uint32_t *count);

// Work whose speed is of interest, given by the caller: one call on worker `worker` should take
// some 100 us. Returns the operations done. Called by all workers at once.
typedef uint64_t (*stk_probe_work)(void *user, uint32_t worker);

typedef struct stk_probe_rate {
    uint32_t thread_count;
    double all_per_s;        // operations per second, all threads
    double one_thread_per_s; // of one thread while the others rest
} stk_probe_rate;

typedef struct stk_probe_work_options {
    stk_probe_work work;
    void *user;
    uint32_t runs;         // 0: 5
    uint32_t milliseconds; // of each; 0: 60, in which clocks settle under wide vectors
    bool skips_one;        // one_thread_per_s is all_per_s over thread_count then
} stk_probe_work_options;

// Runs `work` on worker_count = stk_machine_worker_count() bound threads, and as often on one.
// STK_INVALID: not this machine; STK_NO_MEMORY: no threads.
STK_CHECKED stk_status stk_probe_work_rate(const stk_machine *machine,
                                           const stk_probe_work_options *options,
                                           const stk_log *log, stk_probe_rate *out);

typedef struct stk_probe_disk_options {
    const char *path;          // a large file to read, or a folder (or small file) beside which a
                               // temporary file is written and removed
    uint64_t file_bytes_max;   // of the temporary file; 0: 256 MiB; never over an eighth of the
                               // free space
    uint32_t milliseconds_max; // per pattern, of four, three runs together; 0: 1000
    bool no_uring;             // use threads even where io_uring works
    bool is_quick;             // random experts and single 4 KiB reads only; the others stay 0
    uint64_t memory_bytes_max; // that reads end in, in turns; 0: 128 MiB; at least 8 MiB is taken
} stk_probe_disk_options;

typedef struct stk_probe_disk {
    stk_block_device device;
    uint64_t file_bytes;
    bool is_direct;            // false: the filesystem refused O_DIRECT, the page cache takes part
    const char *engine;        // "io_uring" or "threads"
    uint64_t sequential_mib_s; // 1 MiB reads, 8 at a time; 0: not measured
    uint64_t random_expert_mib_s;    // 2 MiB in four reads of 512 KiB, 16 of these at a time
    uint64_t random_4kib_per_s;      // 4 KiB reads, one at a time
    uint64_t random_4kib_latency_ns; // mean of those
    uint64_t random_4kib_deep_per_s; // 4 KiB reads, 32 at a time; 0: not measured
} stk_probe_disk;

// Never writes to the given file. STK_IO: the path, a read or the temporary file failed (logged);
// STK_UNSUPPORTED: too little free space for a temporary file; STK_NO_MEMORY.
STK_CHECKED stk_status stk_probe_disk_run(const stk_probe_disk_options *options, const stk_log *log,
                                          stk_probe_disk *out);

#endif
