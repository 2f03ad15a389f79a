#include "base/cores.h"

#include <stdlib.h>
#include <string.h>

#include "base/cores_impl.h"

// A description instead of this machine: XML when it looks like a file's name.
static int describe(hwloc_topology_t topology, const char *description)
{
    size_t length = strlen(description);
    if (length > 4 && strcmp(description + length - 4, ".xml") == 0)
        return hwloc_topology_set_xml(topology, description);
    return hwloc_topology_set_synthetic(topology, description);
}

stk_status stk_cores_open(const char *description, stk_cores **out)
{
    stk_cores *cores = calloc(1, sizeof *cores);
    if (!cores)
        return STK_NO_MEMORY;
    if (hwloc_topology_init(&cores->topology) != 0)
        goto err_free;
    // Without the disallowed-objects flag hwloc hides what cgroups and cpusets forbid.
    if (!description)
        hwloc_topology_set_flags(cores->topology, HWLOC_TOPOLOGY_FLAG_RESTRICT_TO_CPUBINDING |
                                                      HWLOC_TOPOLOGY_FLAG_IS_THISSYSTEM);
    if ((description && describe(cores->topology, description) != 0) ||
        hwloc_topology_load(cores->topology) != 0)
        goto err_topology;
    int count = hwloc_get_nbobjs_by_type(cores->topology, HWLOC_OBJ_CORE);
    cores->type = HWLOC_OBJ_CORE;
    if (count <= 0) {
        count = hwloc_get_nbobjs_by_type(cores->topology, HWLOC_OBJ_PU);
        cores->type = HWLOC_OBJ_PU;
    }
    cores->count = count > 0 ? (uint32_t)count : 1;
    cores->before = hwloc_bitmap_alloc();
    if (!cores->before)
        goto err_topology;
    if (hwloc_get_cpubind(cores->topology, cores->before, HWLOC_CPUBIND_THREAD) != 0)
        hwloc_bitmap_zero(cores->before);
    *out = cores;
    return STK_OK;

err_topology:
    hwloc_topology_destroy(cores->topology);
err_free:
    free(cores);
    return STK_NO_MEMORY;
}

void stk_cores_close(stk_cores **cores)
{
    if (!*cores)
        return;
    hwloc_bitmap_free((*cores)->before);
    hwloc_topology_destroy((*cores)->topology);
    free(*cores);
    *cores = NULL;
}

uint32_t stk_cores_count(const stk_cores *cores)
{
    return cores->count;
}

_Bool stk_cores_bind(const stk_cores *cores, uint32_t index)
{
    hwloc_obj_t core = hwloc_get_obj_by_type(cores->topology, cores->type,
                                             (unsigned)(index % cores->count));
    if (!core)
        return 0;
    hwloc_bitmap_t set = hwloc_bitmap_dup(core->cpuset);
    if (!set)
        return 0;
    hwloc_bitmap_singlify(set);
    int rc = hwloc_set_cpubind(cores->topology, set, HWLOC_CPUBIND_THREAD);
    hwloc_bitmap_free(set);
    return rc == 0;
}

_Bool stk_cores_unbind(const stk_cores *cores)
{
    return !hwloc_bitmap_iszero(cores->before) &&
           hwloc_set_cpubind(cores->topology, cores->before, HWLOC_CPUBIND_THREAD) == 0;
}
