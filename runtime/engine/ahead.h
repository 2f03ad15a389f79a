// engine/ahead.h: asks for weights before they are needed, so that memory never idles.
//
// Lines go to the second-level cache, which the next few microseconds of work leave alone. Never
// waits and changes no value: a wrong guess costs bandwidth only.
#ifndef STK_ENGINE_AHEAD_H
#define STK_ENGINE_AHEAD_H

#include "store/expert_store.h"
#include <stddef.h>
#include <stdint.h>

// bytes from `from` on, which must be readable or at least harmless to name.
static inline void stk_ahead_bytes(const void *from, size_t bytes)
{
    for (size_t i = 0; i < bytes; i += 64)
        __builtin_prefetch((const char *)from + i, 0, 2);
}

// What up and down read for neurons active[count], all of group `group` of 32.
void stk_ahead_neurons(const stk_expert *expert, uint32_t group, const uint32_t *active,
                       uint32_t count);

#endif
