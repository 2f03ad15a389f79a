// tests/kernel/kernel_test.h: random inputs for kernel tests.
#ifndef STK_TESTS_KERNEL_TEST_H
#define STK_TESTS_KERNEL_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "cpu/cpu.h"

// The sets of kernels that are compared with cpu/ref, narrowest first.
static const char *const test_masks_all[] = {"avx2", "avxvnni", "avx512", "amx", "neon"};

enum { TEST_MASK_COUNT = sizeof test_masks_all / sizeof *test_masks_all };

// The arguments of a kernel test name the sets that must be here: without them a test passes with
// whatever the machine has. Returns whether all are.
static inline int test_masks_here(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        stk_cpu cpu;
        if (stk_cpu_init(argv[i], NULL, &cpu) != STK_OK || strcmp(cpu.name, argv[i]) != 0) {
            print_error("this machine has no %s kernels\n", argv[i]);
            return 0;
        }
    }
    return 1;
}

static inline uint64_t test_random(uint64_t *state)
{
    uint64_t z = (*state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

// Uniform in [-1, 1).
static inline float test_float(uint64_t *state)
{
    return (float)(int32_t)(test_random(state) >> 32) * 0x1p-31f;
}

enum { TEST_FRESH = 0xa5 }; // every byte of test_alloc

static inline void *test_alloc(size_t bytes)
{
    void *p = aligned_alloc(64, (bytes + 127) / 64 * 64);
    assert_non_null(p);
    memset(p, TEST_FRESH, (bytes + 127) / 64 * 64);
    return p;
}

#endif
