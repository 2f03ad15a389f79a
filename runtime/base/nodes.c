#include "base/nodes.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cores_impl.h"

// A group of cores before workers are known.
typedef struct group {
    hwloc_bitmap_t cpus;   // of its cores
    hwloc_bitmap_t memory; // system numbers of its own memory and what belongs to it
    uint32_t *cores;       // [core_count] indexes into stk_cores
    uint32_t core_count, worker_count;
    uint32_t os_index;
    uint32_t extra_count; // of memory without workers that it got
} group;

struct stk_nodes {
    stk_cores *cores;
    const stk_log *log;
    uint32_t worker_count, count;
    group *groups; // [count]
    stk_node *nodes;
    atomic_flag is_refused; // said once that pages cannot be bound
};

static hwloc_obj_t memory_at(const stk_nodes *n, uint32_t index)
{
    return hwloc_get_obj_by_type(n->cores->topology, HWLOC_OBJ_NUMANODE, index);
}

static uint32_t memory_count(const stk_nodes *n)
{
    int count = hwloc_get_nbobjs_by_type(n->cores->topology, HWLOC_OBJ_NUMANODE);
    return count > 0 ? (uint32_t)count : 0;
}

static hwloc_obj_t core_at(const stk_nodes *n, uint32_t index)
{
    return hwloc_get_obj_by_type(n->cores->topology, n->cores->type, index);
}

// The memory nearest to a core: that of the narrowest place around it, and among equals (HBM beside
// DRAM) the one the system numbers first.
static hwloc_obj_t nearest_memory(const stk_nodes *n, hwloc_obj_t core)
{
    hwloc_obj_t nearest = NULL;
    int narrowest = 0;
    for (uint32_t i = 0; i < memory_count(n); i++) {
        hwloc_obj_t memory = memory_at(n, i);
        int width = hwloc_bitmap_weight(memory->cpuset);
        if (!hwloc_bitmap_isincluded(core->cpuset, memory->cpuset))
            continue;
        if (!nearest || width < narrowest ||
            (width == narrowest && memory->os_index < nearest->os_index)) {
            nearest = memory;
            narrowest = width;
        }
    }
    return nearest;
}

static bool add_core(stk_nodes *n, group *g, uint32_t index)
{
    hwloc_obj_t core = core_at(n, index), memory = core ? nearest_memory(n, core) : NULL;
    if (!g->cores) {
        g->cores = calloc(n->cores->count, sizeof *g->cores);
        g->cpus = hwloc_bitmap_alloc();
        g->memory = hwloc_bitmap_alloc();
        g->os_index = memory ? memory->os_index : 0;
        if (!g->cores || !g->cpus || !g->memory)
            return false;
        hwloc_bitmap_set(g->memory, g->os_index);
    }
    if (core)
        hwloc_bitmap_or(g->cpus, g->cpus, core->cpuset);
    g->cores[g->core_count++] = index;
    return true;
}

// The machine's own groups: cores by their nearest memory, in the order of the cores.
static bool group_by_memory(stk_nodes *n)
{
    for (uint32_t i = 0; i < n->cores->count; i++) {
        hwloc_obj_t core = core_at(n, i), memory = core ? nearest_memory(n, core) : NULL;
        uint32_t os_index = memory ? memory->os_index : 0, at = 0;
        while (at < n->count && n->groups[at].os_index != os_index)
            at++;
        if (at == STK_NODES_MAX)
            at--; // beyond any machine of today
        if (at == n->count)
            n->count++;
        if (!add_core(n, &n->groups[at], i))
            return false;
    }
    return true;
}

// So many groups as asked for: of consecutive cores, or of one core that others use too.
static bool group_by_number(stk_nodes *n, uint32_t count)
{
    uint64_t cores = n->cores->count;
    while (n->count < count) {
        group *g = &n->groups[n->count++]; // counted first: what it got is freed if the rest fails
        uint32_t begin = (uint32_t)(cores * (n->count - 1) / count);
        uint32_t end = (uint32_t)(cores * n->count / count);
        for (uint32_t i = begin; i < end || i == begin; i++)
            if (!add_core(n, g, i))
                return false;
    }
    return true;
}

// Workers in proportion to cores; what is left over goes to the largest remainders, the first
// among equals. A group may get none.
static void share_workers(stk_nodes *n)
{
    uint64_t cores = 0, given = 0;
    for (uint32_t i = 0; i < n->count; i++)
        cores += n->groups[i].core_count;
    for (uint32_t i = 0; i < n->count; i++) {
        n->groups[i].worker_count = (uint32_t)((uint64_t)n->worker_count * n->groups[i].core_count /
                                               cores);
        given += n->groups[i].worker_count;
    }
    for (; given < n->worker_count; given++) {
        uint64_t best = 0, largest = 0;
        for (uint32_t i = 0; i < n->count; i++) {
            const group *g = &n->groups[i];
            uint64_t want = (uint64_t)n->worker_count * g->core_count;
            uint64_t have = g->worker_count * cores;
            if (want > have && want - have > largest) {
                largest = want - have;
                best = i;
            }
        }
        n->groups[best].worker_count++;
    }
}

static void free_group(group *g)
{
    hwloc_bitmap_free(g->cpus);
    hwloc_bitmap_free(g->memory);
    free(g->cores);
}

static void drop_idle_groups(stk_nodes *n)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < n->count; i++) {
        if (n->groups[i].worker_count > 0)
            n->groups[kept++] = n->groups[i];
        else
            free_group(&n->groups[i]);
    }
    n->count = kept;
}

// The system's relative distance from a group's memory; where it says none, memory around the
// group is nearer than other memory.
static uint64_t distance_to(const stk_nodes *n, const group *g, hwloc_obj_t memory)
{
    uint64_t distance = hwloc_bitmap_intersects(g->cpus, memory->cpuset) ? 1000 : 2000;
    unsigned count = 1;
    struct hwloc_distances_s *d = NULL;
    if (hwloc_distances_get_by_type(n->cores->topology, HWLOC_OBJ_NUMANODE, &count, &d,
                                    HWLOC_DISTANCES_KIND_MEANS_LATENCY, 0) != 0 ||
        count == 0)
        return distance;
    for (unsigned a = 0; a < d->nbobjs; a++)
        for (unsigned b = 0; b < d->nbobjs; b++)
            if (d->objs[a] && d->objs[b] && d->objs[a]->os_index == g->os_index &&
                d->objs[b] == memory)
                distance = d->values[(size_t)a * d->nbobjs + b];
    hwloc_distances_release(n->cores->topology, d);
    return distance;
}

// Memory that no worker is nearest to goes to the nearest group, among equals to the one that got
// less so far.
static void give_away_memory(stk_nodes *n)
{
    for (uint32_t i = 0; i < memory_count(n); i++) {
        hwloc_obj_t memory = memory_at(n, i);
        group *owner = NULL;
        uint64_t least = 0;
        bool is_owned = false;
        for (uint32_t g = 0; g < n->count; g++)
            is_owned |= n->groups[g].os_index == memory->os_index;
        for (uint32_t g = 0; g < n->count && !is_owned; g++) {
            uint64_t distance = distance_to(n, &n->groups[g], memory);
            if (!owner || distance < least ||
                (distance == least && n->groups[g].extra_count < owner->extra_count)) {
                owner = &n->groups[g];
                least = distance;
            }
        }
        if (owner) {
            hwloc_bitmap_set(owner->memory, memory->os_index);
            owner->extra_count++;
        }
    }
}

static stk_status build(stk_nodes *n, const stk_nodes_options *options)
{
    n->groups = calloc(STK_NODES_MAX, sizeof *n->groups);
    n->nodes = calloc(STK_NODES_MAX, sizeof *n->nodes);
    stk_status status = stk_cores_open(options->description, &n->cores);
    if (status != STK_OK || !n->groups || !n->nodes)
        return STK_NO_MEMORY;
    n->worker_count = options->worker_count ? options->worker_count : n->cores->count;
    if (n->worker_count > options->worker_max)
        n->worker_count = options->worker_max;
    uint32_t wanted = options->node_count < STK_NODES_MAX ? options->node_count : STK_NODES_MAX;
    wanted = wanted < n->worker_count ? wanted : n->worker_count;
    if (wanted == 0 ? !group_by_memory(n) : !group_by_number(n, wanted))
        return STK_NO_MEMORY;
    share_workers(n);
    drop_idle_groups(n);
    give_away_memory(n);
    uint32_t worker = 0;
    for (uint32_t i = 0; i < n->count; i++) {
        n->nodes[i] = (stk_node){worker, n->groups[i].worker_count, n->groups[i].os_index,
                                 n->groups[i].extra_count};
        worker += n->groups[i].worker_count;
        stk_debug(n->log, "node %u: %u workers on %u cores, memory %u and %u more", i,
                  n->groups[i].worker_count, n->groups[i].core_count, n->groups[i].os_index,
                  n->groups[i].extra_count);
    }
    return STK_OK;
}

stk_status stk_nodes_open(const stk_nodes_options *options, stk_nodes **out)
{
    stk_nodes *n = calloc(1, sizeof *n);
    if (!n)
        return STK_NO_MEMORY;
    n->log = options->log;
    stk_status status = build(n, options);
    if (status == STK_OK)
        *out = n;
    else
        stk_nodes_close(&n);
    return status;
}

void stk_nodes_close(stk_nodes **nodes)
{
    stk_nodes *n = *nodes;
    if (!n)
        return;
    for (uint32_t i = 0; i < n->count && n->groups; i++)
        free_group(&n->groups[i]);
    stk_cores_close(&n->cores);
    free(n->groups);
    free(n->nodes);
    free(n);
    *nodes = NULL;
}

uint32_t stk_nodes_worker_count(const stk_nodes *n)
{
    return n->worker_count;
}

const stk_node *stk_nodes_list(const stk_nodes *n, uint32_t *count)
{
    *count = n->count;
    return n->nodes;
}

uint32_t stk_nodes_of_worker(const stk_nodes *n, uint32_t worker)
{
    uint32_t node = 0;
    while (node + 1 < n->count && worker >= n->nodes[node + 1].worker_first)
        node++;
    return node;
}

uint32_t stk_nodes_share_begin(const stk_nodes *n, uint32_t node, uint32_t total)
{
    if (node >= n->count)
        return total;
    return (uint32_t)((uint64_t)total * n->nodes[node].worker_first / n->worker_count);
}

void stk_nodes_deal(const stk_nodes *n, uint32_t count, uint8_t *owner)
{
    uint64_t got[STK_NODES_MAX] = {0};
    for (uint32_t i = 0; i < count; i++) {
        // Who would be furthest behind its share.
        uint32_t next = i < n->count ? i : 0;
        for (uint32_t k = 1; k < n->count && i >= n->count; k++)
            if ((got[k] + 1) * n->nodes[next].worker_count <
                (got[next] + 1) * n->nodes[k].worker_count)
                next = k;
        owner[i] = (uint8_t)next;
        got[next]++;
    }
}

bool stk_nodes_bind(const stk_nodes *n, uint32_t worker)
{
    uint32_t node = stk_nodes_of_worker(n, worker);
    const group *g = &n->groups[node];
    // More workers than cores would be bound on top of each other: let the system place them.
    if (n->worker_count <= n->cores->count && g->worker_count <= g->core_count)
        return stk_cores_bind(n->cores, g->cores[worker - n->nodes[node].worker_first]);
    return n->count > 1 &&
           hwloc_set_cpubind(n->cores->topology, g->cpus, HWLOC_CPUBIND_THREAD) == 0;
}

bool stk_nodes_unbind(const stk_nodes *n)
{
    return stk_cores_unbind(n->cores);
}

// The whole pages of [from, from + bytes).
static uint8_t *whole_pages(const void *from, size_t *bytes)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    uintptr_t begin = ((uintptr_t)from + page - 1) / page * page;
    uintptr_t end = ((uintptr_t)from + *bytes) / page * page;
    *bytes = end > begin ? end - begin : 0;
    return (uint8_t *)begin;
}

bool stk_nodes_place(stk_nodes *n, uint32_t node, void *pages, size_t bytes)
{
    uint8_t *begin = whole_pages(pages, &bytes);
    if (n->count == 1 || bytes == 0)
        return true;
    // Not strict: a full node is no reason to end the process.
    if (hwloc_set_area_membind(n->cores->topology, begin, bytes, n->groups[node].memory,
                               HWLOC_MEMBIND_BIND, HWLOC_MEMBIND_BYNODESET) == 0)
        return true;
    int error = errno;
    if (!atomic_flag_test_and_set(&n->is_refused))
        stk_warn(n->log, "memory cannot be bound to its node (%s): first use decides instead",
                 strerror(error));
    return false;
}

stk_nodes_found stk_nodes_find(const stk_nodes *n, uint32_t node, const void *pages, size_t bytes)
{
    enum { SAMPLES = 1024 };
    stk_nodes_found found = {0, 0};
    uint8_t *begin = whole_pages(pages, &bytes);
    size_t page = (size_t)sysconf(_SC_PAGESIZE), count = bytes / page;
    size_t step = count / SAMPLES + 1;
    hwloc_bitmap_t where = hwloc_bitmap_alloc();
    for (size_t i = 0; where && i < count; i += step) {
        if (hwloc_get_area_memlocation(n->cores->topology, begin + i * page, page, where,
                                       HWLOC_MEMBIND_BYNODESET) != 0)
            break;
        if (hwloc_bitmap_iszero(where))
            continue;
        found.touched++;
        found.at_home += hwloc_bitmap_isincluded(where, n->groups[node].memory) != 0;
    }
    hwloc_bitmap_free(where);
    return found;
}
