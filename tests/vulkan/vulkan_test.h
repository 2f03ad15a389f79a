// tests/vulkan/vulkan_test.h: inputs and the device under test, shared by the Vulkan tests.
#ifndef STK_TESTS_VULKAN_TEST_H
#define STK_TESTS_VULKAN_TEST_H

#include "tests/kernel/styles.h"
#include "tests/vulkan/leaks.h"

#include <dlfcn.h>
#include <math.h>
#include <stdio.h>

#include "base/half.h"
#include "cpu/cpu.h"
#include "cpu/ref/ref.h"
#include "vulkan/device.h"

// The device every test of a round uses.
static stk_vk *vk;

static inline float style_scale(style s)
{
    return s == STYLE_TINY ? 1e-7f : s == STYLE_EXTREME ? 6e4f : 0.1f;
}

// Random rows of a type whose half scale is at `scale_at` in its block, or of a float type.
static inline uint8_t *random_rows(const stk_type *type, uint32_t scale_at, uint32_t rows,
                                   uint32_t cols, style s)
{
    size_t bytes = rows * stk_type_row_bytes(type, cols);
    uint8_t *p = test_alloc(bytes);
    for (size_t i = 0; i < bytes; i++)
        p[i] = s == STYLE_EXTREME ? (uint8_t)(test_random(&seed) & 1 ? 0x00 : 0xff)
                                  : (uint8_t)test_random(&seed);
    for (size_t b = 0; b < bytes; b += type->block_bytes) {
        float v = test_float(&seed);
        if (!type->unpack32) {
            v *= s == STYLE_TINY ? 1e-6f : 2.0f;
            type->quantize(&v, p + b, 1);
        } else {
            uint16_t half = stk_half_from_float(v * style_scale(s));
            memcpy(p + b + scale_at, &half, 2);
        }
    }
    return p;
}

// Rows of activations, one after the other.
typedef struct act_rows {
    uint32_t n, count;
    float *x;
    int8_t *q;
    float *d;
    int32_t *sum;
} act_rows;

static inline act_rows random_acts(uint32_t n, uint32_t count, style s)
{
    size_t total = (size_t)n * count, blocks = total / 32 + 1;
    act_rows a = {n,
                  count,
                  test_alloc(total * 4),
                  test_alloc(total),
                  test_alloc(blocks * 4),
                  test_alloc(blocks * 4)};
    random_x(a.x, total, s);
    if (n % 32 == 0)
        stk_quantize_ref(a.x, (uint32_t)total, a.q, a.d, a.sum);
    return a;
}

static inline stk_act act_of(const act_rows *a, uint32_t row)
{
    return (stk_act){a->x + (size_t)row * a->n, a->q + (size_t)row * a->n,
                     a->d + (size_t)row * (a->n / 32), a->sum + (size_t)row * (a->n / 32)};
}

static inline void free_acts(act_rows *a)
{
    free(a->x);
    free(a->q);
    free(a->d);
    free(a->sum);
}

static inline void expect_floats(const char *name, const float *got, const float *want, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (memcmp(&got[i], &want[i], 4) != 0)
            fail_msg("%s: value %zu is %a, the reference says %a", name, i, (double)got[i],
                     (double)want[i]);
}

static inline void expect_near(const char *name, const float *got, const float *want, size_t n,
                               double tolerance)
{
    double largest = 0;
    for (size_t i = 0; i < n; i++)
        largest = fmax(largest, fabs((double)want[i]));
    for (size_t i = 0; i < n; i++)
        if (!(fabs((double)got[i] - (double)want[i]) <= tolerance * largest))
            fail_msg("%s: value %zu is %a, the reference says %a", name, i, (double)got[i],
                     (double)want[i]);
}

static void test_log_write(void *user, stk_log_level level, const char *line)
{
    (void)user;
    if (level <= STK_LOG_INFO)
        print_message("%s\n", line);
}

static const stk_log test_log = {.write = test_log_write, .level_max = STK_LOG_INFO};

// Runs the tests on every device, with plain and with packed dot products, the latter with device
// memory out of the CPU's reach. With the argument
// "--validate" under the validation layer, where a single message fails. 77: nothing to run on.
static inline int run_on_devices(int argc, char **argv, int (*run_round)(void))
{
    bool validate = argc > 1 && strcmp(argv[1], "--validate") == 0;
    stk_vk_device_info infos[STK_VK_DEVICES_MAX];
    uint32_t count = 0, rounds = 0;
    if (validate) // held, so that a leak checker can name it
        (void)dlopen("libVkLayer_khronos_validation.so", RTLD_NOW);
    if (stk_vk_devices(&test_log, infos, &count) != STK_OK)
        return 77;
    int failed = 0;
    for (uint32_t i = 0; i < count; i++)
        for (int dot = STK_VK_DOT_NEVER; dot <= STK_VK_DOT_ALWAYS; dot++) {
            if (!infos[i].usable || (dot == STK_VK_DOT_ALWAYS && !infos[i].has_dot))
                continue;
            char index[12];
            snprintf(index, sizeof index, "%u", i);
            stk_vk_options options = {.log = &test_log,
                                      .device = index,
                                      .dot = (stk_vk_dot)dot,
                                      .validate = validate,
                                      .faults = {.unmapped = dot == STK_VK_DOT_ALWAYS}};
            stk_status status = stk_vk_open(&options, &vk);
            if (status == STK_UNSUPPORTED && validate)
                return 77;
            failed += status != STK_OK;
            if (status != STK_OK)
                continue;
            rounds++;
            failed += run_round();
            if (stk_vk_validation_messages(vk) != 0) {
                print_error("%u validation messages\n", stk_vk_validation_messages(vk));
                failed++;
            }
            stk_vk_close(&vk);
        }
    return failed ? 1 : rounds ? 0 : 77;
}

#endif
