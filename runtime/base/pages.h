// base/pages.h: large, page-aligned memory straight from the system.
//
// Pages are zero and take no memory until touched; huge pages are asked for where that helps.
#ifndef STK_BASE_PAGES_H
#define STK_BASE_PAGES_H

#include <stddef.h>

// bytes > 0, rounded up to whole pages. NULL when the system refuses.
void *stk_pages_alloc(size_t bytes);
// The same in the system's smallest pages only: memory is taken exactly where it is touched.
void *stk_pages_alloc_small(size_t bytes);
// bytes as given to alloc; NULL is allowed.
void stk_pages_free(void *pages, size_t bytes);

// Once [pages, pages + bytes) is filled: moves what lies in small pages, because the system had no
// huge ones left when it was touched, into huge ones, as far as it has them by now (Linux 6.1).
// What was not touched stays so. Nobody may write there meanwhile, nor a device use it. Small pages
// cost attention over long contexts a tenth of its speed (bench/2026-11-23-xeon.md).
void stk_pages_gather(void *pages, size_t bytes);

// Gives the memory of [pages, pages + bytes) back; it reads as zero afterwards. Whole pages only.
void stk_pages_discard(void *pages, size_t bytes);

#endif
