// cluster/plugin.h: what the program asks of the library that holds MPI.
//
// MPI is in a library of its own, libstoker-mpi.so, which is loaded only where a launcher started
// several processes: a program that runs alone neither needs MPI installed nor pays for it.
// Private to this room: the library is mpi/, cluster.c calls it.
#ifndef STK_CLUSTER_PLUGIN_H
#define STK_CLUSTER_PLUGIN_H

#include "cluster/cluster.h"
#include "cluster/launcher.h"

enum { STK_CLUSTER_BUFFERS = 2, STK_CLUSTER_PROTOCOL = 3 };

#define STK_CLUSTER_OPS_NAME "stk_cluster_mpi_ops"

// As the functions of cluster.h with these names.
typedef struct stk_cluster_ops {
    uint32_t protocol, struct_bytes; // of this struct, which tells another version
    stk_status (*open)(const stk_cluster_options *options, const stk_launch *launch,
                       stk_cluster **out);
    void (*close)(stk_cluster **cluster);
    void (*gather)(stk_cluster *cluster, const void *mine, size_t bytes, void *all);
    void (*share)(stk_cluster *cluster, void *data, size_t bytes);
    stk_status (*reserve)(stk_cluster *cluster, size_t bytes);
    void *(*send_begin)(stk_cluster *cluster);
    void (*send_end)(stk_cluster *cluster, uint32_t to, size_t size);
    const void *(*receive)(stk_cluster *cluster, size_t *size);
    const void *(*poll)(stk_cluster *cluster, size_t *size);
    void (*bulk_send)(stk_cluster *cluster, uint32_t to, const void *data, size_t size);
    void (*bulk_expect)(stk_cluster *cluster, uint32_t slot, uint32_t from, void *data,
                        size_t size);
    stk_status (*bulk_arrived)(stk_cluster *cluster, uint32_t slot, size_t size);
    void (*bulk_forget)(stk_cluster *cluster, uint32_t slot);
} stk_cluster_ops;

// The first member of a stk_cluster.
typedef struct stk_cluster_facts {
    const stk_cluster_ops *ops;
    uint32_t rank, count, ranks_here;
    char (*hosts)[STK_CLUSTER_HOST_BYTES]; // [count]
    uint32_t *turns;                       // [count]: ranks before it on its machine
} stk_cluster_facts;

#endif
