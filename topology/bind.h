// topology/bind.h: binding for measurements: threads to PUs, pages to nodes.
#ifndef STK_TOPOLOGY_BIND_H
#define STK_TOPOLOGY_BIND_H

#include "topology/machine.h"
#include <sched.h>
#include <stddef.h>

// Binds the calling thread to the first PU of a core (index into the machine's cores). False: the
// system refuses.
bool stk_bind_to_core(const stk_machine *machine, uint32_t core_index);

// Where the calling thread may run, to be restored after a measurement.
typedef struct stk_binding {
    cpu_set_t *set; // NULL: not known
    size_t size_bytes;
} stk_binding;
stk_binding stk_binding_save(void);
void stk_binding_restore(stk_binding *binding); // and frees it

// Untouched pages that will come from node `node_index`. NULL: the system refuses.
void *stk_node_pages_alloc(const stk_machine *machine, uint32_t node_index, size_t bytes);
void stk_node_pages_free(const stk_machine *machine, void *pages, size_t bytes);

#endif
