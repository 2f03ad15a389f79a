// topology/machine_hwloc.c: processors: packages, caches, cores.
#include "topology/machine_impl.h"

#include <string.h>

stk_pu_set stk_machine_take_pus(stk_machine *machine, hwloc_const_cpuset_t set)
{
    int weight = set ? hwloc_bitmap_weight(set) : 0;
    if (weight <= 0) // -1: infinite, which no object's set is
        return (stk_pu_set){NULL, 0};
    uint32_t *pus = stk_machine_take(machine, (size_t)weight, sizeof *pus), count = 0;
    if (!pus)
        return (stk_pu_set){NULL, 0};
    for (int i = hwloc_bitmap_first(set); i >= 0; i = hwloc_bitmap_next(set, i))
        pus[count++] = (uint32_t)i;
    return (stk_pu_set){pus, count};
}

static uint32_t count_of(const stk_machine *m, hwloc_obj_type_t type)
{
    int count = hwloc_get_nbobjs_by_type(m->topology, type);
    return count > 0 ? (uint32_t)count : 0; // -1: on several levels
}

static void read_packages(stk_machine *m)
{
    uint32_t count = count_of(m, HWLOC_OBJ_PACKAGE);
    m->packages = stk_machine_take(m, count, sizeof *m->packages);
    if (!m->packages)
        return;
    for (uint32_t i = 0; i < count; i++) {
        hwloc_obj_t o = hwloc_get_obj_by_type(m->topology, HWLOC_OBJ_PACKAGE, i);
        int cores = hwloc_get_nbobjs_inside_cpuset_by_type(m->topology, o->cpuset, HWLOC_OBJ_CORE);
        m->packages[i] = (stk_package){
            .os_index = o->os_index,
            .cpu_model = stk_machine_take_text(m, hwloc_obj_get_info_by_name(o, "CPUModel")),
            .pus = stk_machine_take_pus(m, o->cpuset),
            .core_count = cores > 0 ? (uint32_t)cores : 0,
        };
    }
    m->package_count = count;
}

static void add_caches(stk_machine *m, hwloc_obj_type_t type, uint32_t capacity)
{
    for (hwloc_obj_t o = NULL; (o = hwloc_get_next_obj_by_type(m->topology, type, o));) {
        if (m->cache_count == capacity)
            return;
        const struct hwloc_cache_attr_s *a = &o->attr->cache;
        m->caches[m->cache_count++] = (stk_cache){
            .level = a->depth,
            .kind = a->type == HWLOC_OBJ_CACHE_DATA          ? STK_CACHE_DATA
                    : a->type == HWLOC_OBJ_CACHE_INSTRUCTION ? STK_CACHE_INSTRUCTION
                                                             : STK_CACHE_UNIFIED,
            .size_bytes = a->size,
            .line_bytes = a->linesize,
            .pus = stk_machine_take_pus(m, o->cpuset),
        };
    }
}

// Outermost first.
static void read_caches(stk_machine *m)
{
    static const hwloc_obj_type_t types[] = {
        HWLOC_OBJ_L5CACHE, HWLOC_OBJ_L4CACHE,  HWLOC_OBJ_L3CACHE,  HWLOC_OBJ_L2CACHE,
        HWLOC_OBJ_L1CACHE, HWLOC_OBJ_L3ICACHE, HWLOC_OBJ_L2ICACHE, HWLOC_OBJ_L1ICACHE};
    uint32_t count = 0;
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        count += count_of(m, types[i]);
    m->caches = stk_machine_take(m, count, sizeof *m->caches);
    for (size_t i = 0; m->caches && i < sizeof types / sizeof *types; i++)
        add_caches(m, types[i], count);
}

// The kind of one core. hwloc ranks kinds from 0, the slowest; -1 when it cannot tell.
static void set_kind(const stk_machine *m, hwloc_const_cpuset_t set, stk_core *core)
{
    int kinds = hwloc_cpukinds_get_nr(m->topology, 0), efficiency;
    if (kinds < 2)
        return;
    int kind = hwloc_cpukinds_get_by_cpuset(m->topology, set, 0);
    if (kind < 0 ||
        hwloc_cpukinds_get_info(m->topology, (unsigned)kind, NULL, &efficiency, NULL, NULL, 0) !=
            0 ||
        efficiency < 0)
        return;
    core->rank = (uint32_t)efficiency;
    core->kind = efficiency == kinds - 1 ? STK_CORE_PERFORMANCE : STK_CORE_EFFICIENCY;
}

static uint32_t package_of(hwloc_obj_t o)
{
    while (o && o->type != HWLOC_OBJ_PACKAGE)
        o = o->parent;
    return o ? o->logical_index : STK_INDEX_NONE;
}

static void read_cores(stk_machine *m)
{
    // Some virtual machines and old ARM kernels tell of PUs only.
    hwloc_obj_type_t type = count_of(m, HWLOC_OBJ_CORE) ? HWLOC_OBJ_CORE : HWLOC_OBJ_PU;
    uint32_t count = count_of(m, type);
    m->cores = stk_machine_take(m, count, sizeof *m->cores);
    if (!m->cores)
        return;
    for (uint32_t i = 0; i < count; i++) {
        hwloc_obj_t o = hwloc_get_obj_by_type(m->topology, type, i);
        m->cores[i] = (stk_core){
            .pus = stk_machine_take_pus(m, o->cpuset),
            .package_index = package_of(o),
            .node_index = stk_machine_nearest_node(m, o),
        };
        set_kind(m, o->cpuset, &m->cores[i]);
        if (m->cores[i].node_index != STK_INDEX_NONE)
            m->nodes[m->cores[i].node_index].core_count++;
    }
    m->core_count = count;
}

void stk_machine_read_cpus(stk_machine *machine)
{
    machine->pus = stk_machine_take_pus(machine,
                                        hwloc_topology_get_topology_cpuset(machine->topology));
    read_packages(machine);
    read_caches(machine);
    read_cores(machine);
}
