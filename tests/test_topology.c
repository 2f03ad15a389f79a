// The machine from synthetic descriptions, saved XML files and this system.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>
#include <sched.h>
#include <unistd.h>

#include "topology/machine.h"

static void keep_line(void *user, stk_log_level level, const char *line)
{
    (void)level;
    snprintf(user, 1024, "%s", line);
}

static stk_machine *open_machine(const char *topology)
{
    stk_machine *m = NULL;
    const stk_machine_options options = {.topology = topology};
    assert_int_equal(stk_machine_open(&options, NULL, &m), STK_OK);
    return m;
}

static void expect_pus(stk_pu_set pus, uint32_t first, uint32_t count)
{
    assert_int_equal(pus.count, count);
    for (uint32_t i = 0; i < count; i++)
        assert_int_equal(pus.os_index[i], first + i);
}

static void synthetic(void **state)
{
    (void)state;
    stk_machine *m = open_machine(
        "pack:2 numa:2(memory=1073741824) l3:1(size=33554432) core:4 pu:2");
    uint32_t packages, nodes, caches, cores, devices;
    const stk_package *p = stk_machine_packages(m, &packages);
    const stk_memory_node *n = stk_machine_nodes(m, &nodes);
    const stk_cache *c = stk_machine_caches(m, &caches);
    const stk_core *k = stk_machine_cores(m, &cores);
    stk_machine_pci_devices(m, &devices);
    assert_int_equal(packages, 2);
    assert_int_equal(nodes, 4);
    assert_int_equal(caches, 4);
    assert_int_equal(cores, 16);
    assert_int_equal(devices, 0);
    assert_false(stk_machine_is_this(m));
    expect_pus(stk_machine_pus(m), 0, 32);
    expect_pus(p[1].pus, 16, 16);
    assert_int_equal(p[1].core_count, 8);
    expect_pus(n[3].pus, 24, 8);
    assert_int_equal(n[3].memory_bytes, 1 << 30);
    assert_int_equal(n[3].core_count, 4);
    expect_pus(c[2].pus, 16, 8);
    assert_int_equal(c[2].level, 3);
    assert_int_equal(c[2].size_bytes, 32 << 20);
    expect_pus(k[5].pus, 10, 2);
    assert_int_equal(k[5].node_index, 1);
    assert_int_equal(k[5].package_index, 0);
    assert_int_equal(k[5].kind, STK_CORE_UNIFORM);
    assert_int_equal(stk_machine_limits(m)->memory_available_bytes, UINT64_C(4) << 30);
    assert_int_equal(stk_machine_worker_count(m), 16);
    assert_int_equal(stk_machine_bandwidth_mib_s(m, 0, 3), 0);
    stk_machine_close(&m);
    assert_null(m);
    stk_machine_close(&m);
}

// A core's memory is its DRAM, not the wider memory beside it.
static void memory_tiers(void **state)
{
    (void)state;
    stk_machine *m = open_machine(STK_TOPOLOGIES "/tiers.xml");
    uint32_t nodes, cores, devices, cxl = 0;
    const stk_memory_node *n = stk_machine_nodes(m, &nodes);
    const stk_core *k = stk_machine_cores(m, &cores);
    const stk_pci_device *d = stk_machine_pci_devices(m, &devices);
    assert_int_equal(nodes, 3);
    uint32_t index[3]; // hwloc's order is its own
    for (uint32_t i = 0; i < nodes; i++)
        index[n[i].os_index] = i;
    cxl = index[2];
    assert_string_equal(n[cxl].kind, "CXL");
    assert_int_equal(n[cxl].core_count, 0);
    assert_int_equal(n[index[0]].core_count, 2);
    for (uint32_t i = 0; i < cores; i++)
        assert_int_equal(k[i].node_index, index[i / 2]);
    assert_int_equal(stk_machine_distance(m, index[0], index[1]), 21);
    assert_int_equal(stk_machine_distance(m, index[1], cxl), 28);
    assert_int_equal(stk_machine_distance(m, cxl, index[1]), 29);
    assert_int_equal(stk_machine_distance(m, cxl, cxl), 10);
    assert_int_equal(stk_machine_bandwidth_mib_s(m, index[0], index[0]), 120000);
    assert_int_equal(stk_machine_bandwidth_mib_s(m, index[1], cxl), 25000);
    assert_int_equal(stk_machine_latency_ns(m, index[0], cxl), 250);
    assert_int_equal(devices, 1);
    assert_int_equal(d[0].kind, STK_PCI_DISPLAY); // a compute accelerator
    assert_int_equal(d[0].node_index, index[1]);
    stk_machine_close(&m);
}

static void hybrid_cores_and_devices(void **state)
{
    (void)state;
    stk_machine *m = open_machine(STK_TOPOLOGIES "/hybrid.xml");
    uint32_t cores, devices;
    const stk_core *k = stk_machine_cores(m, &cores);
    const stk_pci_device *d = stk_machine_pci_devices(m, &devices);
    assert_int_equal(cores, 6);
    for (uint32_t i = 0; i < cores; i++) {
        assert_int_equal(k[i].kind, i < 2 ? STK_CORE_PERFORMANCE : STK_CORE_EFFICIENCY);
        assert_int_equal(k[i].rank, i < 2);
    }
    assert_int_equal(devices, 3); // not the audio
    assert_string_equal(d[0].address, "0000:01:00.0");
    assert_string_equal(d[0].name, "Example GPU");
    assert_int_equal(d[0].vendor_id, 0x10de);
    assert_true(d[0].link_gb_s > 15.7 && d[0].link_gb_s < 15.8);
    assert_int_equal(d[1].kind, STK_PCI_STORAGE);
    assert_string_equal(d[1].os_names, "nvme0n1");
    assert_int_equal(d[1].node_index, 0);
    assert_int_equal(d[2].kind, STK_PCI_NETWORK);
    stk_machine_close(&m);
}

static void poor_descriptions(void **state)
{
    (void)state;
    stk_machine *m = open_machine("pack:1 numa:1 core:2 pu:1");
    uint32_t count;
    assert_int_equal(stk_machine_cores(m, &count)[1].node_index, 0);
    stk_machine_close(&m);
    m = open_machine("core:3 pu:1"); // no package
    stk_machine_packages(m, &count);
    assert_int_equal(count, 0);
    assert_int_equal(stk_machine_cores(m, &count)[0].package_index, STK_INDEX_NONE);
    assert_int_equal(count, 3);
    stk_machine_close(&m);
    m = open_machine("pu:5"); // threads only: each counts as a core
    stk_machine_cores(m, &count);
    assert_int_equal(count, 5);
    stk_machine_close(&m);
}

static void refuses(void **state)
{
    (void)state;
    static const struct {
        const char *topology, *text;
        stk_status status;
    } cases[] = {
        {"pack:2 x", "'pack:2 x' is neither a topology file", STK_INVALID},
        {"no-such.xml", "no-such.xml", STK_INVALID},
        {"/", "/: not a topology", STK_FORMAT},
        {STK_TEST_DATA "/little_women.txt", "little_women.txt: not an hwloc topology", STK_FORMAT},
        {"/proc/version", "/proc/version: not", STK_FORMAT},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char line[1024] = "";
        const stk_log log = {.write = keep_line, .user = line, .level_max = STK_LOG_DEBUG};
        const stk_machine_options options = {.topology = cases[i].topology};
        stk_machine *m = NULL;
        assert_int_equal(stk_machine_open(&options, &log, &m), cases[i].status);
        assert_null(m);
        assert_non_null(strstr(line, cases[i].text));
    }
}

static uint64_t hash_of(const char *topology)
{
    stk_machine *m = open_machine(topology);
    uint64_t hash = stk_machine_equal_hash(m);
    stk_machine_close(&m);
    return hash;
}

static void fingerprints(void **state)
{
    (void)state;
    static const char *const different[] = {
        "pack:1 numa:1 core:2 pu:1",
        "pack:1 numa:1 core:1 pu:2",
        "pack:2 numa:1 core:1 pu:1",
        "pack:1 numa:1(memory=4294967296) core:2 pu:1",
        "pack:1 numa:1 l2:1(size=1048576) core:2 pu:1",
        "pack:1 numa:1 l2:1(size=2097152) core:2 pu:1",
        "pack:1 numa:1 core:2 pu:2",
        "pack:1 numa:1 core:2 pu:2(indexes=0,2,1,3)",
        STK_TOPOLOGIES "/hybrid.xml",
        STK_TOPOLOGIES "/tiers.xml",
    };
    enum { COUNT = sizeof different / sizeof *different };
    uint64_t hashes[COUNT];
    for (size_t i = 0; i < COUNT; i++) {
        hashes[i] = hash_of(different[i]);
        assert_true(hashes[i] == hash_of(different[i]));
        for (size_t j = 0; j < i; j++)
            if (hashes[i] == hashes[j])
                fail_msg("'%s' and '%s' have the same fingerprint", different[i], different[j]);
    }
    assert_true(hash_of(NULL) == hash_of(""));
}

static void this_machine(void **state)
{
    (void)state;
    stk_machine *m = open_machine(NULL);
    uint32_t nodes, cores;
    const stk_memory_node *n = stk_machine_nodes(m, &nodes);
    uint64_t total = 0;
    stk_machine_cores(m, &cores);
    for (uint32_t i = 0; i < nodes; i++)
        total += n[i].memory_bytes;
    assert_true(stk_machine_is_this(m));
    assert_in_range(stk_machine_worker_count(m), 1, cores);
    const stk_limits *l = stk_machine_limits(m);
    assert_in_range(l->memory_available_bytes, 1 << 20, l->memory_total_bytes);
    assert_true(total > 0);
    stk_machine_close(&m);
}

// As taskset does: threads that are not allowed are not counted.
static void binding_is_respected(void **state)
{
    (void)state;
    cpu_set_t before, one;
    if (sched_getaffinity(0, sizeof before, &before) != 0 || CPU_COUNT(&before) < 2)
        skip();
    int last = CPU_SETSIZE - 1;
    while (!CPU_ISSET(last, &before))
        last--;
    CPU_ZERO(&one);
    CPU_SET(last, &one);
    uint64_t hash = hash_of(NULL);
    assert_int_equal(sched_setaffinity(0, sizeof one, &one), 0);
    stk_machine *m = open_machine(NULL);
    assert_int_equal(sched_setaffinity(0, sizeof before, &before), 0);
    uint32_t cores;
    stk_machine_cores(m, &cores);
    assert_int_equal(cores, 1);
    expect_pus(stk_machine_pus(m), (uint32_t)last, 1);
    assert_true(stk_machine_equal_hash(m) != hash);
    stk_machine_close(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(synthetic),
        cmocka_unit_test(memory_tiers),
        cmocka_unit_test(hybrid_cores_and_devices),
        cmocka_unit_test(poor_descriptions),
        cmocka_unit_test(refuses),
        cmocka_unit_test(fingerprints),
        cmocka_unit_test(this_machine),
        cmocka_unit_test(binding_is_respected),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
