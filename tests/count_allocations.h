// tests/count_allocations.h: how often a program allocated. Link with
// -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc, which sends every allocation here.
#ifndef STK_TESTS_COUNT_ALLOCATIONS_H
#define STK_TESTS_COUNT_ALLOCATIONS_H

#include <stdint.h>

extern uint32_t allocations; // since the start; may be set

#endif
