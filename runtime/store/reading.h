// store/reading.h: what threads share that read a whole model.
//
// A drive needs several reads under way, and each of these threads waits for its own; so a small
// team gets helpers (base/team.h). They stop at the first failure, or when they are told to.
#ifndef STK_STORE_READING_H
#define STK_STORE_READING_H

#include "base/log.h"
#include "base/status.h"
#include "base/team.h"
#include <pthread.h>
#include <stdatomic.h>

// Thread-safety: goes_on and count may be called from any thread. All is borrowed.
typedef struct stk_reading {
    const char *what; // is loaded, for progress
    uint32_t total;
    const stk_log *log;
    const atomic_int *cancel; // not 0: stop; NULL is allowed
    pthread_mutex_t lock;
    uint32_t done;
    atomic_int status;
} stk_reading;

// Runs `job` on every worker and its helpers. The first failure, or STK_CANCELLED.
STK_CHECKED stk_status stk_reading_run(stk_reading *reading, stk_team *team, stk_team_job job,
                                       void *argument);
// Before each of the pieces: false when there is no point any more.
bool stk_reading_goes_on(stk_reading *reading);
// After each: progress is told of it, one thread at a time.
void stk_reading_count(stk_reading *reading, stk_status status);

#endif
