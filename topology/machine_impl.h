// topology/machine_impl.h: what the files of this room share about a machine.
#ifndef STK_TOPOLOGY_MACHINE_IMPL_H
#define STK_TOPOLOGY_MACHINE_IMPL_H

#include "topology/machine.h"
#include <hwloc.h>

enum { STK_MACHINE_NODES_MAX = 1024 }; // three square matrices of them are kept

// A block of the machine's memory; they are freed together.
typedef struct stk_machine_block {
    struct stk_machine_block *next;
    _Alignas(16) unsigned char data[];
} stk_machine_block;

struct stk_machine {
    hwloc_topology_t topology;
    bool is_this;
    bool is_out_of_memory; // remembered by stk_machine_take, checked once at the end
    stk_machine_block *blocks;
    stk_pu_set pus;
    stk_package *packages;
    stk_memory_node *nodes;
    stk_cache *caches;
    stk_core *cores;
    stk_pci_device *pci_devices;
    uint32_t package_count, node_count, cache_count, core_count, pci_count;
    uint32_t *distance;        // [node_count][node_count]: from, to
    uint64_t *bandwidth_mib_s; // likewise
    uint64_t *latency_ns;      // likewise
    stk_limits limits;
    char kernel[64]; // release of the running one; "" for another machine
};

// Zeroed memory that lives as long as the machine. NULL only after is_out_of_memory is set.
void *stk_machine_take(stk_machine *machine, size_t count, size_t size);
// A copy of text; "" when it is NULL or memory is out.
const char *stk_machine_take_text(stk_machine *machine, const char *text);

// Fill the machine from its loaded topology (machine_hwloc.c, machine_memory.c, machine_pci.c).
void stk_machine_read_cpus(stk_machine *machine);   // packages, caches, cores, pus; after memory
void stk_machine_read_memory(stk_machine *machine); // nodes and the matrices
void stk_machine_read_pci(stk_machine *machine);    // after memory

stk_pu_set stk_machine_take_pus(stk_machine *machine, hwloc_const_cpuset_t set);
// The index of the node nearest to an object's PUs, STK_INDEX_NONE when there is none.
uint32_t stk_machine_nearest_node(const stk_machine *machine, hwloc_obj_t object);

#endif
