// The thread that tells the others that this rank lives and notices when one of them does not.
//
// It computes nothing, so it stays on time however long a forward pass or a load takes. While large
// data is on its way it also lets MPI move it, which happens only inside MPI's calls.
#include "cluster/mpi/cluster_impl.h"

#include <stdio.h>
#include <time.h>

static const uint64_t BEAT_NS = 500000000, LOOK_NS = 100000000, MOVE_NS = 1000000;
static const uint64_t BULK_LASTS_NS = 1000000000;
enum { TAG_BEAT = 1 };

static void send_beats(stk_cluster *c)
{
    for (uint32_t r = 0; r < c->facts.count; r++) {
        int done = 1;
        if (r == c->facts.rank)
            continue;
        // A beat that has not left is as good as one more behind it.
        if (c->beats[r] != MPI_REQUEST_NULL)
            MPI_Test(&c->beats[r], &done, MPI_STATUS_IGNORE);
        if (done)
            MPI_Isend(&c->beat_out_data, 1, MPI_UINT32_T, (int)r, TAG_BEAT, c->pulses,
                      &c->beats[r]);
    }
}

// Takes what beats have come.
static void take_beats(stk_cluster *c)
{
    int done = 1;
    while (done) {
        MPI_Status from;
        if (MPI_Test(&c->beat_in, &done, &from) != MPI_SUCCESS || !done)
            return;
        stk_cluster_heard(c, from.MPI_SOURCE);
        MPI_Irecv(&c->beat_in_data, 1, MPI_UINT32_T, MPI_ANY_SOURCE, TAG_BEAT, c->pulses,
                  &c->beat_in);
    }
}

static void look_for_the_lost(stk_cluster *c, uint64_t now)
{
    for (uint32_t r = 0; r < c->facts.count; r++) {
        uint64_t heard = atomic_load_explicit(&c->heard_ns[r], memory_order_relaxed);
        if (r == c->facts.rank || now < heard || now - heard < c->silence_ns_max)
            continue;
        char why[64];
        snprintf(why, sizeof why, "has not been heard of for %.1f s", (double)(now - heard) * 1e-9);
        stk_cluster_lose(c, r, why);
    }
}

// True: the cluster closes.
static bool rest(stk_cluster *c, uint64_t ns)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    ns += (uint64_t)until.tv_nsec;
    until.tv_sec += (time_t)(ns / 1000000000u);
    until.tv_nsec = (long)(ns % 1000000000u);
    pthread_mutex_lock(&c->lock);
    if (!c->stops)
        pthread_cond_timedwait(&c->wake, &c->lock, &until);
    bool stops = c->stops;
    pthread_mutex_unlock(&c->lock);
    return stops;
}

static void *pulse_main(void *argument)
{
    stk_cluster *c = argument;
    uint64_t beat_ns = 0, looked_ns = stk_cluster_now_ns();
    for (;;) {
        uint64_t now = stk_cluster_now_ns();
        if (now - beat_ns >= BEAT_NS) {
            send_beats(c);
            beat_ns = now;
        }
        take_beats(c);
        // A process that was stopped itself has heard nobody: their silence begins now.
        if (now - looked_ns > c->silence_ns_max / 4)
            for (uint32_t r = 0; r < c->facts.count; r++)
                stk_cluster_heard(c, (int)r);
        looked_ns = now;
        look_for_the_lost(c, now);
        uint64_t bulk = atomic_load_explicit(&c->bulk_ns, memory_order_relaxed);
        if (rest(c, bulk != 0 && now < bulk + BULK_LASTS_NS ? MOVE_NS : LOOK_NS))
            return NULL;
    }
}

stk_status stk_cluster_pulse_start(stk_cluster *c)
{
    for (uint32_t r = 0; r < c->facts.count; r++)
        stk_cluster_heard(c, (int)r);
    int code = MPI_Irecv(&c->beat_in_data, 1, MPI_UINT32_T, MPI_ANY_SOURCE, TAG_BEAT, c->pulses,
                         &c->beat_in);
    stk_cluster_check(c, code, "receiving");
    if (pthread_create(&c->thread, NULL, pulse_main, c) != 0)
        return stk_fail(c->log, STK_NO_MEMORY, "cannot start the thread that watches the ranks");
    c->has_thread = true;
    return STK_OK;
}

void stk_cluster_pulse_stop(stk_cluster *c)
{
    if (c->has_thread) {
        pthread_mutex_lock(&c->lock);
        c->stops = true;
        pthread_cond_signal(&c->wake);
        pthread_mutex_unlock(&c->lock);
        pthread_join(c->thread, NULL);
        c->has_thread = false;
    }
}
