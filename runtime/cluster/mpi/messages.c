// Messages, and waiting for them without burning a core.
#include "cluster/mpi/cluster_impl.h"

#include <assert.h>
#include <limits.h>
#include <sched.h>
#include <string.h>
#include <time.h>

#include "base/pages.h"

enum { TAG_MESSAGE = 1, TAG_BULK = 2 };

// Large enough for MPI to ask the receiver first, which takes calls on both sides.
static const size_t BULK_BYTES = 4096;
static const uint64_t SPIN_NS = 50000, SLEEP_NS_MIN = 20000, SLEEP_NS_MAX = 100000;
static const uint64_t IDLE_NS = 1000000000, IDLE_SLEEP_NS = 2000000;

static void sleep_ns(uint64_t ns)
{
    nanosleep(&(struct timespec){.tv_nsec = (long)ns}, NULL);
}

// Between two looks, `waited_ns` after the first.
static void back_off(uint64_t waited_ns)
{
    if (waited_ns < SPIN_NS)
        sched_yield(); // on a shared core the other rank may be the one to wait for
    else if (waited_ns > IDLE_NS)
        sleep_ns(IDLE_SLEEP_NS);
    else if (waited_ns / 8 < SLEEP_NS_MIN)
        sleep_ns(SLEEP_NS_MIN);
    else
        sleep_ns(waited_ns / 8 < SLEEP_NS_MAX ? waited_ns / 8 : SLEEP_NS_MAX);
}

static void wait_for(stk_cluster *c, MPI_Request *request, const char *what, MPI_Status *out)
{
    int done = 0;
    uint64_t begin = stk_cluster_now_ns();
    for (;;) {
        stk_cluster_check(c, MPI_Test(request, &done, out), what);
        if (done)
            return;
        back_off(stk_cluster_now_ns() - begin);
    }
}

static void note_bulk(stk_cluster *c, size_t size)
{
    if (size > BULK_BYTES)
        atomic_store_explicit(&c->bulk_ns, stk_cluster_now_ns(), memory_order_relaxed);
}

void stk_mpi_gather(stk_cluster *c, const void *mine, size_t bytes, void *all)
{
    MPI_Request request;
    int code = MPI_Iallgather(mine, (int)bytes, MPI_BYTE, all, (int)bytes, MPI_BYTE, c->messages,
                              &request);
    stk_cluster_check(c, code, "gathering");
    wait_for(c, &request, "gathering", MPI_STATUS_IGNORE);
}

void stk_mpi_share(stk_cluster *c, void *data, size_t bytes)
{
    MPI_Request request;
    int code = MPI_Ibcast(data, (int)bytes, MPI_BYTE, 0, c->messages, &request);
    stk_cluster_check(c, code, "sharing");
    wait_for(c, &request, "sharing", MPI_STATUS_IGNORE);
}

static uint8_t *out_buffer(const stk_cluster *c, uint32_t slot)
{
    return c->buffers + slot * c->message_bytes;
}

static uint8_t *in_buffer(const stk_cluster *c, uint32_t slot)
{
    return c->buffers + (STK_CLUSTER_BUFFERS + slot) * c->message_bytes;
}

static void post(stk_cluster *c, uint32_t slot)
{
    int code = MPI_Irecv(in_buffer(c, slot), (int)c->message_bytes, MPI_BYTE, MPI_ANY_SOURCE,
                         TAG_MESSAGE, c->messages, &c->in[slot]);
    stk_cluster_check(c, code, "receiving");
}

static void drain(stk_cluster *c)
{
    for (uint32_t i = 0; i < STK_CLUSTER_BUFFERS; i++) {
        wait_for(c, &c->out[i], "sending", MPI_STATUS_IGNORE);
        if (c->in[i] != MPI_REQUEST_NULL) {
            MPI_Cancel(&c->in[i]);
            MPI_Wait(&c->in[i], MPI_STATUS_IGNORE);
        }
    }
}

stk_status stk_mpi_reserve(stk_cluster *c, size_t bytes)
{
    bytes = (bytes + 63) / 64 * 64;
    if (bytes <= c->message_bytes)
        return STK_OK;
    if (bytes > INT_MAX)
        return stk_fail(c->log, STK_INVALID, "messages of %zu bytes are too large for MPI", bytes);
    drain(c);
    stk_pages_free(c->buffers, c->buffers_bytes);
    c->message_bytes = 0;
    c->buffers_bytes = 2 * STK_CLUSTER_BUFFERS * (uint64_t)bytes;
    c->buffers = stk_pages_alloc(c->buffers_bytes);
    if (!c->buffers)
        return stk_fail(c->log, STK_NO_MEMORY, "no memory for messages of %zu bytes", bytes);
    c->message_bytes = bytes;
    c->next_out = c->next_in = 0;
    c->in_hand = false;
    for (uint32_t i = 0; i < STK_CLUSTER_BUFFERS; i++)
        post(c, i);
    return STK_OK;
}

void *stk_mpi_send_begin(stk_cluster *c)
{
    wait_for(c, &c->out[c->next_out], "sending", MPI_STATUS_IGNORE);
    return out_buffer(c, c->next_out);
}

void stk_mpi_send_end(stk_cluster *c, uint32_t to, size_t size)
{
    assert(size <= c->message_bytes);
    uint32_t slot = c->next_out;
    c->next_out = (slot + 1) % STK_CLUSTER_BUFFERS;
    note_bulk(c, size);
    int code = MPI_Isend(out_buffer(c, slot), (int)size, MPI_BYTE, (int)to, TAG_MESSAGE,
                         c->messages, &c->out[slot]);
    stk_cluster_check(c, code, "sending");
}

// The message last handed out has been read: its buffer waits for the next but one.
static void give_back(stk_cluster *c)
{
    if (c->in_hand)
        post(c, (c->next_in + STK_CLUSTER_BUFFERS - 1) % STK_CLUSTER_BUFFERS);
    c->in_hand = false;
}

static const void *hand_out(stk_cluster *c, const MPI_Status *from, size_t *size)
{
    int count = 0;
    const void *data = in_buffer(c, c->next_in);
    MPI_Get_count(from, MPI_BYTE, &count);
    stk_cluster_heard(c, from->MPI_SOURCE);
    *size = (size_t)count;
    note_bulk(c, *size);
    c->next_in = (c->next_in + 1) % STK_CLUSTER_BUFFERS;
    c->in_hand = true;
    return data;
}

const void *stk_mpi_receive(stk_cluster *c, size_t *size)
{
    MPI_Status from;
    give_back(c);
    wait_for(c, &c->in[c->next_in], "receiving", &from);
    return hand_out(c, &from, size);
}

const void *stk_mpi_poll(stk_cluster *c, size_t *size)
{
    MPI_Status from;
    int done = 0;
    give_back(c);
    stk_cluster_check(c, MPI_Test(&c->in[c->next_in], &done, &from), "receiving");
    return done ? hand_out(c, &from, size) : NULL;
}

void stk_mpi_bulk_send(stk_cluster *c, uint32_t to, const void *data, size_t size)
{
    MPI_Request request;
    assert(size <= INT_MAX);
    note_bulk(c, size);
    int code = MPI_Isend(data, (int)size, MPI_BYTE, (int)to, TAG_BULK, c->messages, &request);
    stk_cluster_check(c, code, "sending");
    wait_for(c, &request, "sending", MPI_STATUS_IGNORE);
}

void stk_mpi_bulk_expect(stk_cluster *c, uint32_t slot, uint32_t from, void *data, size_t size)
{
    assert(slot < STK_CLUSTER_BULKS_MAX && c->bulks[slot] == MPI_REQUEST_NULL && size <= INT_MAX);
    int code = MPI_Irecv(data, (int)size, MPI_BYTE, (int)from, TAG_BULK, c->messages,
                         &c->bulks[slot]);
    stk_cluster_check(c, code, "receiving");
}

stk_status stk_mpi_bulk_arrived(stk_cluster *c, uint32_t slot, size_t size)
{
    MPI_Status from;
    int count = 0;
    wait_for(c, &c->bulks[slot], "receiving", &from);
    MPI_Get_count(&from, MPI_BYTE, &count);
    if ((size_t)count != size)
        return stk_fail(c->log, STK_FORMAT, "rank %d on %s sent %d bytes, %zu were expected",
                        from.MPI_SOURCE, c->facts.hosts[from.MPI_SOURCE], count, size);
    return STK_OK;
}

void stk_mpi_bulk_forget(stk_cluster *c, uint32_t slot)
{
    if (c->bulks[slot] == MPI_REQUEST_NULL)
        return;
    MPI_Cancel(&c->bulks[slot]);
    MPI_Wait(&c->bulks[slot], MPI_STATUS_IGNORE);
}
