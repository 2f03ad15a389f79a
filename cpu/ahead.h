// cpu/ahead.h: asks for weights before they are needed, so that memory never idles.
//
// A list of runs of memory, asked for a few lines at a time between steps of other work: many
// requests at once would stop the core until memory has answered, and some would be dropped. Lines
// go to the second-level cache, which the next few microseconds leave alone. Never waits, changes
// no value: a wrong guess costs bandwidth.
#ifndef STK_CPU_AHEAD_H
#define STK_CPU_AHEAD_H

#include <stdint.h>

enum { STK_AHEAD_RUNS_MAX = 40, STK_AHEAD_STEP_BYTES = 256 };

typedef struct stk_ahead {
    uint32_t run_bytes;
    uint32_t next, count;                 // runs[next] is under way
    uint32_t at;                          // what of it has been asked for
    uint32_t rate, credit;                // steps for each place, what is left of them; in 1/256
    const char *runs[STK_AHEAD_RUNS_MAX]; // [count]
} stk_ahead;

static inline void stk_ahead_clear(stk_ahead *ahead, uint32_t run_bytes)
{
    ahead->run_bytes = run_bytes;
    ahead->next = ahead->count = ahead->at = ahead->rate = ahead->credit = 0;
}

// So many calls of stk_ahead_place will ask for all.
static inline void stk_ahead_spread(stk_ahead *ahead, uint32_t places)
{
    uint32_t of_run = (ahead->run_bytes + STK_AHEAD_STEP_BYTES - 1) / STK_AHEAD_STEP_BYTES;
    ahead->rate = ((ahead->count - ahead->next) * of_run * 256 + places - 1) / places;
    ahead->credit = 0;
}

static inline void stk_ahead_place(stk_ahead *ahead)
{
    if (ahead->next == ahead->count)
        return;
    for (ahead->credit += ahead->rate; ahead->credit >= 256; ahead->credit -= 256) {
        uint32_t at = ahead->at, bytes = ahead->run_bytes;
        uint32_t last = bytes > STK_AHEAD_STEP_BYTES ? bytes - STK_AHEAD_STEP_BYTES : 0;
        const char *from = ahead->runs[ahead->next] + (at < last ? at : last);
        for (uint32_t i = 0; i < STK_AHEAD_STEP_BYTES; i += 64)
            __builtin_prefetch(from + i, 0, 2);
        at += STK_AHEAD_STEP_BYTES;
        ahead->at = at < bytes ? at : 0;
        ahead->next += at >= bytes;
        if (ahead->next == ahead->count)
            return;
    }
}

// Asks for the next `count` runs, or for as many as are left.
static inline void stk_ahead_some(stk_ahead *ahead, uint32_t count)
{
    for (; count > 0 && ahead->next < ahead->count; count--) {
        const char *run = ahead->runs[ahead->next++];
        for (uint32_t i = ahead->at; i < ahead->run_bytes; i += 64)
            __builtin_prefetch(run + i, 0, 2);
        ahead->at = 0;
    }
}

#endif
