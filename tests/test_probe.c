// Measurements: what they read, what they leave behind, how they fail. Never how fast.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fake_root.h"
#include "topology/probe.h"
#include "topology/probe_disk_impl.h"
#include "topology/probe_file.h"
#include "topology/probe_sum.h"

static char line[1024];

static void keep_line(void *user, stk_log_level level, const char *text)
{
    (void)user;
    if (level <= STK_LOG_WARN)
        snprintf(line, sizeof line, "%s", text);
}
static const stk_log test_log = {.write = keep_line, .level_max = STK_LOG_WARN};

static void sums_agree(void **state)
{
    (void)state;
    enum { COUNT = 32 * 37 };
    uint64_t *data = aligned_alloc(64, COUNT * sizeof *data), want = 0;
    assert_non_null(data);
    for (uint64_t i = 0; i < COUNT; i++)
        want += data[i] = (i + 1) * UINT64_C(0x9e3779b97f4a7c15);
    assert_true(stk_sum_plain()(data, COUNT) == want);
    assert_true(stk_sum_best(NULL)(data, COUNT) == want);
    assert_true(stk_sum_best(NULL)(data, 0) == 0);
    for (uint64_t i = 0; i < COUNT; i += 97) { // no value is left out
        data[i]++;
        assert_true(stk_sum_plain()(data, COUNT) == ++want);
        assert_true(stk_sum_best(NULL)(data, COUNT) == want);
    }
    free(data);
}

static stk_machine *open_machine(const char *topology)
{
    stk_machine *m = NULL;
    const stk_machine_options options = {.topology = topology};
    assert_int_equal(stk_machine_open(&options, NULL, &m), STK_OK);
    return m;
}

static uint64_t work(void *user, uint32_t worker)
{
    __atomic_fetch_add((uint64_t *)user + worker, 1, __ATOMIC_RELAXED);
    return 1000;
}

static void memory_and_work(void **state)
{
    (void)state;
    stk_machine *m = open_machine(NULL);
    uint32_t nodes, count = 0;
    stk_machine_nodes(m, &nodes);
    stk_probe_read *reads = calloc((size_t)nodes * nodes, sizeof *reads);
    assert_non_null(reads);
    cpu_set_t before, after;
    assert_int_equal(sched_getaffinity(0, sizeof before, &before), 0);
    const stk_probe_memory_options options = {.buffer_bytes_max = 8 << 20, .runs = 2};
    assert_int_equal(stk_probe_memory(m, &options, NULL, reads, nodes * nodes, &count), STK_OK);
    assert_in_range(count, 1, nodes * nodes);
    for (uint32_t i = 0; i < count; i++) {
        assert_in_range(reads[i].from_node, 0, nodes - 1);
        assert_in_range(reads[i].to_node, 0, nodes - 1);
        assert_in_range(reads[i].thread_count, 1, stk_machine_worker_count(m));
        assert_in_range(reads[i].buffer_bytes, 1 << 20, 8 << 20);
        assert_true(reads[i].read_mib_s > 0 && reads[i].one_thread_mib_s > 0);
        assert_true(reads[i].runs_mib_s > 0 && reads[i].one_thread_runs_mib_s > 0);
    }
    uint64_t calls[512] = {0};
    stk_probe_rate rate;
    const stk_probe_work_options worked = {
        .work = work, .user = calls, .runs = 2, .milliseconds = 5};
    assert_int_equal(stk_probe_work_rate(m, &worked, NULL, &rate), STK_OK);
    assert_int_equal(rate.thread_count, stk_machine_worker_count(m));
    assert_true(rate.all_per_s > 0 && rate.one_thread_per_s > 0);
    for (uint32_t i = 0; i < rate.thread_count; i++)
        assert_true(calls[i] > 0);
    assert_int_equal(sched_getaffinity(0, sizeof after, &after), 0);
    assert_true(CPU_EQUAL(&before, &after));
    free(reads);
    stk_machine_close(&m);
}

static void other_machines_are_refused(void **state)
{
    (void)state;
    stk_machine *m = open_machine("pack:1 core:2 pu:1");
    stk_probe_read read;
    stk_probe_rate rate;
    uint32_t count;
    const stk_probe_memory_options options = {0};
    assert_int_equal(stk_probe_memory(m, &options, NULL, &read, 1, &count), STK_INVALID);
    const stk_probe_work_options worked = {.work = work};
    assert_int_equal(stk_probe_work_rate(m, &worked, NULL, &rate), STK_INVALID);
    stk_machine_close(&m);
}

static void offsets(void **state)
{
    (void)state;
    stk_disk_pattern p = {.file_bytes = 10 * 4096 + 100, .block_bytes = 4096};
    bool seen[10] = {false};
    for (uint64_t i = 0; i < 25; i++)
        assert_int_equal(stk_disk_offset(&p, i), i % 10 * 4096);
    p.is_random = true;
    for (uint64_t i = 0; i < 1000; i++) {
        uint64_t offset = stk_disk_offset(&p, i);
        assert_int_equal(offset % 4096, 0);
        assert_in_range(offset / 4096, 0, 9);
        seen[offset / 4096] = true;
    }
    for (int i = 0; i < 10; i++)
        assert_true(seen[i]);
    p.run_blocks = 4; // within the file, one block after the other
    for (uint64_t i = 0; i < 1000; i++) {
        uint64_t offset = stk_disk_offset(&p, i);
        assert_in_range(offset / 4096, 0, 9);
        assert_true(i % 4 == 0 || offset == stk_disk_offset(&p, i - 1) + 4096);
    }
}

// Reads end in all of the memory, a block apart.
static void targets(void **state)
{
    (void)state;
    static uint8_t memory[3 * 4096 + 5];
    stk_disk_pattern p = {.block_bytes = 4096, .memory = memory, .memory_bytes = sizeof memory};
    for (uint64_t i = 0; i < 8; i++)
        assert_ptr_equal(stk_disk_target(&p, i), memory + i % 3 * 4096);
}

static uint32_t entries_in(const char *folder)
{
    char command[256];
    uint32_t count = 0;
    snprintf(command, sizeof command, "ls -A %s", folder);
    FILE *list = popen(command, "r");
    for (int c; list && (c = getc(list)) != EOF;)
        count += c == '\n';
    pclose(list);
    return count;
}

static void expect_figures(const stk_probe_disk *d)
{
    assert_true(d->sequential_mib_s > 0 && d->random_expert_mib_s > 0);
    assert_true(d->random_4kib_per_s > 0 && d->random_4kib_deep_per_s > 0);
    assert_true(d->random_4kib_latency_ns > 0);
}

// A folder: a temporary file of the size asked for, and nothing left of it.
static void temporary_file(void **state)
{
    (void)state;
    char folder[FAKE_ROOT_BYTES];
    fake_root_make(folder);
    for (int no_uring = 0; no_uring < 2; no_uring++) {
        const stk_probe_disk_options options = {.path = folder,
                                                .file_bytes_max = 8 << 20,
                                                .milliseconds_max = 20,
                                                .no_uring = no_uring};
        stk_probe_disk disk;
        line[0] = '\0';
        stk_status status = stk_probe_disk_run(&options, &test_log, &disk);
        if (status == STK_UNSUPPORTED)
            skip(); // a nearly full disk
        assert_string_equal(line, "");
        assert_int_equal(status, STK_OK);
        assert_int_equal(disk.file_bytes, 8 << 20);
        expect_figures(&disk);
        if (no_uring)
            assert_string_equal(disk.engine, "threads");
        assert_int_equal(entries_in(folder), 0);
    }
    fake_root_remove(folder);
}

// A large file is read itself, and is afterwards as it was; a sparse or small one is not read.
static void given_file(void **state)
{
    (void)state;
    char folder[FAKE_ROOT_BYTES], path[128];
    fake_root_make(folder);
    snprintf(path, sizeof path, "%s/model", folder);
    int fd = open(path, O_CREAT | O_RDWR, 0400);
    assert_true(fd >= 0);
    static char chunk[1 << 20];
    memset(chunk, 0x5a, sizeof chunk);
    for (int i = 0; i < STK_PROBE_FILE_BYTES_MIN >> 20; i++)
        assert_int_equal(write(fd, chunk, sizeof chunk), sizeof chunk);
    fsync(fd);
    stk_probe_file file;
    assert_int_equal(stk_probe_file_open(path, 8 << 20, &test_log, &file), STK_OK);
    assert_false(file.is_temporary);
    assert_int_equal(file.size_bytes, STK_PROBE_FILE_BYTES_MIN);
    assert_int_equal(fcntl(file.fd, F_GETFL) & O_ACCMODE, O_RDONLY);
    stk_probe_file_close(&file);
    struct stat before, after;
    assert_int_equal(fstat(fd, &before), 0);
    const stk_probe_disk_options options = {.path = path, .milliseconds_max = 10};
    stk_probe_disk disk;
    assert_int_equal(stk_probe_disk_run(&options, &test_log, &disk), STK_OK);
    expect_figures(&disk);
    assert_int_equal(disk.file_bytes, STK_PROBE_FILE_BYTES_MIN);
    assert_int_equal(fstat(fd, &after), 0);
    assert_int_equal(before.st_size, after.st_size);
    assert_memory_equal(&before.st_mtim, &after.st_mtim, sizeof before.st_mtim);
    assert_int_equal(ftruncate(fd, 0), 0);
    assert_int_equal(ftruncate(fd, STK_PROBE_FILE_BYTES_MIN), 0); // all hole
    stk_status status = stk_probe_file_open(path, 8 << 20, &test_log, &file);
    if (status == STK_OK) {
        assert_true(file.is_temporary);
        stk_probe_file_close(&file);
    }
    close(fd);
    fake_root_remove(folder);
}

static void failures(void **state)
{
    (void)state;
    stk_probe_disk disk;
    const stk_probe_disk_options none = {.path = "/no/such/file"};
    assert_int_equal(stk_probe_disk_run(&none, &test_log, &disk), STK_IO);
    assert_string_equal(line, "/no/such/file: No such file or directory");
    const stk_probe_disk_options device = {.path = "/dev/null"};
    assert_int_equal(stk_probe_disk_run(&device, &test_log, &disk), STK_IO);
    assert_string_equal(line, "/dev/null: neither a file nor a folder");
    // A file that ends earlier than was thought, and one that cannot be read: both engines.
    const stk_disk_engine *const engines[] = {&stk_disk_uring, &stk_disk_threads};
    uint8_t *buffers = aligned_alloc(4096, 4 * 4096);
    assert_non_null(buffers);
    int zero = open("/dev/null", O_RDONLY), closed = open("/dev/null", O_WRONLY);
    for (size_t i = 0; i < 2; i++) {
        stk_disk_pattern p = {.fd = zero,
                              .name = "short",
                              .file_bytes = 1 << 20,
                              .block_bytes = 4096,
                              .depth = 4,
                              .nanoseconds_max = 1000000,
                              .memory = buffers,
                              .memory_bytes = 4 * 4096};
        stk_disk_result r;
        line[0] = '\0';
        stk_status status = engines[i]->run(&p, &test_log, &r);
        if (status == STK_UNSUPPORTED)
            continue; // no io_uring here
        assert_int_equal(status, STK_IO);
        assert_non_null(strstr(line, "short: only 0 of 4096 bytes at "));
        p.fd = closed;
        assert_int_equal(engines[i]->run(&p, &test_log, &r), STK_IO);
        assert_non_null(strstr(line, "failed: Bad file descriptor"));
    }
    close(zero);
    close(closed);
    free(buffers);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sums_agree),
        cmocka_unit_test(memory_and_work),
        cmocka_unit_test(other_machines_are_refused),
        cmocka_unit_test(offsets),
        cmocka_unit_test(targets),
        cmocka_unit_test(temporary_file),
        cmocka_unit_test(given_file),
        cmocka_unit_test(failures),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
