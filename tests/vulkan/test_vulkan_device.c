// Choosing a device, opening it, and the file of compiled shaders. Choosing is tested with invented
// devices and needs no Vulkan.
#include "tests/vulkan/vulkan_test.h"

#include <unistd.h>

#include "vulkan/probe.h"
#include "vulkan/run.h"

static const stk_vk_device_info invented[] = {
    {.name = "llvmpipe (LLVM 15)", .kind = STK_VK_CPU, .usable = true},
    {.name = "Old Card", .kind = STK_VK_DISCRETE, .unusable_because = "lacks Vulkan 1.2"},
    {.name = "Iris Xe", .pci = "0000:00:02.0", .kind = STK_VK_INTEGRATED, .usable = true},
    {.name = "GeForce 9", .pci = "0000:01:00.0", .kind = STK_VK_DISCRETE, .usable = true},
};

static void expect_choice(const char *choice, uint32_t want)
{
    uint32_t index = 99;
    assert_int_equal(stk_vk_choose(invented, 4, choice, NULL, &index), STK_OK);
    assert_int_equal(index, want);
}

static void test_choose(void **state)
{
    (void)state;
    expect_choice(NULL, 3);
    expect_choice("auto", 3);
    expect_choice("0", 0);
    expect_choice("2", 2);
    expect_choice("0000:00:02.0", 2);
    expect_choice("geforce", 3);
    expect_choice("PIPE", 0);
    static const char *const wrong[] = {"4", "99999999999", "1", "old", "radeon",
                                        "",  "0000:02:00.0"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        uint32_t index = 99;
        assert_int_equal(stk_vk_choose(invented, 4, wrong[i], NULL, &index), STK_INVALID);
        assert_int_equal(index, 99);
    }
    uint32_t index = 99;
    assert_int_equal(stk_vk_choose(invented, 0, NULL, NULL, &index), STK_INVALID);
    assert_int_equal(stk_vk_choose(invented + 1, 1, "auto", NULL, &index), STK_INVALID);
    assert_string_equal(stk_vk_kind_name(STK_VK_INTEGRATED), "integrated");
}

static void test_facts(void **state)
{
    (void)state;
    stk_vk_device_info infos[STK_VK_DEVICES_MAX];
    uint32_t count = 0;
    stk_status status = stk_vk_devices(NULL, infos, &count);
    assert_int_equal(status, count > 0 ? STK_OK : STK_UNSUPPORTED);
    for (uint32_t i = 0; i < count; i++) {
        const stk_vk_device_info *d = &infos[i];
        assert_true(d->name[0] != '\0');
        assert_int_equal(d->usable, d->unusable_because[0] == '\0');
        if (!d->usable)
            continue;
        assert_true(d->local_bytes > 0 && d->mappable_bytes <= d->local_bytes);
        assert_true(d->local_free_bytes <= d->local_bytes);
        assert_true(d->subgroup_size > 0 && d->workgroup_invocations_max >= 256);
        assert_true(!d->dot_accelerated || d->has_dot);
        uint64_t local = 0;
        for (uint32_t h = 0; h < d->heap_count; h++)
            if (d->heaps[h].is_local && d->heaps[h].bytes > local)
                local = d->heaps[h].bytes;
        assert_true(local == d->local_bytes);
    }
    if (count == 0)
        skip();
}

// Speeds are this machine's business; that all were measured and nothing is kept is ours.
static void test_probe(void **state)
{
    (void)state;
    stk_vk *device = NULL;
    for (int unmapped = 0; unmapped < 2; unmapped++) {
        stk_vk_options options = {.faults = {.unmapped = unmapped}};
        stk_vk_speeds speeds = {0};
        if (stk_vk_open(&options, &device) != STK_OK)
            skip();
        assert_int_equal(stk_vk_probe(device, 1 << 20, &speeds), STK_OK);
        assert_true(speeds.upload_mib_s > 0 && speeds.download_mib_s > 0);
        assert_true(speeds.copy_mib_s > 0 && speeds.bytes == 1 << 20);
        stk_vk_close(&device);
    }
    stk_vk_options small = {.memory_bytes_max = 4096};
    stk_vk_speeds speeds = {0};
    assert_int_equal(stk_vk_open(&small, &device), STK_OK);
    assert_int_equal(stk_vk_probe(device, 0, &speeds), STK_NO_MEMORY);
    assert_int_equal(speeds.bytes, 0);
    stk_vk_close(&device);
}

static stk_status open_with_cache(const char *path, stk_vk **out)
{
    stk_vk_options options = {.device = "0", .pipeline_cache = path};
    return stk_vk_open(&options, out);
}

static void use(stk_vk *device)
{
    const uint32_t constants[] = {3, 3}, groups[3] = {1, 1, 1};
    float x[] = {1, 3, 2};
    uint32_t index = 0;
    const stk_vk_run_buffer buffers[] = {{x, sizeof x, false}, {&index, sizeof index, true}};
    assert_int_equal(
        stk_vk_run(device, STK_VK_SHADER_argmax_part, buffers, 2, constants, 2, groups), STK_OK);
    assert_int_equal(index, 1);
}

static void expect_cache(const char *path, bool read)
{
    stk_vk *device = NULL;
    assert_int_equal(open_with_cache(path, &device), STK_OK);
    assert_int_equal(stk_vk_cache_was_read(device), read);
    use(device);
    stk_vk_close(&device);
    assert_null(device);
}

static void flip(const char *path, long at)
{
    FILE *file = fopen(path, "r+b");
    assert_non_null(file);
    fseek(file, at, SEEK_SET);
    int c = fgetc(file);
    fseek(file, at, SEEK_SET);
    fputc(c ^ 1, file);
    fclose(file);
}

// Whatever is wrong with the file, the device opens and writes a good one.
static void test_cache(void **state)
{
    (void)state;
    char path[] = "/tmp/stoker_cache_XXXXXX";
    stk_vk *device = NULL;
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    if (open_with_cache(path, &device) != STK_OK) {
        unlink(path);
        skip();
    }
    assert_false(stk_vk_cache_was_read(device)); // an empty file
    stk_vk_close(&device);
    expect_cache(path, true);
    static const long places[] = {0, 8, 30, 40, 48, 56, 60};
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        flip(path, places[i]);
        expect_cache(path, false);
        expect_cache(path, true);
    }
    assert_int_equal(truncate(path, 57), 0);
    expect_cache(path, false);
    unlink(path);
    expect_cache(path, false); // and where there is none
    expect_cache(path, true);
    unlink(path);
    assert_int_equal(open_with_cache("/nowhere/cache", &device), STK_OK);
    stk_vk_close(&device);
}

static void test_refusals(void **state)
{
    (void)state;
    stk_vk *device = NULL;
    stk_vk_options options = {.device = "no such device"};
    stk_status status = stk_vk_open(&options, &device);
    assert_true(status == STK_INVALID || status == STK_UNSUPPORTED);
    assert_null(device);
    stk_vk_close(&device);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_choose),   cmocka_unit_test(test_facts),
        cmocka_unit_test(test_probe),    cmocka_unit_test(test_cache),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
