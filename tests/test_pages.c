// Large areas: small pages become huge ones where the system can do it, and nothing changes in
// them.
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

#include "base/pages.h"

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

enum { HUGE = 2 << 20, AREA = 33 * (1 << 20) + 4096 };

// Of the mapping that holds `at`.
static uint64_t huge_bytes(const void *at)
{
    FILE *f = fopen("/proc/self/smaps", "re");
    char line[512];
    uint64_t begin, end, kib, huge = 0;
    bool is_it = false;
    assert_non_null(f);
    while (fgets(line, sizeof line, f)) {
        if (sscanf(line, "%" SCNx64 "-%" SCNx64 " ", &begin, &end) == 2)
            is_it = (uintptr_t)at >= begin && (uintptr_t)at < end;
        else if (is_it && sscanf(line, "AnonHugePages: %" SCNu64, &kib) == 1)
            huge = kib << 10;
    }
    fclose(f);
    return huge;
}

// An area whose pages are small, as after a time without huge ones; [untouched, +HUGE) is empty.
static uint8_t *small_area(size_t untouched)
{
    uint8_t *area = stk_pages_alloc(AREA);
    assert_non_null(area);
    (void)madvise(area, AREA, MADV_NOHUGEPAGE);
    for (size_t i = 0; i < AREA; i += 512)
        if (i < untouched || i >= untouched + HUGE)
            memcpy(area + i, &i, sizeof i);
    (void)madvise(area, AREA, MADV_HUGEPAGE);
    return area;
}

static void test_gather(void **state)
{
    (void)state;
    enum { UNTOUCHED = 9 << 20 };
    uint8_t *area = small_area(UNTOUCHED), *other = small_area(UNTOUCHED);
    uint8_t *first = other + (HUGE - (uintptr_t)other % HUGE) % HUGE;
    bool can = madvise(first, HUGE, MADV_COLLAPSE) == 0;
    stk_pages_free(other, AREA);
    stk_pages_gather(area, AREA);
    stk_pages_gather(area, AREA); // what is huge stays so
    for (size_t i = 0, value; i < AREA; i += 512) {
        memcpy(&value, area + i, sizeof value);
        assert_int_equal(value, i < UNTOUCHED || i >= UNTOUCHED + HUGE ? i : 0);
    }
    if (can)
        assert_true(huge_bytes(area) > 0);
    else
        print_message("no huge pages to be had here\n");
    stk_pages_free(area, AREA);
}

// Small areas and those that asked for small pages keep them.
static void test_left_alone(void **state)
{
    (void)state;
    uint8_t *small = stk_pages_alloc(4 * HUGE), *counted = stk_pages_alloc_small(AREA);
    assert_true(small && counted);
    memset(small, 1, 4 * HUGE);
    memset(counted, 1, AREA);
    uint64_t before = huge_bytes(small);
    stk_pages_gather(small, 4 * HUGE);
    stk_pages_gather(counted, AREA);
    assert_int_equal(huge_bytes(small), before);
    assert_int_equal(huge_bytes(counted), 0);
    stk_pages_free(small, 4 * HUGE);
    stk_pages_free(counted, AREA);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gather),
        cmocka_unit_test(test_left_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
