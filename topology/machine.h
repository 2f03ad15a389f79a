// topology/machine.h: what the machine is, as plain structs with units.
//
// Owns the facts: packages, memory nodes, caches, cores, PCI devices, limits. They come from the
// machine itself, from a synthetic description or from an hwloc XML file; hwloc.h stays in this
// room. Knows nothing of models or plans, and measures nothing (topology/probe.h does).
// Invariant: what this process may not use - by cpuset, taskset, cgroup or container - is not
// counted: the allowed machine is the machine.
#ifndef STK_TOPOLOGY_MACHINE_H
#define STK_TOPOLOGY_MACHINE_H

#include "base/log.h"
#include "topology/limits.h"
#include <stdbool.h>
#include <stdint.h>

#define STK_INDEX_NONE UINT32_MAX // an index that is not known

// Processing units (hardware threads) by the system's numbers, rising. Owned by the machine.
typedef struct stk_pu_set {
    const uint32_t *os_index; // [count]
    uint32_t count;
} stk_pu_set;

typedef struct stk_package {
    uint32_t os_index;
    const char *cpu_model; // "" when not known
    stk_pu_set pus;
    uint32_t core_count;
} stk_package;

// One NUMA node: memory, and the PUs it is local to. Memory only (CXL, HBM in some modes, or its
// cores are not allowed here) when core_count is 0.
typedef struct stk_memory_node {
    uint32_t os_index;
    uint64_t memory_bytes;
    const char *kind;    // hwloc's subtype, "DRAM", "HBM", "MCDRAM"...; "" when not known
    stk_pu_set pus;      // nodes may share PUs (HBM beside DRAM)
    uint32_t core_count; // cores whose nearest memory it is
} stk_memory_node;

typedef enum stk_cache_kind {
    STK_CACHE_UNIFIED,
    STK_CACHE_DATA,
    STK_CACHE_INSTRUCTION,
} stk_cache_kind;

typedef struct stk_cache {
    uint32_t level; // 1..5
    stk_cache_kind kind;
    uint64_t size_bytes;
    uint32_t line_bytes; // 0: not known
    stk_pu_set pus;      // that share it
} stk_cache;

typedef enum stk_core_kind {
    STK_CORE_UNIFORM, // all cores are alike, or nobody knows better
    STK_CORE_PERFORMANCE,
    STK_CORE_EFFICIENCY,
} stk_core_kind;

typedef struct stk_core {
    stk_pu_set pus; // more than one: simultaneous multithreading
    stk_core_kind kind;
    uint32_t rank;          // of its kind: 0 the slowest, higher is faster; 0 when uniform
    uint32_t package_index; // into packages, or STK_INDEX_NONE
    uint32_t node_index;    // into nodes: its nearest memory; STK_INDEX_NONE
} stk_core;

typedef enum stk_pci_class {
    STK_PCI_DISPLAY, // graphics and compute accelerators
    STK_PCI_STORAGE,
    STK_PCI_NETWORK,
} stk_pci_class;

enum { STK_PCI_ADDRESS_BYTES = 16 };

typedef struct stk_pci_device {
    stk_pci_class kind;
    char address[STK_PCI_ADDRESS_BYTES]; // "0000:03:00.0"
    uint16_t vendor_id, device_id;
    const char *name;     // "" when not known
    const char *os_names; // "nvme0n1", "eth0 mlx5_0": the system's devices on it; "" for none
    double link_gb_s;     // of the link now, 1e9 bytes per second, one direction; 0: not known.
                          // A sleeping GPU may show less than it reaches.
    uint32_t node_index;  // into nodes: where it hangs off; STK_INDEX_NONE: no place is nearer
} stk_pci_device;

// Thread-safety: immutable once open.
typedef struct stk_machine stk_machine;

typedef struct stk_machine_options {
    // NULL or "": this machine. Else the path of an hwloc XML file, or a synthetic description
    // such as "pack:2 numa:2 core:16 pu:2" (borrowed for the call).
    const char *topology;
} stk_machine_options;

// *out is written only on STK_OK; the caller closes it. STK_INVALID: neither a file nor a synthetic
// description; STK_FORMAT: the file is no topology; STK_IO: it cannot be read; STK_NO_MEMORY.
STK_CHECKED stk_status stk_machine_open(const stk_machine_options *options, const stk_log *log,
                                        stk_machine **out);
void stk_machine_close(stk_machine **machine); // sets it to NULL; NULL is allowed

// Whether the facts are of this machine, so that threads can be bound and speeds measured.
bool stk_machine_is_this(const stk_machine *machine);

// Arrays in hwloc's logical order (near things have near indexes), borrowed from the machine.
// There is at least one node and one core.
const stk_package *stk_machine_packages(const stk_machine *machine, uint32_t *count);
const stk_memory_node *stk_machine_nodes(const stk_machine *machine, uint32_t *count);
const stk_cache *stk_machine_caches(const stk_machine *machine, uint32_t *count);
const stk_core *stk_machine_cores(const stk_machine *machine, uint32_t *count);
const stk_pci_device *stk_machine_pci_devices(const stk_machine *machine, uint32_t *count);
stk_pu_set stk_machine_pus(const stk_machine *machine); // all of them

// Between nodes a and b (indexes): the firmware's relative distance (10 is local, larger is
// farther), and what hwloc knows of reading memory of node `to` from the PUs of node `from`.
// 0: not known. Lower is better, higher is better, lower is better.
uint32_t stk_machine_distance(const stk_machine *machine, uint32_t from, uint32_t to);
uint64_t stk_machine_bandwidth_mib_s(const stk_machine *machine, uint32_t from, uint32_t to);
uint64_t stk_machine_latency_ns(const stk_machine *machine, uint32_t from, uint32_t to);

// Limits of this process, read when the machine was opened. For a machine that is not this one:
// no limits, and all of its memory is available.
const stk_limits *stk_machine_limits(const stk_machine *machine);

// Workers worth starting: cores, or fewer where a CPU quota allows fewer. At least 1.
uint32_t stk_machine_worker_count(const stk_machine *machine);

// A fingerprint of packages, nodes, caches, cores and PCI devices, equal for equal machines with
// equal permissions. Available memory and limits are left out. For keys of caches, not secrets.
uint64_t stk_machine_equal_hash(const stk_machine *machine);
// The same and what else measured speeds depend on: the running kernel, the CPU quota and the
// memory limit.
uint64_t stk_machine_speed_hash(const stk_machine *machine);

#endif
