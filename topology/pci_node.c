#include "topology/pci_node.h"

#include <stdio.h>
#include <string.h>

#include "topology/sysfs.h"

int stk_pci_node(const char *root, const char *address)
{
    char text[STK_SYSFS_TEXT_BYTES];
    int node = -1;
    if (*address == '\0' || strchr(address, '/') ||
        !stk_sysfs_text(text, sizeof text, "%s/sys/bus/pci/devices/%s/numa_node", root, address) ||
        sscanf(text, "%d", &node) != 1 || node < 0)
        return -1;
    return node;
}
