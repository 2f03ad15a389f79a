#include "topology/machine.h"

#include "topology/machine_impl.h"
#include "topology/sysfs.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { XML_BYTES_MAX = 64 << 20 };

// Plugins that are not wanted: pci, because libpciaccess leaks and the linux component reads the
// same from sysfs; the others, because they start GPU drivers.
static void drop_components(hwloc_topology_t topology)
{
    static const char *const names[] = {"pci", "opencl", "cuda", "nvml", "rsmi", "levelzero", "gl"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        hwloc_topology_set_components(topology, HWLOC_TOPOLOGY_COMPONENTS_FLAG_BLACKLIST, names[i]);
}

static stk_status load_this(stk_machine *m, const stk_log *log)
{
    drop_components(m->topology);
    // What cgroups and cpusets forbid is hidden by hwloc; taskset and numactl need these flags.
    m->is_this = true;
    hwloc_topology_set_flags(m->topology, HWLOC_TOPOLOGY_FLAG_RESTRICT_TO_CPUBINDING |
                                              HWLOC_TOPOLOGY_FLAG_RESTRICT_TO_MEMBINDING |
                                              HWLOC_TOPOLOGY_FLAG_IS_THISSYSTEM);
    if (hwloc_topology_load(m->topology) == 0)
        return STK_OK;
    return stk_fail(log, STK_IO, "the machine's topology cannot be read: %s", strerror(errno));
}

static stk_status load_file(stk_machine *m, const char *path, const struct stat *info,
                            const stk_log *log)
{
    if (!S_ISREG(info->st_mode) || info->st_size > XML_BYTES_MAX)
        return stk_fail(log, STK_FORMAT, "%s: not a topology: no file, or too large", path);
    if (hwloc_topology_set_xml(m->topology, path) != 0)
        return stk_fail(log, errno == ENOENT || errno == EACCES ? STK_IO : STK_FORMAT,
                        "%s: not an hwloc topology in XML", path);
    if (hwloc_topology_load(m->topology) != 0)
        return stk_fail(log, STK_FORMAT, "%s: not a valid hwloc topology", path);
    return STK_OK;
}

static stk_status load(stk_machine *m, const char *source, const stk_log *log)
{
    struct stat info;
    if (!source || !*source)
        return load_this(m, log);
    if (stat(source, &info) == 0)
        return load_file(m, source, &info, log);
    int error = errno;
    if (hwloc_topology_set_synthetic(m->topology, source) == 0 &&
        hwloc_topology_load(m->topology) == 0)
        return STK_OK;
    return stk_fail(log, STK_INVALID,
                    "'%.200s' is neither a topology file (%s) nor a synthetic description such as "
                    "'pack:2 numa:2 core:16 pu:2'",
                    source, strerror(error));
}

static void set_limits(stk_machine *m, const stk_log *log)
{
    if (m->is_this) {
        stk_limits_read("", log, &m->limits);
        (void)stk_sysfs_text(m->kernel, sizeof m->kernel, "/proc/sys/kernel/osrelease");
        return;
    }
    uint64_t total = 0;
    for (uint32_t i = 0; i < m->node_count; i++)
        total += m->nodes[i].memory_bytes;
    m->limits = (stk_limits){
        .memory_total_bytes = total,
        .memory_limit_bytes = STK_LIMIT_NONE,
        .address_space_limit_bytes = STK_LIMIT_NONE,
        .locked_memory_limit_bytes = STK_LIMIT_NONE,
        .memory_available_bytes = total,
    };
}

static stk_status read_facts(stk_machine *m, const stk_log *log)
{
    stk_machine_read_memory(m);
    stk_machine_read_cpus(m);
    stk_machine_read_pci(m);
    if (m->is_out_of_memory)
        return stk_fail(log, STK_NO_MEMORY, "no memory for the machine's topology");
    if (m->node_count == 0 || m->core_count == 0)
        return stk_fail(log, STK_FORMAT, "the topology has no %s",
                        m->core_count ? "memory" : "processors");
    set_limits(m, log);
    return STK_OK;
}

stk_status stk_machine_open(const stk_machine_options *options, const stk_log *log,
                            stk_machine **out)
{
    stk_machine *m = calloc(1, sizeof *m);
    if (!m)
        return stk_fail(log, STK_NO_MEMORY, "no memory for the machine's topology");
    if (hwloc_topology_init(&m->topology) != 0) {
        free(m);
        return stk_fail(log, STK_NO_MEMORY, "no memory for the machine's topology");
    }
    hwloc_topology_set_io_types_filter(m->topology, HWLOC_TYPE_FILTER_KEEP_IMPORTANT);
    stk_status status = load(m, options->topology, log);
    if (status == STK_OK)
        status = read_facts(m, log);
    if (status == STK_OK)
        *out = m;
    else
        stk_machine_close(&m);
    return status;
}

void stk_machine_close(stk_machine **machine)
{
    stk_machine *m = *machine;
    if (!m)
        return;
    hwloc_topology_destroy(m->topology);
    for (stk_machine_block *block = m->blocks, *next; block; block = next) {
        next = block->next;
        free(block);
    }
    free(m);
    *machine = NULL;
}

void *stk_machine_take(stk_machine *machine, size_t count, size_t size)
{
    size_t bytes;
    stk_machine_block *block = NULL;
    if (!__builtin_mul_overflow(count, size, &bytes) &&
        !__builtin_add_overflow(bytes, sizeof *block, &bytes))
        block = calloc(1, bytes);
    if (!block) {
        machine->is_out_of_memory = true;
        return NULL;
    }
    block->next = machine->blocks;
    machine->blocks = block;
    return block->data;
}

const char *stk_machine_take_text(stk_machine *machine, const char *text)
{
    if (!text || !*text)
        return "";
    size_t bytes = strlen(text) + 1;
    char *copy = stk_machine_take(machine, bytes, 1);
    return copy ? memcpy(copy, text, bytes) : "";
}

bool stk_machine_is_this(const stk_machine *machine)
{
    return machine->is_this;
}

const stk_package *stk_machine_packages(const stk_machine *machine, uint32_t *count)
{
    *count = machine->package_count;
    return machine->packages;
}

const stk_memory_node *stk_machine_nodes(const stk_machine *machine, uint32_t *count)
{
    *count = machine->node_count;
    return machine->nodes;
}

const stk_cache *stk_machine_caches(const stk_machine *machine, uint32_t *count)
{
    *count = machine->cache_count;
    return machine->caches;
}

const stk_core *stk_machine_cores(const stk_machine *machine, uint32_t *count)
{
    *count = machine->core_count;
    return machine->cores;
}

const stk_pci_device *stk_machine_pci_devices(const stk_machine *machine, uint32_t *count)
{
    *count = machine->pci_count;
    return machine->pci_devices;
}

stk_pu_set stk_machine_pus(const stk_machine *machine)
{
    return machine->pus;
}

uint32_t stk_machine_distance(const stk_machine *machine, uint32_t from, uint32_t to)
{
    return machine->distance[from * machine->node_count + to];
}

uint64_t stk_machine_bandwidth_mib_s(const stk_machine *machine, uint32_t from, uint32_t to)
{
    return machine->bandwidth_mib_s[from * machine->node_count + to];
}

uint64_t stk_machine_latency_ns(const stk_machine *machine, uint32_t from, uint32_t to)
{
    return machine->latency_ns[from * machine->node_count + to];
}

const stk_limits *stk_machine_limits(const stk_machine *machine)
{
    return &machine->limits;
}

uint32_t stk_machine_worker_count(const stk_machine *machine)
{
    double quota = machine->limits.cpu_quota;
    if (quota <= 0 || quota >= machine->core_count)
        return machine->core_count;
    return quota < 1 ? 1 : (uint32_t)quota; // a worker the quota stops holds up all the others
}
