// base/cores_impl.h: the topology behind stk_cores, for base/nodes.c. Not for other rooms.
#ifndef STK_BASE_CORES_IMPL_H
#define STK_BASE_CORES_IMPL_H

#include "base/cores.h"
#include <hwloc.h>

struct stk_cores {
    hwloc_topology_t topology;
    hwloc_obj_type_t type; // cores, or PUs where the topology has no cores
    uint32_t count;
    hwloc_bitmap_t before; // of the opening thread; empty when unknown
};

#endif
