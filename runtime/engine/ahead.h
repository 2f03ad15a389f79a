// engine/ahead.h: asks for weights before they are needed, so that memory never idles.
//
// A list of runs of memory, asked for a few at a time between steps of other work: many requests at
// once would stop the core until memory has answered. Lines go to the second-level cache, which the
// next few microseconds leave alone. Never waits, changes no value: a wrong guess costs bandwidth.
#ifndef STK_ENGINE_AHEAD_H
#define STK_ENGINE_AHEAD_H

#include "store/expert_store.h"
#include <stddef.h>
#include <stdint.h>

enum { STK_AHEAD_RUNS_MAX = 40 };

typedef struct stk_ahead {
    uint32_t run_bytes;
    uint32_t next, count;
    const char *runs[STK_AHEAD_RUNS_MAX]; // [count], those from `next` on not yet asked for
} stk_ahead;

// What up and down will read for neurons active[count], all of group `group` of 32.
void stk_ahead_neurons(stk_ahead *ahead, const stk_expert *expert, uint32_t group,
                       const uint32_t *active, uint32_t count);
// `bytes` from `from` on; NULL: nothing. At most STK_AHEAD_RUNS_MAX KiB.
void stk_ahead_bytes(stk_ahead *ahead, const void *from, size_t bytes);

// Asks for the next `count` runs, or for as many as are left.
static inline void stk_ahead_some(stk_ahead *ahead, uint32_t count)
{
    for (; count > 0 && ahead->next < ahead->count; count--) {
        const char *run = ahead->runs[ahead->next++];
        for (uint32_t i = 0; i < ahead->run_bytes; i += 64)
            __builtin_prefetch(run + i, 0, 2);
    }
}

#endif
