// topology/probe_sum.h: reading memory as fast as the core can.
#ifndef STK_TOPOLOGY_PROBE_SUM_H
#define STK_TOPOLOGY_PROBE_SUM_H

#include <stddef.h>
#include <stdint.h>

// The sum of data[count], modulo 2^64; count is a multiple of 32 and data 64-byte aligned. Every
// implementation gives the same sum.
typedef uint64_t (*stk_sum_fn)(const uint64_t *data, size_t count);

// The widest loads this core has. *name (may be NULL): "avx512", "avx2" or "plain".
stk_sum_fn stk_sum_best(const char **name);
stk_sum_fn stk_sum_plain(void);

#endif
