#include "base/pages.h"

#include <errno.h>
#include <stdint.h>
#include <sys/mman.h>

#ifndef MADV_COLLAPSE // glibc 2.37
#define MADV_COLLAPSE 25
#endif

// Small areas would be rounded up to 2 MiB and break the byte counts of the memory plan.
enum { HUGE_BYTES = 2 << 20, HUGE_AREA_BYTES = 8 * HUGE_BYTES };

static void *reserve(size_t bytes)
{
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                   -1, 0);
    return p == MAP_FAILED ? NULL : p;
}

void *stk_pages_alloc(size_t bytes)
{
    void *p = reserve(bytes);
    if (p && bytes >= HUGE_AREA_BYTES)
        madvise(p, bytes, MADV_HUGEPAGE);
    return p;
}

void *stk_pages_alloc_small(size_t bytes)
{
    void *p = reserve(bytes);
    if (p)
        madvise(p, bytes, MADV_NOHUGEPAGE);
    return p;
}

void stk_pages_free(void *pages, size_t bytes)
{
    if (pages)
        munmap(pages, bytes);
}

// A call ends at the first page that the system finds no room for, and the next may fare better.
static void gather(char *first, size_t count)
{
    if (madvise(first, count * HUGE_BYTES, MADV_COLLAPSE) == 0 || count == 1 || errno == EINVAL)
        return;
    gather(first, count / 2);
    gather(first + count / 2 * HUGE_BYTES, count - count / 2);
}

void stk_pages_gather(void *pages, size_t bytes)
{
    size_t before = (HUGE_BYTES - (uintptr_t)pages % HUGE_BYTES) % HUGE_BYTES;
    if (bytes >= HUGE_AREA_BYTES)
        gather((char *)pages + before, (bytes - before) / HUGE_BYTES);
}

void stk_pages_discard(void *pages, size_t bytes)
{
    madvise(pages, bytes, MADV_DONTNEED);
}
