// engine/ahead.h: what the workers ask memory for in advance (cpu/ahead.h).
#ifndef STK_ENGINE_AHEAD_H
#define STK_ENGINE_AHEAD_H

#include "cpu/ahead.h"
#include "store/expert_store.h"
#include <stddef.h>
#include <stdint.h>

// What up and down will read for neurons active[count], all of group `group` of 32.
void stk_ahead_neurons(stk_ahead *ahead, const stk_expert *expert, uint32_t group,
                       const uint32_t *active, uint32_t count);
// `bytes` from `from` on, in runs of 1 KiB; NULL: nothing. At most STK_AHEAD_RUNS_MAX KiB.
void stk_ahead_bytes(stk_ahead *ahead, const void *from, size_t bytes);

#endif
