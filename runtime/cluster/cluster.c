// Loads the library that holds MPI where there are several processes, and calls it.
#include "cluster/cluster.h"

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cluster/plugin.h"

enum { PATH_BYTES = 4096 };

static const char LIBRARY[] = "libstoker-mpi.so";

// Beside the program, or where an installed one keeps its libraries.
static bool find_library(char path[PATH_BYTES])
{
    static const char *const folders[] = {"", "../lib/stoker/"};
    char program[PATH_BYTES];
    ssize_t length = readlink("/proc/self/exe", program, sizeof program - 1);
    if (length <= 0)
        return false;
    program[length] = '\0';
    char *name = strrchr(program, '/');
    for (size_t i = 0; name && i < sizeof folders / sizeof *folders; i++) {
        int bytes = snprintf(path, PATH_BYTES, "%.*s%s%s", (int)(name + 1 - program), program,
                             folders[i], LIBRARY);
        if (bytes < PATH_BYTES && access(path, R_OK) == 0)
            return true;
    }
    return false;
}

// It stays loaded until the program ends: MPI leaves behind what may still run then.
static stk_status load(const stk_log *log, const stk_launch *launch, const stk_cluster_ops **out)
{
    char path[PATH_BYTES];
    if (!find_library(path))
        return stk_fail(log, STK_UNSUPPORTED,
                        "%s started %u processes, but %s is not beside this program: it is there "
                        "when stoker is built where MPI is installed",
                        launch->name, launch->count, LIBRARY);
    void *library = dlopen(path, RTLD_NOW | RTLD_GLOBAL); // MPI loads parts that look for it
    const stk_cluster_ops *ops = library ? dlsym(library, STK_CLUSTER_OPS_NAME) : NULL;
    if (!ops)
        return stk_fail(log, STK_UNSUPPORTED, "%s cannot be loaded: %s", path, dlerror());
    if (ops->protocol != STK_CLUSTER_PROTOCOL || ops->struct_bytes != sizeof *ops)
        return stk_fail(log, STK_UNSUPPORTED, "%s is of another version of stoker", path);
    *out = ops;
    return STK_OK;
}

stk_status stk_cluster_open(const stk_cluster_options *options, stk_cluster **out)
{
    stk_launch launch;
    const stk_cluster_ops *ops;
    *out = NULL;
    if (!stk_launch_detect(&launch))
        return STK_OK;
    stk_status status = load(options->log, &launch, &ops); // each may be on a machine of its own
    return status == STK_OK ? ops->open(options, &launch, out) : status;
}

static const stk_cluster_facts *facts_of(const stk_cluster *cluster)
{
    return (const stk_cluster_facts *)(const void *)cluster;
}

static const stk_cluster_ops *ops_of(const stk_cluster *cluster)
{
    return facts_of(cluster)->ops;
}

void stk_cluster_close(stk_cluster **cluster)
{
    if (*cluster)
        ops_of(*cluster)->close(cluster);
}

uint32_t stk_cluster_rank(const stk_cluster *cluster)
{
    return facts_of(cluster)->rank;
}

uint32_t stk_cluster_count(const stk_cluster *cluster)
{
    return facts_of(cluster)->count;
}

const char *stk_cluster_host(const stk_cluster *cluster, uint32_t rank)
{
    return facts_of(cluster)->hosts[rank];
}

uint32_t stk_cluster_ranks_here(const stk_cluster *cluster)
{
    return facts_of(cluster)->ranks_here;
}

uint32_t stk_cluster_turn(const stk_cluster *cluster, uint32_t rank)
{
    return facts_of(cluster)->turns[rank];
}

void stk_cluster_gather(stk_cluster *cluster, const void *mine, size_t bytes, void *all)
{
    ops_of(cluster)->gather(cluster, mine, bytes, all);
}

void stk_cluster_share(stk_cluster *cluster, void *data, size_t bytes)
{
    ops_of(cluster)->share(cluster, data, bytes);
}

stk_status stk_cluster_reserve(stk_cluster *cluster, size_t bytes)
{
    return ops_of(cluster)->reserve(cluster, bytes);
}

uint64_t stk_cluster_reserve_bytes(size_t bytes)
{
    return 2 * STK_CLUSTER_BUFFERS * ((uint64_t)(bytes + 63) / 64 * 64);
}

void *stk_cluster_send_begin(stk_cluster *cluster)
{
    return ops_of(cluster)->send_begin(cluster);
}

void stk_cluster_send_end(stk_cluster *cluster, uint32_t to, size_t size)
{
    ops_of(cluster)->send_end(cluster, to, size);
}

const void *stk_cluster_receive(stk_cluster *cluster, size_t *size)
{
    return ops_of(cluster)->receive(cluster, size);
}

const void *stk_cluster_poll(stk_cluster *cluster, size_t *size)
{
    return ops_of(cluster)->poll(cluster, size);
}

void stk_cluster_bulk_send(stk_cluster *cluster, uint32_t to, const void *data, size_t size)
{
    ops_of(cluster)->bulk_send(cluster, to, data, size);
}

void stk_cluster_bulk_expect(stk_cluster *cluster, uint32_t slot, uint32_t from, void *data,
                             size_t size)
{
    ops_of(cluster)->bulk_expect(cluster, slot, from, data, size);
}

stk_status stk_cluster_bulk_arrived(stk_cluster *cluster, uint32_t slot, size_t size)
{
    return ops_of(cluster)->bulk_arrived(cluster, slot, size);
}

void stk_cluster_bulk_forget(stk_cluster *cluster, uint32_t slot)
{
    ops_of(cluster)->bulk_forget(cluster, slot);
}
