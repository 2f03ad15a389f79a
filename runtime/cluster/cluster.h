// cluster/cluster.h: the ranks of a job: who they are, messages between them, and noticing at once
// when one is gone.
//
// Owns MPI, which is initialised only when a launcher started several processes, and a thread that
// says every half second that this rank lives. Knows nothing of models or sessions. Invariant: when
// a rank dies, hangs or is cut off, every rank that is left says which and ends within seconds, so
// no call here waits for ever; whoever computes for long is not mistaken for one who hangs.
//
// Nobody waits by spinning for longer than a moment: see stk_cluster_receive.
#ifndef STK_CLUSTER_CLUSTER_H
#define STK_CLUSTER_CLUSTER_H

#include "base/log.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { STK_CLUSTER_RANKS_MAX = 64, STK_CLUSTER_HOST_BYTES = 64, STK_CLUSTER_BULKS_MAX = 65 };

// Thread-safety: none, one thread uses it; the thread inside looks after itself.
typedef struct stk_cluster stk_cluster;

typedef struct stk_cluster_options {
    const stk_log *log;      // borrowed
    const char *version;     // of this program; ranks of different versions do not start
    uint32_t silence_ms_max; // a rank unheard of for so long is lost; 0: 5000
} stk_cluster_options;

// Meets the other ranks. *out stays NULL where no launcher started several processes. STK_INVALID:
// too many ranks, or of different versions; STK_UNSUPPORTED: started by a launcher, but the library
// that holds MPI is not there or does not load, or MPI without threads. All are logged.
STK_CHECKED stk_status stk_cluster_open(const stk_cluster_options *options, stk_cluster **out);
// Waits for nobody's messages; every rank must call it. Sets *cluster to NULL; NULL is allowed.
void stk_cluster_close(stk_cluster **cluster);

uint32_t stk_cluster_rank(const stk_cluster *cluster);
uint32_t stk_cluster_count(const stk_cluster *cluster);
const char *stk_cluster_host(const stk_cluster *cluster, uint32_t rank);
// Machines are told apart by what their kernel calls this boot, so containers and network
// namespaces with host names of their own are still on the machine whose cores and memory they
// share.
uint32_t stk_cluster_ranks_here(const stk_cluster *cluster);          // on this rank's machine
uint32_t stk_cluster_turn(const stk_cluster *cluster, uint32_t rank); // ranks before it on its one

// Nothing below fails when a rank is lost: this process has ended then.

// Gives every rank the `bytes` of each, in rank order: all[count][bytes]. Every rank must call it.
void stk_cluster_gather(stk_cluster *cluster, const void *mine, size_t bytes, void *all);
// Gives every rank the `bytes` that rank 0 has. Every rank must call it.
void stk_cluster_share(stk_cluster *cluster, void *data, size_t bytes);

// Takes the memory for messages of at most `bytes`: two on their way out, two on their way in. None
// may be under way. STK_NO_MEMORY; STK_INVALID: more than MPI can send.
STK_CHECKED stk_status stk_cluster_reserve(stk_cluster *cluster, size_t bytes);
uint64_t stk_cluster_reserve_bytes(size_t bytes); // memory that takes

// The place of the next message out, 64-byte aligned; waits until one of two is free.
void *stk_cluster_send_begin(stk_cluster *cluster);
// Sends what was written there, `size` bytes; returns at once.
void stk_cluster_send_end(stk_cluster *cluster, uint32_t to, size_t size);

// Waits for the next message from anybody: looks for about 50 us, then sleeps a little longer each
// time, at most 0.1 ms (2 ms once nothing has come for a second). The message, *size bytes, is
// 64-byte aligned and valid until the next call. stk_cluster_poll does not wait: NULL.
const void *stk_cluster_receive(stk_cluster *cluster, size_t *size);
const void *stk_cluster_poll(stk_cluster *cluster, size_t *size);

// Large data apart from messages, straight from and to the caller's memory, at most 2 GiB. send
// waits until `data` may be reused. expect prepares for it and arrived waits; forget gives up
// expecting. What a rank sends goes to the slots (< STK_CLUSTER_BULKS_MAX) that expect it in the
// order in which they do. STK_FORMAT: another size came than expected.
void stk_cluster_bulk_send(stk_cluster *cluster, uint32_t to, const void *data, size_t size);
void stk_cluster_bulk_expect(stk_cluster *cluster, uint32_t slot, uint32_t from, void *data,
                             size_t size);
STK_CHECKED stk_status stk_cluster_bulk_arrived(stk_cluster *cluster, uint32_t slot, size_t size);
void stk_cluster_bulk_forget(stk_cluster *cluster, uint32_t slot);

#endif
