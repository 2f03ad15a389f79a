// The cache of measurements: what is stored comes back, what is damaged does not.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include <sys/stat.h>

#include "cli/disk_use.h"
#include "cli/probe_cache.h"
#include "fake_root.h"
#include "topology/machine_impl.h"

typedef struct fixture {
    char folder[FAKE_ROOT_BYTES], path[128], line[1024];
    stk_log log;
    stk_machine *machine, *other;
} fixture;

static void keep_line(void *user, stk_log_level level, const char *text)
{
    if (level <= STK_LOG_WARN)
        snprintf(((fixture *)user)->line, 1024, "%s", text);
}

static int make(void **state)
{
    fixture *f = calloc(1, sizeof *f);
    if (!f)
        return -1;
    fake_root_make(f->folder);
    snprintf(f->path, sizeof f->path, "%s/a/b/probe.json", f->folder);
    f->log = (stk_log){.write = keep_line, .user = f, .level_max = STK_LOG_WARN};
    *state = f;
    return stk_machine_open(&(stk_machine_options){"pack:2 core:1 pu:1"}, NULL, &f->machine) ||
           stk_machine_open(&(stk_machine_options){"pack:1 core:8 pu:1"}, NULL, &f->other);
}

static int unmake(void **state)
{
    fixture *f = *state;
    stk_machine_close(&f->machine);
    stk_machine_close(&f->other);
    fake_root_remove(f->folder);
    free(f);
    return 0;
}

static stk_probe_disk disk(const char *name, uint64_t speed)
{
    stk_probe_disk d = {.file_bytes = 5,
                        .is_direct = true,
                        .engine = "threads",
                        .sequential_mib_s = speed,
                        .random_expert_mib_s = 2,
                        .random_4kib_per_s = 3,
                        .random_4kib_latency_ns = 4,
                        .random_4kib_deep_per_s = 6};
    snprintf(d.device.name, sizeof d.device.name, "%s", name);
    d.device.size_bytes = 1000;
    return d;
}

static stk_probe_results sample(void)
{
    stk_probe_results r = {.measured_at = 1234567890,
                           .reads = calloc(1, sizeof *r.reads),
                           .read_count = 1,
                           .decode_rate = {2, 5e10, 3e10},
                           .prefill_rate = {2, 9e10, 6e10}};
    r.reads[0] = (stk_probe_read){0, 0, 2, 20000, 12000, UINT64_C(5) << 30, 15000, 9000};
    stk_probe_disk d = disk("sda", 1);
    stk_probe_results_add_disk(&r, &d, 100);
    assert_true(stk_probe_results_use_disk(&r, &d.device, &(stk_measured){3e9, 2, 0}, 150));
    const stk_known_product up = {7, "up Q4_K", 3e10, 9e10}, down = {8, "down Q6_K", 2e10, 8e10};
    stk_probe_results_add_product(&r, &up);
    stk_probe_results_add_product(&r, &down);
    const stk_probe_gpu gpu = {"Example GPU", "driver 1", "0000:01:00.0", 12000, 11000, 400000};
    stk_probe_results_add_gpu(&r, &gpu);
    return r;
}

static void round_trip(void **state)
{
    fixture *f = *state;
    stk_probe_results r = sample(), got;
    assert_false(stk_probe_cache_load(f->path, f->machine, &f->log, &got));
    assert_string_equal(f->line, ""); // no cache yet is nothing to warn of
    stk_probe_cache_store(f->path, f->machine, &r, &f->log);
    assert_string_equal(f->line, "");
    assert_true(stk_probe_cache_load(f->path, f->machine, &f->log, &got));
    assert_int_equal(got.measured_at, r.measured_at);
    assert_int_equal(got.read_count, 1);
    assert_memory_equal(got.reads, r.reads, sizeof *r.reads);
    assert_true(got.decode_rate.all_per_s == 5e10 && got.prefill_rate.one_thread_per_s == 6e10);
    assert_int_equal(got.product_count, 2);
    const stk_known_product *product = stk_probe_results_product(&got, 8);
    assert_non_null(product);
    assert_string_equal(product->name, "down Q6_K");
    assert_true(product->one_per_s == 2e10 && product->many_per_s == 8e10);
    assert_null(stk_probe_results_product(&got, 9));
    const stk_known_disk *known = stk_probe_results_disk(&got, &r.disks[0].probe.device);
    assert_non_null(known);
    const stk_probe_disk *d = &known->probe;
    assert_int_equal(known->probed_at, 100);
    assert_int_equal(known->run_at, 150);
    assert_true(known->run_bytes_per_s == 3e9);
    assert_true(d->is_direct);
    assert_string_equal(d->engine, "threads");
    assert_int_equal(d->random_4kib_deep_per_s, 6);
    const stk_probe_gpu *gpu = stk_probe_results_gpu(&got, "Example GPU", "driver 1",
                                                     "0000:01:00.0");
    assert_non_null(gpu);
    assert_memory_equal(gpu, &r.gpus[0], sizeof *gpu);
    assert_null(stk_probe_results_gpu(&got, "Example GPU", "driver 2", "0000:01:00.0"));
    assert_null(stk_probe_results_gpu(&got, "Example GPU", "driver 1", "0000:02:00.0"));
    stk_probe_results_free(&got);

    // Another machine finds nothing, and does not push the first one out.
    assert_false(stk_probe_cache_load(f->path, f->other, &f->log, &got));
    stk_probe_cache_store(f->path, f->other, &r, &f->log);
    r.measured_at++;
    stk_probe_cache_store(f->path, f->machine, &r, &f->log);
    assert_true(stk_probe_cache_load(f->path, f->other, &f->log, &got));
    assert_int_equal(got.measured_at, 1234567890);
    stk_probe_results_free(&got);
    assert_true(stk_probe_cache_load(f->path, f->machine, &f->log, &got));
    assert_int_equal(got.measured_at, 1234567891);
    stk_probe_results_free(&got);
    stk_probe_results_free(&r);
}

static void disks_are_bounded(void **state)
{
    (void)state;
    stk_probe_results r = {0};
    char name[8];
    for (uint64_t i = 0; i < STK_PROBE_DISKS_MAX + 3; i++) {
        snprintf(name, sizeof name, "sd%c", (char)('a' + i));
        stk_probe_disk d = disk(name, i);
        stk_probe_results_add_disk(&r, &d, 100);
        stk_probe_results_add_disk(&r, &d, 100); // replaces
    }
    assert_int_equal(r.disk_count, STK_PROBE_DISKS_MAX);
    assert_string_equal(r.disks[0].probe.device.name, "sdd");
    assert_string_equal(r.disks[STK_PROBE_DISKS_MAX - 1].probe.device.name, "sdk");
    stk_probe_disk replaced = disk("sde", 77), nameless = disk("", 1);
    stk_probe_results_add_disk(&r, &replaced, 200);
    stk_probe_results_add_disk(&r, &nameless, 200);
    assert_int_equal(r.disk_count, STK_PROBE_DISKS_MAX);
    assert_int_equal(stk_probe_results_disk(&r, &replaced.device)->probe.sequential_mib_s, 77);
    replaced.device.size_bytes++; // another disk of that name
    assert_null(stk_probe_results_disk(&r, &replaced.device));
    assert_null(stk_probe_results_disk(&r, &nameless.device));
}

static bool is_near(double value, double want)
{
    return value > 0.999 * want && value < 1.001 * want;
}

// Of two measurements the better counts, each figure by itself; there is room for so many.
static void products_are_bounded(void **state)
{
    (void)state;
    stk_probe_results r = {0};
    for (uint32_t i = 0; i < STK_PRODUCTS_MAX + 3; i++) {
        const stk_known_product p = {i + 1, "up", 10, 20};
        stk_probe_results_add_product(&r, &p);
    }
    assert_int_equal(r.product_count, STK_PRODUCTS_MAX);
    assert_null(stk_probe_results_product(&r, STK_PRODUCTS_MAX + 1));
    const stk_known_product again = {2, "up", 11, 19};
    stk_probe_results_add_product(&r, &again);
    const stk_known_product *known = stk_probe_results_product(&r, 2);
    assert_true(is_near(known->one_per_s, 11) && is_near(known->many_per_s, 20));
    assert_int_equal(r.product_count, STK_PRODUCTS_MAX);
}

// What runs got counts beside the probe, the newer the more, and stays when the disk is probed
// again.
static void runs_are_remembered(void **state)
{
    (void)state;
    stk_probe_results r = {0};
    stk_probe_disk d = disk("sda", 1), other = disk("sdb", 1);
    d.random_expert_mib_s = 1000;
    stk_probe_results_add_disk(&r, &d, 1000);
    const stk_known_disk *known = stk_probe_results_disk(&r, &d.device);
    const double mib = 0x1p20, probe_s = 0.25; // so long are both runs
    const stk_measured quick = {2000 * mib, probe_s, 0}, quicker = {4000 * mib, probe_s, 0};
    assert_true(is_near(stk_known_disk_bytes_per_s(known, 5000), 1000 * mib));
    assert_false(stk_probe_results_use_disk(&r, &other.device, &quick, 1000));
    assert_true(stk_probe_results_use_disk(&r, &d.device, &quick, 1000));
    assert_true(is_near(known->run_bytes_per_s, 2000 * mib)); // the first counts alone
    // As old as each other: the time per byte is halfway.
    assert_true(is_near(stk_known_disk_bytes_per_s(known, 9000), 1000 * mib / 0.75));
    assert_true(stk_probe_results_use_disk(&r, &d.device, &quicker, 1000 + 100000));
    assert_true(known->run_bytes_per_s > 3950 * mib && known->run_bytes_per_s < 4000 * mib);
    assert_true(stk_known_disk_bytes_per_s(known, 1000 + 100000) > 3800 * mib);
    stk_probe_results_add_disk(&r, &d, 1000 + 100000);
    assert_true(known->run_at == 1000 + 100000);
    double both = stk_known_disk_bytes_per_s(known, 1000 + 100000);
    assert_true(both > 1500 * mib && both < 1700 * mib);
    assert_true(is_near(stk_known_disk_bytes_per_s(known, 0), both)); // a clock set back
}

// What was seen for longer counts more, but no past so much that a change would not be seen.
static void long_runs_count_more(void **state)
{
    (void)state;
    stk_probe_results r = {0};
    stk_probe_disk d = disk("sda", 1);
    d.random_expert_mib_s = 1000;
    stk_probe_results_add_disk(&r, &d, 1000);
    const double mib = 0x1p20;
    const stk_measured slow = {2000 * mib, 2, 0}, fast = {4000 * mib, 6, 0};
    assert_true(stk_probe_results_use_disk(&r, &d.device, &slow, 1000));
    // 0.25 s at 1000 and 2 s at 2000 MiB/s, by the time per byte.
    const stk_known_disk *known = stk_probe_results_disk(&r, &d.device);
    assert_true(is_near(stk_known_disk_bytes_per_s(known, 1000), 1800 * mib));
    for (int i = 0; i < 50; i++)
        assert_true(stk_probe_results_use_disk(&r, &d.device, &slow, 1000));
    assert_true(is_near(known->run_bytes_per_s, 2000 * mib) && is_near(known->run_seconds, 6));
    assert_true(stk_probe_results_use_disk(&r, &d.device, &fast, 1000));
    assert_true(is_near(known->run_bytes_per_s, 4000 / 1.5 * mib));
}

// A run says something of its disk when it read a lot, many at once, and waited for it.
static void only_waiting_runs_count(void **state)
{
    (void)state;
    const stk_expert_store_stats good = {.read_bytes = UINT64_C(1) << 30,
                                         .busy_ns = 1000000000,
                                         .flight_ns = 8000000000,
                                         .wait_ns = 1000000000,
                                         .pack_ns = 0};
    assert_true(is_near(stk_disk_use_of(&good, 2).bytes_per_s, 0x1p30));
    stk_expert_store_stats s = good;
    s.read_bytes = 100 << 20;
    assert_true(stk_disk_use_of(&s, 2).bytes_per_s <= 0);
    s = good;
    s.flight_ns = 2 * s.busy_ns;
    assert_true(stk_disk_use_of(&s, 2).bytes_per_s <= 0);
    assert_true(stk_disk_use_of(&good, 8).bytes_per_s <= 0); // an eighth of the time
    s = good;
    s.pack_ns = s.busy_ns / 10;
    assert_true(stk_disk_use_of(&s, 2).bytes_per_s <= 0);
    s = (stk_expert_store_stats){.read_bytes = UINT64_C(1) << 40};
    assert_true(stk_disk_use_of(&s, 2).bytes_per_s <= 0); // no time at all
}

static char *read_file(const char *path)
{
    static char text[16384];
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    text[fread(text, 1, sizeof text - 1, file)] = '\0';
    fclose(file);
    return text;
}

// Every prefix of a cache, and every damage below, is ignored with a line; storing repairs it.
static void damage_is_ignored(void **state)
{
    fixture *f = *state;
    stk_probe_results r = sample(), got;
    stk_probe_cache_store(f->path, f->machine, &r, &f->log);
    char *whole = strdup(read_file(f->path)), *text = strdup(whole);
    assert_true(whole && text);
    size_t length = strlen(whole);
    for (size_t cut = 0; cut < length - 1; cut += 7) {
        text[cut] = '\0';
        fake_root_file(f->folder, "a/b/probe.json", text);
        text[cut] = whole[cut];
        f->line[0] = '\0';
        assert_false(stk_probe_cache_load(f->path, f->machine, &f->log, &got));
        assert_non_null(strstr(f->line, "ignored"));
    }
    static const char *const damages[][2] = {
        {"\"version\": 7", "\"version\": 6"},
        {"\"code\": 7", "\"code\": 0"},
        {"\"one_row_per_s\": 2e10", "\"one_row_per_s\": 0.0"},
        {"\"many_rows_per_s\": 9e10", "\"many_rows_per_s\": null"},
        {"\"name\": \"up Q4_K\"", "\"name\": 3"},
        {"\"products\"", "\"product\""},
        {"\"from_node\": 0", "\"from_node\": 9"},
        {"\"to_node\": 0", "\"to_node\": -1"},
        {"\"read_mib_s\": 20000", "\"read_mib_s\": 2e4"},
        {"\"runs_mib_s\": 15000", "\"runs\": 15000"},
        {"\"copy_mib_s\": 400000", "\"copy_mib_s\": \"fast\""},
        {"\"driver\": \"driver 1\"", "\"driver\": null"},
        {"\"threads\": 2", "\"threads\": 99999999999"},
        {"\"device\": \"sda\"", "\"device\": 7"},
        {"\"all_per_s\": 5e10", "\"all_per_s\": -1.0"},
        {"\"measured_at\": 1234567890", "\"measured_at\": null"},
    };
    for (size_t i = 0; i < sizeof damages / sizeof *damages; i++) {
        const char *at = strstr(whole, damages[i][0]);
        if (!at)
            fail_msg("%s is not in the file", damages[i][0]);
        char damaged[16384];
        snprintf(damaged, sizeof damaged, "%.*s%s%s", (int)(at - whole), whole, damages[i][1],
                 at + strlen(damages[i][0]));
        fake_root_file(f->folder, "a/b/probe.json", damaged);
        f->line[0] = '\0';
        assert_false(stk_probe_cache_load(f->path, f->machine, &f->log, &got));
        assert_non_null(strstr(f->line, "ignored"));
        assert_null(got.reads);
    }
    stk_probe_cache_store(f->path, f->machine, &r, &f->log);
    assert_true(stk_probe_cache_load(f->path, f->machine, &f->log, &got));
    stk_probe_results_free(&got);
    stk_probe_results_free(&r);
    free(whole);
    free(text);
}

// What measured speeds depend on besides the hardware.
static void other_circumstances_are_another_machine(void **state)
{
    fixture *f = *state;
    stk_probe_results r = sample(), got;
    stk_machine *m = f->machine;
    const stk_limits limits = m->limits;
    stk_probe_cache_store(f->path, m, &r, &f->log);
    snprintf(m->kernel, sizeof m->kernel, "6.1.0");
    assert_false(stk_probe_cache_load(f->path, m, &f->log, &got));
    m->kernel[0] = '\0';
    m->limits.cpu_quota = 1.5;
    assert_false(stk_probe_cache_load(f->path, m, &f->log, &got));
    m->limits = limits;
    m->limits.memory_limit_bytes = 1 << 30;
    assert_false(stk_probe_cache_load(f->path, m, &f->log, &got));
    m->limits = limits;
    m->limits.memory_available_bytes /= 2; // nothing but the moment
    assert_true(stk_probe_cache_load(f->path, m, &f->log, &got));
    stk_probe_results_free(&got);
    m->cores[1].pus = m->cores[0].pus; // another list of CPUs
    assert_false(stk_probe_cache_load(f->path, m, &f->log, &got));
    stk_probe_results_free(&r);
}

static void store_fails(void **state)
{
    fixture *f = *state;
    stk_probe_results r = sample();
    fake_root_file(f->folder, "a", "a file where a folder is needed");
    stk_probe_cache_store(f->path, f->machine, &r, &f->log);
    assert_non_null(strstr(f->line, "are not kept: Not a directory"));
    stk_probe_results_free(&r);
}

static void paths(void **state)
{
    (void)state;
    const char *expected[][3] = {{"/x", "/home/me", "/x/stoker/probe.json"},
                                 {"relative", "/home/me", "/home/me/.cache/stoker/probe.json"},
                                 {NULL, "/home/me", "/home/me/.cache/stoker/probe.json"},
                                 {NULL, NULL, NULL}};
    for (size_t i = 0; i < 4; i++) {
        expected[i][0] ? setenv("XDG_CACHE_HOME", expected[i][0], 1) : unsetenv("XDG_CACHE_HOME");
        expected[i][1] ? setenv("HOME", expected[i][1], 1) : unsetenv("HOME");
        char *path = stk_probe_cache_path();
        if (expected[i][2])
            assert_string_equal(path, expected[i][2]);
        else
            assert_null(path);
        free(path);
    }
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, make, unmake)
    const struct CMUnitTest tests[] = {
        TEST(round_trip),
        TEST(disks_are_bounded),
        TEST(products_are_bounded),
        TEST(runs_are_remembered),
        TEST(long_runs_count_more),
        TEST(only_waiting_runs_count),
        TEST(damage_is_ignored),
        TEST(store_fails),
        TEST(paths),
        TEST(other_circumstances_are_another_machine),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
