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

// Gives the memory of [pages, pages + bytes) back; it reads as zero afterwards. Whole pages only.
void stk_pages_discard(void *pages, size_t bytes);

#endif
