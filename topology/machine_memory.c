// topology/machine_memory.c: NUMA nodes and what is known between them.
#include "topology/machine_impl.h"

#include <string.h>

static hwloc_obj_t node_at(const stk_machine *m, uint32_t index)
{
    return hwloc_get_obj_by_type(m->topology, HWLOC_OBJ_NUMANODE, index);
}

// Whether node a is nearer to the PUs it shares with node b. A node without cores of its own (CXL,
// HBM in some modes) is local to all PUs of a wider place; where both are as wide (HBM beside
// DRAM), the system numbers its ordinary memory first.
static bool is_nearer(const stk_memory_node *a, const stk_memory_node *b)
{
    if (a->pus.count != b->pus.count)
        return a->pus.count < b->pus.count;
    return a->os_index < b->os_index;
}

uint32_t stk_machine_nearest_node(const stk_machine *machine, hwloc_obj_t object)
{
    const stk_memory_node *nodes = machine->nodes;
    uint32_t nearest = STK_INDEX_NONE;
    for (uint32_t i = 0; i < machine->node_count; i++)
        if (object->nodeset && hwloc_bitmap_isset(object->nodeset, nodes[i].os_index) &&
            nodes[i].pus.count > 0 &&
            (nearest == STK_INDEX_NONE || is_nearer(&nodes[i], &nodes[nearest])))
            nearest = i;
    return nearest;
}

static void read_nodes(stk_machine *m)
{
    int found = hwloc_get_nbobjs_by_type(m->topology, HWLOC_OBJ_NUMANODE);
    uint32_t count = found > 0 ? (uint32_t)found : 0;
    count = count < STK_MACHINE_NODES_MAX ? count : STK_MACHINE_NODES_MAX;
    m->nodes = stk_machine_take(m, count, sizeof *m->nodes);
    if (!m->nodes)
        return;
    for (uint32_t i = 0; i < count; i++) {
        hwloc_obj_t o = node_at(m, i);
        m->nodes[i] = (stk_memory_node){
            .os_index = o->os_index,
            .memory_bytes = o->attr->numanode.local_memory,
            .kind = stk_machine_take_text(m, o->subtype),
            .pus = stk_machine_take_pus(m, o->cpuset),
        };
    }
    m->node_count = count;
}

static void read_distances(stk_machine *m)
{
    unsigned count = 1;
    struct hwloc_distances_s *d;
    if (hwloc_distances_get_by_type(m->topology, HWLOC_OBJ_NUMANODE, &count, &d,
                                    HWLOC_DISTANCES_KIND_MEANS_LATENCY, 0) != 0 ||
        count == 0)
        return;
    for (unsigned a = 0; a < d->nbobjs; a++)
        for (unsigned b = 0; b < d->nbobjs; b++) {
            uint64_t value = d->values[(size_t)a * d->nbobjs + b];
            if (!d->objs[a] || !d->objs[b] || value > UINT32_MAX)
                continue;
            uint32_t from = d->objs[a]->logical_index, to = d->objs[b]->logical_index;
            if (from < m->node_count && to < m->node_count)
                m->distance[from * m->node_count + to] = (uint32_t)value;
        }
    hwloc_distances_release(m->topology, d);
}

// What PUs of node `from` get from node `to`; read figures before those that mix in writes.
static uint64_t attribute(const stk_machine *m, hwloc_memattr_id_t reading, hwloc_memattr_id_t any,
                          uint32_t from, uint32_t to)
{
    hwloc_obj_t initiator = node_at(m, from), target = node_at(m, to);
    if (hwloc_bitmap_iszero(initiator->cpuset))
        return 0;
    struct hwloc_location location = {.type = HWLOC_LOCATION_TYPE_CPUSET,
                                      .location.cpuset = initiator->cpuset};
    hwloc_uint64_t value;
    if (hwloc_memattr_get_value(m->topology, reading, target, &location, 0, &value) == 0 ||
        hwloc_memattr_get_value(m->topology, any, target, &location, 0, &value) == 0)
        return value;
    return 0;
}

void stk_machine_read_memory(stk_machine *machine)
{
    read_nodes(machine);
    size_t n = machine->node_count;
    machine->distance = stk_machine_take(machine, n * n, sizeof *machine->distance);
    machine->bandwidth_mib_s = stk_machine_take(machine, n * n, sizeof *machine->bandwidth_mib_s);
    machine->latency_ns = stk_machine_take(machine, n * n, sizeof *machine->latency_ns);
    if (machine->is_out_of_memory)
        return;
    read_distances(machine);
    for (uint32_t from = 0; from < n; from++)
        for (uint32_t to = 0; to < n; to++) {
            machine->bandwidth_mib_s[from * n + to] = attribute(
                machine, HWLOC_MEMATTR_ID_READ_BANDWIDTH, HWLOC_MEMATTR_ID_BANDWIDTH, from, to);
            machine->latency_ns[from * n + to] = attribute(machine, HWLOC_MEMATTR_ID_READ_LATENCY,
                                                           HWLOC_MEMATTR_ID_LATENCY, from, to);
        }
}
