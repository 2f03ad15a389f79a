#include "topology/bind.h"

#include "topology/machine_impl.h"
#include <errno.h>
#include <sys/mman.h>

enum { CPUS_MAX = 1 << 16 };

bool stk_bind_to_core(const stk_machine *machine, uint32_t core_index)
{
    hwloc_bitmap_t set = hwloc_bitmap_alloc();
    if (!set)
        return false;
    hwloc_bitmap_only(set, machine->cores[core_index].pus.os_index[0]);
    int rc = hwloc_set_cpubind(machine->topology, set, HWLOC_CPUBIND_THREAD);
    hwloc_bitmap_free(set);
    return rc == 0;
}

stk_binding stk_binding_save(void)
{
    for (int cpus = CPU_SETSIZE; cpus <= CPUS_MAX; cpus *= 2) {
        stk_binding binding = {CPU_ALLOC((size_t)cpus), CPU_ALLOC_SIZE((size_t)cpus)};
        if (binding.set && sched_getaffinity(0, binding.size_bytes, binding.set) == 0)
            return binding;
        CPU_FREE(binding.set);
        if (errno != EINVAL) // EINVAL: the kernel has more CPUs than that
            break;
    }
    return (stk_binding){NULL, 0};
}

void stk_binding_restore(stk_binding *binding)
{
    if (binding->set)
        sched_setaffinity(0, binding->size_bytes, binding->set);
    CPU_FREE(binding->set);
    *binding = (stk_binding){NULL, 0};
}

void *stk_node_pages_alloc(const stk_machine *machine, uint32_t node_index, size_t bytes)
{
    hwloc_bitmap_t set = hwloc_bitmap_alloc();
    if (!set)
        return NULL;
    hwloc_bitmap_only(set, machine->nodes[node_index].os_index);
    void *pages = hwloc_alloc_membind(machine->topology, bytes, set, HWLOC_MEMBIND_BIND,
                                      HWLOC_MEMBIND_BYNODESET | HWLOC_MEMBIND_STRICT);
    hwloc_bitmap_free(set);
    if (!pages && machine->node_count == 1) // a system without NUMA calls has one place only
        pages = hwloc_alloc(machine->topology, bytes);
    if (pages)
        madvise(pages, bytes, MADV_HUGEPAGE);
    return pages;
}

void stk_node_pages_free(const stk_machine *machine, void *pages, size_t bytes)
{
    if (pages)
        hwloc_free(machine->topology, pages, bytes);
}
