// Memory and CPU limits from invented cgroup trees, and disks from invented sysfs trees.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>
#include <sys/resource.h>

#include "fake_root.h"
#include "topology/block.h"
#include "topology/limits.h"

#define GIB (UINT64_C(1) << 30)

static int make(void **state)
{
    static char root[FAKE_ROOT_BYTES];
    fake_root_make(root);
    fake_root_file(root, "proc/meminfo",
                   "MemTotal:       16777216 kB\nMemFree:  1 kB\nMemAvailable:   8388608 kB\n");
    *state = root;
    return 0;
}

static int unmake(void **state)
{
    fake_root_remove(*state);
    return 0;
}

static void no_cgroups(void **state)
{
    stk_limits l;
    stk_limits_read(*state, NULL, &l);
    assert_int_equal(l.memory_total_bytes, 16 * GIB);
    assert_int_equal(l.memory_available_bytes, 8 * GIB);
    assert_true(l.memory_limit_bytes == STK_LIMIT_NONE);
    assert_true(l.cpu_quota == 0);
}

static void nothing_at_all(void **state)
{
    (void)state;
    stk_limits l;
    stk_limits_read("/no/such/root", NULL, &l);
    assert_int_equal(l.memory_total_bytes, 0);
    assert_true(l.memory_limit_bytes == STK_LIMIT_NONE);
}

static void version_2(void **state)
{
    const char *root = *state;
    fake_root_file(root, "proc/self/cgroup", "0::/user/job\n");
    fake_root_file(root, "proc/self/mountinfo",
                   "30 23 0:27 / /sys rw - sysfs sysfs rw\n"
                   "31 30 0:28 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw\n");
    // The parent is tighter in memory, the child in processors.
    fake_root_file(root, "sys/fs/cgroup/user/memory.max", "4294967296\n");
    fake_root_file(root, "sys/fs/cgroup/user/memory.current", "3221225472\n");
    fake_root_file(root, "sys/fs/cgroup/user/memory.stat",
                   "anon 5\nfile 1\ninactive_file 1073741824\n");
    fake_root_file(root, "sys/fs/cgroup/user/cpu.max", "max 100000\n");
    fake_root_file(root, "sys/fs/cgroup/user/job/memory.max", "max\n");
    fake_root_file(root, "sys/fs/cgroup/user/job/memory.high", "6442450944\n");
    fake_root_file(root, "sys/fs/cgroup/user/job/cpu.max", "250000 100000\n");
    stk_limits l;
    stk_limits_read(root, NULL, &l);
    assert_int_equal(l.memory_limit_bytes, 4 * GIB);
    assert_int_equal(l.memory_available_bytes, 2 * GIB); // 4 - (3 - 1)
    assert_true(l.cpu_quota == 2.5);
}

static void high_is_a_limit(void **state)
{
    const char *root = *state;
    fake_root_file(root, "proc/self/cgroup", "0::/\n");
    fake_root_file(root, "proc/self/mountinfo", "31 30 0:28 / /cg rw - cgroup2 cgroup2 rw\n");
    fake_root_file(root, "cg/memory.max", "max\n");
    fake_root_file(root, "cg/memory.high", "1073741824\n");
    stk_limits l;
    stk_limits_read(root, NULL, &l);
    assert_int_equal(l.memory_limit_bytes, GIB);
    assert_int_equal(l.memory_available_bytes, GIB);
}

// Version 1 in a container: /proc/self/cgroup names the host's folder, only that part is mounted.
static void version_1_in_a_container(void **state)
{
    const char *root = *state;
    fake_root_file(root, "proc/self/cgroup",
                   "4:memory:/docker/abc/in\n3:cpuset:/\n2:cpu,cpuacct:/docker/abc\n0::/\n");
    fake_root_file(
        root, "proc/self/mountinfo",
        "33 31 0:30 /docker/abc /sys/fs/cgroup/cpu,cpuacct ro - cgroup cg rw,cpu,cpuacct\n"
        "35 31 0:32 /docker/abc /sys/fs/a\\040b ro - cgroup cg rw,memory\n"
        "36 31 0:33 / /sys/fs/cgroup/cpuset ro - cgroup cg rw,cpuset\n");
    fake_root_file(root, "sys/fs/a b/memory.limit_in_bytes", "9223372036854771712\n");
    fake_root_file(root, "sys/fs/a b/in/memory.limit_in_bytes", "2147483648\n");
    fake_root_file(root, "sys/fs/a b/in/memory.usage_in_bytes", "536870912\n");
    fake_root_file(root, "sys/fs/a b/in/memory.stat", "inactive_file 7\ntotal_inactive_file 0\n");
    fake_root_file(root, "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "50000\n");
    fake_root_file(root, "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n");
    stk_limits l;
    stk_limits_read(root, NULL, &l);
    assert_int_equal(l.memory_limit_bytes, 2 * GIB);
    assert_int_equal(l.memory_available_bytes, 2 * GIB - GIB / 2);
    assert_true(l.cpu_quota == 0.5);
}

static void version_1_unlimited(void **state)
{
    const char *root = *state;
    fake_root_file(root, "proc/self/cgroup", "9:memory:/\n1:cpu:/\n");
    fake_root_file(root, "proc/self/mountinfo",
                   "1 0 0:1 / /m rw - cgroup cg rw,memory\n"
                   "2 0 0:2 / /c rw - cgroup cg rw,cpu\n");
    fake_root_file(root, "m/memory.limit_in_bytes", "9223372036854771712\n");
    fake_root_file(root, "c/cpu.cfs_quota_us", "-1\n");
    fake_root_file(root, "c/cpu.cfs_period_us", "100000\n");
    stk_limits l;
    stk_limits_read(root, NULL, &l);
    assert_true(l.memory_limit_bytes == STK_LIMIT_NONE);
    assert_int_equal(l.memory_available_bytes, 8 * GIB);
    assert_true(l.cpu_quota == 0);
}

// Used beyond its limit, and text that is no number: no wrap-around, no limit.
static void odd_contents(void **state)
{
    const char *root = *state;
    fake_root_file(root, "proc/self/cgroup", "\n:\n0::\nx:y\n0::/a\n");
    fake_root_file(root, "proc/self/mountinfo",
                   "\n-\n1 - cgroup2\n1 2 3 - cgroup2 x y\n1 0 0:1 / /m rw - cgroup2 c rw\n");
    fake_root_file(root, "m/memory.max", "1000\n");
    fake_root_file(root, "m/memory.current", "99999999999999999999999\n");
    fake_root_file(root, "m/cpu.max", "0 0\n");
    stk_limits l;
    stk_limits_read(root, NULL, &l);
    assert_int_equal(l.memory_limit_bytes, 1000);
    assert_int_equal(l.memory_available_bytes, 1000);
    fake_root_file(root, "m/memory.current", "5000\n");
    stk_limits_read(root, NULL, &l);
    assert_int_equal(l.memory_available_bytes, 0);
    assert_true(l.cpu_quota == 0);
}

static void address_space(void **state)
{
    struct rlimit before, limit;
    assert_int_equal(getrlimit(RLIMIT_AS, &before), 0);
    if (before.rlim_max != RLIM_INFINITY)
        skip();
    limit = (struct rlimit){UINT64_C(1) << 45, before.rlim_max}; // sanitizers reserve 2^44
    assert_int_equal(setrlimit(RLIMIT_AS, &limit), 0);
    stk_limits l;
    stk_limits_read(*state, NULL, &l);
    assert_int_equal(setrlimit(RLIMIT_AS, &before), 0);
    assert_true(l.address_space_limit_bytes == UINT64_C(1) << 45);
    assert_int_equal(l.memory_available_bytes, 8 * GIB);
}

static void make_disk(const char *root, const char *folder, const char *number, const char *name)
{
    char path[256], target[256];
    const struct {
        const char *file, *text;
    } files[] = {{"size", "2000409264\n"},
                 {"queue/rotational", "1\n"},
                 {"queue/logical_block_size", "4096\n"},
                 {"queue/max_sectors_kb", "1280\n"},
                 {"queue/nr_requests", "64\n"},
                 {"device/model", "Example Disk  \n"}};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        snprintf(path, sizeof path, "sys/devices/%s/block/%s/%s", folder, name, files[i].file);
        fake_root_file(root, path, files[i].text);
    }
    snprintf(path, sizeof path, "sys/devices/%s/block/%s/dev", folder, name);
    fake_root_file(root, path, number);
    snprintf(path, sizeof path, "sys/dev/block/%s", number);
    snprintf(target, sizeof target, "../../devices/%s/block/%s", folder, name);
    fake_root_link(root, path, target);
}

static void whole_disk(void **state)
{
    const char *root = *state;
    make_disk(root, "pci0000:00/0000:00:17.0/ata1/host0", "8:0", "sda");
    fake_root_file(root, "sys/devices/pci0000:00/0000:00:17.0/numa_node", "1\n");
    fake_root_file(root, "sys/devices/pci0000:00/numa_node", "7\n"); // farther: does not count
    stk_block_device d;
    stk_block_device_of_number(root, 8, 0, &d);
    assert_int_equal(d.kind, STK_BLOCK_HDD);
    assert_string_equal(d.name, "sda");
    assert_string_equal(d.model, "Example Disk");
    assert_string_equal(d.pci_address, "0000:00:17.0");
    assert_int_equal(d.numa_node, 1);
    assert_int_equal(d.size_bytes, UINT64_C(2000409264) * 512);
    assert_int_equal(d.sector_bytes, 4096);
    assert_int_equal(d.request_bytes_max, 1280 * 1024);
    assert_int_equal(d.queue_depth_max, 64);
    assert_int_equal(d.major_number, 8);
    assert_true(d.is_rotational);
    assert_false(d.is_stacked);
}

// ext4 on a mapping on a partition of an NVMe disk.
static void stacked(void **state)
{
    const char *root = *state;
    make_disk(root, "pci0000:00/0000:00:0e.0/nvme/nvme0", "259:0", "nvme0n1");
    fake_root_file(root,
                   "sys/devices/pci0000:00/0000:00:0e.0/nvme/nvme0/block/nvme0n1/"
                   "nvme0n1p2/partition",
                   "2\n");
    fake_root_file(root, "sys/devices/virtual/block/dm-0/dev", "253:0\n");
    fake_root_link(root, "sys/devices/virtual/block/dm-0/slaves/nvme0n1p2",
                   "../../../../pci0000:00/0000:00:0e.0/nvme/nvme0/block/nvme0n1/nvme0n1p2");
    fake_root_link(root, "sys/dev/block/253:0", "../../devices/virtual/block/dm-0");
    stk_block_device d;
    stk_block_device_of_number(root, 253, 0, &d);
    assert_int_equal(d.kind, STK_BLOCK_NVME);
    assert_string_equal(d.name, "nvme0n1");
    assert_string_equal(d.pci_address, "0000:00:0e.0");
    assert_true(d.is_stacked);
    assert_int_equal(d.major_number, 259);
    assert_int_equal(d.numa_node, -1);
}

// A loop of mappings must end.
static void endless(void **state)
{
    const char *root = *state;
    fake_root_file(root, "sys/devices/virtual/block/dm-0/dev", "253:0\n");
    fake_root_link(root, "sys/devices/virtual/block/dm-0/slaves/dm-0", "..");
    fake_root_link(root, "sys/dev/block/253:0", "../../devices/virtual/block/dm-0");
    stk_block_device d;
    stk_block_device_of_number(root, 253, 0, &d);
    assert_true(d.is_stacked);
}

static void no_disk(void **state)
{
    stk_block_device d;
    stk_block_device_of_number(*state, 0, 42, &d);
    assert_int_equal(d.kind, STK_BLOCK_NONE);
    assert_string_equal(d.name, "");
    assert_int_equal(stk_block_device_of_path("/no/such/file", NULL, &d), STK_IO);
    assert_int_equal(stk_block_device_of_path("/proc/self/stat", NULL, &d), STK_OK);
    assert_int_equal(d.kind, STK_BLOCK_NONE);
    assert_string_equal(d.filesystem, "proc");
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, make, unmake)
    const struct CMUnitTest tests[] = {
        TEST(no_cgroups),
        TEST(nothing_at_all),
        TEST(version_2),
        TEST(high_is_a_limit),
        TEST(version_1_in_a_container),
        TEST(version_1_unlimited),
        TEST(odd_contents),
        TEST(address_space),
        TEST(whole_disk),
        TEST(stacked),
        TEST(endless),
        TEST(no_disk),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
