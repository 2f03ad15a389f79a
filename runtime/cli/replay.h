// cli/replay.h: what a cache policy would have hit on a recorded trace.
//
// Simulates slots without bytes; prints nothing. A layer's experts are held together while it
// computes, as in the store, and are read when missing; there are no guesses.
#ifndef STK_CLI_REPLAY_H
#define STK_CLI_REPLAY_H

#include "cli/trace.h"
#include "store/cache_policy.h"

typedef struct stk_replay stk_replay;

typedef struct stk_replay_result {
    uint64_t hits, uses; // after the warm-up
} stk_replay_result;

// `trace` is borrowed and must outlive the replay. STK_NO_MEMORY.
STK_CHECKED stk_status stk_replay_open(const stk_trace_data *trace, stk_replay **out);
void stk_replay_close(stk_replay **replay); // sets it to NULL; NULL is allowed

// Replays from an empty cache of `slots`, which must be more than the trace's `used`. policy NULL
// is Belady's, which knows the future: what is used again last goes first.
stk_replay_result stk_replay_run(stk_replay *replay, const stk_cache_policy *policy, uint32_t slots,
                                 uint32_t warmup_tokens);

#endif
