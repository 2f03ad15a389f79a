// topology/fingerprint.c: one number for "the same machine, with the same permissions".
#include "topology/machine_impl.h"

#include <string.h>

// FNV-1a over 64 bits, http://www.isthe.com/chongo/tech/comp/fnv/
static void add_bytes(uint64_t *hash, const void *data, size_t size)
{
    const uint8_t *bytes = data;
    for (size_t i = 0; i < size; i++)
        *hash = (*hash ^ bytes[i]) * UINT64_C(0x100000001b3);
}

// Numbers as eight little-endian bytes, so that the hash does not depend on the machine's types.
static void add(uint64_t *hash, uint64_t value)
{
    uint8_t bytes[8];
    for (int i = 0; i < 8; i++)
        bytes[i] = (uint8_t)(value >> (8 * i));
    add_bytes(hash, bytes, sizeof bytes);
}

static void add_text(uint64_t *hash, const char *text)
{
    add_bytes(hash, text, strlen(text) + 1);
}

static void add_pus(uint64_t *hash, stk_pu_set pus)
{
    add(hash, pus.count);
    for (uint32_t i = 0; i < pus.count; i++)
        add(hash, pus.os_index[i]);
}

static void add_memory(uint64_t *hash, const stk_machine *m)
{
    uint32_t count;
    const stk_memory_node *nodes = stk_machine_nodes(m, &count);
    add(hash, count);
    for (uint32_t i = 0; i < count; i++) {
        add(hash, nodes[i].os_index);
        add(hash, nodes[i].memory_bytes >> 28); // a new kernel reserves a little more or less
        add_text(hash, nodes[i].kind);
        add_pus(hash, nodes[i].pus);
        for (uint32_t j = 0; j < count; j++)
            add(hash, stk_machine_distance(m, i, j));
    }
}

static void add_processors(uint64_t *hash, const stk_machine *m)
{
    uint32_t count;
    const stk_package *packages = stk_machine_packages(m, &count);
    add(hash, count);
    for (uint32_t i = 0; i < count; i++) {
        add_text(hash, packages[i].cpu_model);
        add_pus(hash, packages[i].pus);
    }
    const stk_cache *caches = stk_machine_caches(m, &count);
    add(hash, count);
    for (uint32_t i = 0; i < count; i++) {
        add(hash, caches[i].level);
        add(hash, caches[i].kind);
        add(hash, caches[i].size_bytes);
        add_pus(hash, caches[i].pus);
    }
    const stk_core *cores = stk_machine_cores(m, &count);
    add(hash, count);
    for (uint32_t i = 0; i < count; i++) {
        add(hash, cores[i].kind);
        add(hash, cores[i].rank);
        add(hash, cores[i].node_index);
        add_pus(hash, cores[i].pus);
    }
}

uint64_t stk_machine_equal_hash(const stk_machine *machine)
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
    uint32_t count;
    add_memory(&hash, machine);
    add_processors(&hash, machine);
    const stk_pci_device *devices = stk_machine_pci_devices(machine, &count);
    add(&hash, count);
    for (uint32_t i = 0; i < count; i++) { // not the link: it changes with power saving
        add_text(&hash, devices[i].address);
        add(&hash, (uint64_t)devices[i].vendor_id << 16 | devices[i].device_id);
        add(&hash, devices[i].node_index);
    }
    return hash;
}

uint64_t stk_machine_speed_hash(const stk_machine *machine)
{
    uint64_t hash = stk_machine_equal_hash(machine);
    add_text(&hash, machine->kernel);
    add(&hash, (uint64_t)(machine->limits.cpu_quota * 1000));
    add(&hash, machine->limits.memory_limit_bytes);
    return hash;
}
