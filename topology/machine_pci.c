// topology/machine_pci.c: graphics, storage and network devices on PCI.
#include "topology/machine_impl.h"

#include <stdio.h>
#include <string.h>

enum { NAMES_BYTES = 256 };

// The PCI class codes of the specification (Code and ID Assignment, section 1). False: another.
static bool classify(unsigned class_id, stk_pci_class *out)
{
    switch (class_id >> 8) {
    case 0x01:
        *out = STK_PCI_STORAGE;
        return true;
    case 0x02:
        *out = STK_PCI_NETWORK;
        return true;
    case 0x03: // display
    case 0x12: // processing accelerator
        *out = STK_PCI_DISPLAY;
        return true;
    default:
        if (class_id == 0x0207 || class_id == 0x0c06) { // InfiniBand, new and old
            *out = STK_PCI_NETWORK;
            return true;
        }
        *out = STK_PCI_DISPLAY;
        return class_id == 0x0b40; // co-processor
    }
}

static const char *os_names(stk_machine *m, hwloc_obj_t device)
{
    char names[NAMES_BYTES] = "";
    size_t length = 0;
    for (hwloc_obj_t o = device->io_first_child; o; o = o->next_sibling)
        if (o->type == HWLOC_OBJ_OS_DEVICE && o->name && length < sizeof names)
            length += (size_t)snprintf(names + length, sizeof names - length, "%s%s",
                                       length ? " " : "", o->name);
    return stk_machine_take_text(m, names);
}

// A device that hangs off a place with several nodes' PUs is near none of them.
static uint32_t node_of(const stk_machine *m, hwloc_obj_t place)
{
    uint32_t nearest = place ? stk_machine_nearest_node(m, place) : STK_INDEX_NONE;
    if (nearest == STK_INDEX_NONE ||
        (int)m->nodes[nearest].pus.count < hwloc_bitmap_weight(place->cpuset))
        return STK_INDEX_NONE;
    return nearest;
}

static stk_pci_device device_of(stk_machine *m, hwloc_obj_t o, stk_pci_class kind)
{
    const struct hwloc_pcidev_attr_s *a = &o->attr->pcidev;
    stk_pci_device device = {
        .kind = kind,
        .vendor_id = a->vendor_id,
        .device_id = a->device_id,
        .name = stk_machine_take_text(m, o->name),
        .os_names = os_names(m, o),
        .link_gb_s = (double)a->linkspeed,
        .node_index = node_of(m, hwloc_get_non_io_ancestor_obj(m->topology, o)),
    };
    snprintf(device.address, sizeof device.address, "%04x:%02x:%02x.%01x", (unsigned)a->domain,
             a->bus, a->dev, a->func);
    return device;
}

void stk_machine_read_pci(stk_machine *machine)
{
    stk_pci_class kind;
    uint32_t count = 0;
    hwloc_obj_t o = NULL;
    while ((o = hwloc_get_next_pcidev(machine->topology, o)))
        count += classify(o->attr->pcidev.class_id, &kind);
    machine->pci_devices = stk_machine_take(machine, count, sizeof *machine->pci_devices);
    if (!machine->pci_devices)
        return;
    while ((o = hwloc_get_next_pcidev(machine->topology, o)))
        if (classify(o->attr->pcidev.class_id, &kind))
            machine->pci_devices[machine->pci_count++] = device_of(machine, o, kind);
}
