// cli/topo.h: what `stoker topo` shows, as text or JSON.
#ifndef STK_CLI_TOPO_H
#define STK_CLI_TOPO_H

#include "cli/probe_cache.h"
#include "cli/topo_gpu.h"

typedef struct stk_topo {
    const stk_machine *machine;
    const stk_block_device *disk;     // of --path; NULL for another machine
    const char *path;                 // what the disk holds
    const stk_probe_results *results; // NULL: nothing measured
    const stk_topo_gpus *gpus;        // NULL for another machine
} stk_topo;

void stk_topo_print_text(const stk_topo *topo); // to standard output

// Prints one object and a newline. 0, or ENOMEM.
STK_CHECKED int stk_topo_print_json(const stk_topo *topo);

const char *stk_core_kind_name(stk_core_kind kind); // "uniform", "performance", "efficiency"
const char *stk_pci_class_name(stk_pci_class kind); // "display", "storage", "network"

#endif
