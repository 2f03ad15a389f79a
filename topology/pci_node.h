// topology/pci_node.h: which memory node a PCI device hangs off.
//
// Reads one file of /sys; the whole machine is machine.h's.
#ifndef STK_TOPOLOGY_PCI_NODE_H
#define STK_TOPOLOGY_PCI_NODE_H

// The system's number of the node that the device at `address` ("0000:01:00.0") is nearest to; -1:
// none is nearer than others, or it is not known. root is "" for the running system; tests give a
// folder that holds sys/.
int stk_pci_node(const char *root, const char *address);

#endif
