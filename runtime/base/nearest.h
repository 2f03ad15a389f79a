// base/nearest.h: "did you mean": the known name closest to a mistyped one.
#ifndef STK_BASE_NEAREST_H
#define STK_BASE_NEAREST_H

#include <stdint.h>

// Letters to insert, delete, replace or swap with a neighbour to turn a into b (optimal string
// alignment). Names longer than 63 bytes count as infinitely far: UINT32_MAX.
uint32_t stk_name_distance(const char *a, const char *b);

// Whether a typo of that distance is worth suggesting: at most a third of the letters, or two.
// A name that begins with what was typed is always worth it.
int stk_name_is_near(const char *typed, const char *name);

#endif
