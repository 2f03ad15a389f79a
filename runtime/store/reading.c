#include "store/reading.h"

enum { READS_AT_ONCE = 8 };

typedef struct with_helpers {
    stk_team_job job;
    void *argument;
} with_helpers;

static void run_with_helpers(stk_worker *worker, void *argument)
{
    const with_helpers *w = argument;
    uint32_t threads = (READS_AT_ONCE + worker->worker_count - 1) / worker->worker_count;
    stk_worker_with_helpers(worker, threads - 1, w->job, w->argument);
}

stk_status stk_reading_run(stk_reading *r, stk_team *team, stk_team_job job, void *argument)
{
    with_helpers w = {job, argument};
    pthread_mutex_init(&r->lock, NULL);
    stk_team_run(team, run_with_helpers, &w);
    pthread_mutex_destroy(&r->lock);
    return (stk_status)atomic_load(&r->status);
}

static void fail(stk_reading *r, stk_status status)
{
    int none = STK_OK;
    atomic_compare_exchange_strong(&r->status, &none, (int)status);
}

bool stk_reading_goes_on(stk_reading *r)
{
    if (r->cancel && atomic_load(r->cancel))
        fail(r, STK_CANCELLED);
    return atomic_load(&r->status) == STK_OK;
}

void stk_reading_count(stk_reading *r, stk_status status)
{
    if (status != STK_OK) {
        fail(r, status);
        return;
    }
    pthread_mutex_lock(&r->lock);
    stk_progress(r->log, r->what, ++r->done, r->total);
    pthread_mutex_unlock(&r->lock);
}
