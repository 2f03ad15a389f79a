// cluster/mpi/cluster_impl.h: what the MPI side of this room shares. Not for other rooms.
#ifndef STK_CLUSTER_MPI_CLUSTER_IMPL_H
#define STK_CLUSTER_MPI_CLUSTER_IMPL_H

#include "cluster/plugin.h"

#include <mpi.h>
#include <pthread.h>
#include <stdatomic.h>

struct stk_cluster {
    stk_cluster_facts facts; // first
    const stk_log *log;
    MPI_Comm messages, pulses; // duplicates, so that neither sees the other's traffic

    // Messages: slot i is in use while its request is not MPI_REQUEST_NULL.
    size_t message_bytes;
    uint8_t *buffers; // [2 * STK_CLUSTER_BUFFERS][message_bytes]
    uint64_t buffers_bytes;
    MPI_Request out[STK_CLUSTER_BUFFERS], in[STK_CLUSTER_BUFFERS];
    uint32_t next_out, next_in;
    bool in_hand; // in[next_in - 1]'s buffer is the caller's until the next receive
    MPI_Request bulks[STK_CLUSTER_BULKS_MAX];

    // The pulse: its own thread. Times are of the monotonic clock.
    pthread_t thread;
    bool has_thread;
    pthread_mutex_t lock; // with the condition, only to be woken for the end
    pthread_cond_t wake;
    bool stops;
    uint64_t silence_ns_max;
    _Atomic uint64_t bulk_ns;   // when large data last moved: MPI wants to be called then
    _Atomic uint64_t *heard_ns; // [count]: last sign of life
    MPI_Request *beats;         // [count]: out
    MPI_Request beat_in;
    uint32_t beat_out_data, beat_in_data;
};

uint64_t stk_cluster_now_ns(void);
// Returns if the call that returned `code` worked. Else logs what MPI says of it and ends the job:
// what MPI cannot deliver, the other ranks would wait for.
void stk_cluster_check(stk_cluster *cluster, int code, const char *what);
// Logs that the rank is gone and ends the job, this process included. Does not return.
void stk_cluster_lose(stk_cluster *cluster, uint32_t rank, const char *why);

// What plugin.c lists; see cluster/cluster.h.
extern const stk_cluster_ops stk_cluster_mpi_ops;
STK_CHECKED stk_status stk_mpi_open(const stk_cluster_options *options, const stk_launch *launch,
                                    stk_cluster **out);
void stk_mpi_close(stk_cluster **cluster);
void stk_mpi_gather(stk_cluster *cluster, const void *mine, size_t bytes, void *all);
void stk_mpi_share(stk_cluster *cluster, void *data, size_t bytes);
STK_CHECKED stk_status stk_mpi_reserve(stk_cluster *cluster, size_t bytes);
void *stk_mpi_send_begin(stk_cluster *cluster);
void stk_mpi_send_end(stk_cluster *cluster, uint32_t to, size_t size);
const void *stk_mpi_receive(stk_cluster *cluster, size_t *size);
const void *stk_mpi_poll(stk_cluster *cluster, size_t *size);
void stk_mpi_bulk_send(stk_cluster *cluster, uint32_t to, const void *data, size_t size);
void stk_mpi_bulk_expect(stk_cluster *cluster, uint32_t slot, uint32_t from, void *data,
                         size_t size);
STK_CHECKED stk_status stk_mpi_bulk_arrived(stk_cluster *cluster, uint32_t slot, size_t size);
void stk_mpi_bulk_forget(stk_cluster *cluster, uint32_t slot);

// pulse.c
STK_CHECKED stk_status stk_cluster_pulse_start(stk_cluster *cluster);
void stk_cluster_pulse_stop(stk_cluster *cluster);
static inline void stk_cluster_heard(stk_cluster *cluster, int rank)
{
    // relaxed: a time, no data comes with it
    atomic_store_explicit(&cluster->heard_ns[rank], stk_cluster_now_ns(), memory_order_relaxed);
}

#endif
