// The room without MPI: a process that runs alone, and a plain word to one that does not.
#include "cluster/cluster.h"

#include "cluster/launcher.h"

stk_status stk_cluster_open(const stk_cluster_options *options, stk_cluster **out)
{
    stk_launch launch;
    *out = NULL;
    if (!stk_launch_detect(&launch))
        return STK_OK;
    if (launch.rank > 0)
        return STK_UNSUPPORTED; // rank 0 says it
    return stk_fail(options->log, STK_UNSUPPORTED,
                    "%s started %u processes, but this stoker was built without MPI", launch.name,
                    launch.count);
}

void stk_cluster_close(stk_cluster **cluster)
{
    *cluster = NULL;
}

// Nothing below is reached: nobody has a cluster.

uint32_t stk_cluster_rank(const stk_cluster *cluster)
{
    (void)cluster;
    return 0;
}

uint32_t stk_cluster_count(const stk_cluster *cluster)
{
    (void)cluster;
    return 1;
}

const char *stk_cluster_host(const stk_cluster *cluster, uint32_t rank)
{
    (void)cluster, (void)rank;
    return "";
}

uint32_t stk_cluster_ranks_here(const stk_cluster *cluster)
{
    (void)cluster;
    return 1;
}

uint32_t stk_cluster_turn(const stk_cluster *cluster, uint32_t rank)
{
    (void)cluster, (void)rank;
    return 0;
}

void stk_cluster_gather(stk_cluster *cluster, const void *mine, size_t bytes, void *all)
{
    (void)cluster, (void)mine, (void)bytes, (void)all;
}

void stk_cluster_share(stk_cluster *cluster, void *data, size_t bytes)
{
    (void)cluster, (void)data, (void)bytes;
}

stk_status stk_cluster_reserve(stk_cluster *cluster, size_t bytes)
{
    (void)cluster, (void)bytes;
    return STK_UNSUPPORTED;
}

uint64_t stk_cluster_reserve_bytes(size_t bytes)
{
    (void)bytes;
    return 0;
}

void *stk_cluster_send_begin(stk_cluster *cluster)
{
    (void)cluster;
    return NULL;
}

void stk_cluster_send_end(stk_cluster *cluster, uint32_t to, size_t size)
{
    (void)cluster, (void)to, (void)size;
}

const void *stk_cluster_receive(stk_cluster *cluster, size_t *size)
{
    (void)cluster, (void)size;
    return NULL;
}

const void *stk_cluster_poll(stk_cluster *cluster, size_t *size)
{
    (void)cluster, (void)size;
    return NULL;
}

void stk_cluster_bulk_send(stk_cluster *cluster, uint32_t to, const void *data, size_t size)
{
    (void)cluster, (void)to, (void)data, (void)size;
}

void stk_cluster_bulk_expect(stk_cluster *cluster, uint32_t slot, uint32_t from, void *data,
                             size_t size)
{
    (void)cluster, (void)slot, (void)from, (void)data, (void)size;
}

stk_status stk_cluster_bulk_arrived(stk_cluster *cluster, uint32_t slot, size_t size)
{
    (void)cluster, (void)slot, (void)size;
    return STK_UNSUPPORTED;
}

void stk_cluster_bulk_forget(stk_cluster *cluster, uint32_t slot)
{
    (void)cluster, (void)slot;
}
