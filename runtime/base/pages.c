#include "base/pages.h"

#include <sys/mman.h>

enum { HUGE_BYTES = 2 << 20 };

static void *reserve(size_t bytes)
{
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                   -1, 0);
    return p == MAP_FAILED ? NULL : p;
}

void *stk_pages_alloc(size_t bytes)
{
    void *p = reserve(bytes);
    // Small areas would be rounded up to 2 MiB and break the byte counts of the memory plan.
    if (p && bytes >= 8 * (size_t)HUGE_BYTES)
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

void stk_pages_discard(void *pages, size_t bytes)
{
    madvise(pages, bytes, MADV_DONTNEED);
}
