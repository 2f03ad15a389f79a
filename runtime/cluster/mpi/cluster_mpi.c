// Meeting the other ranks, and the end.
#include "cluster/mpi/cluster_impl.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/pages.h"

enum { VERSION_BYTES = 64, SILENCE_MS = 5000, END_WITHIN_S = 2 };

// What ranks tell each other first. Never changes its size or order.
typedef struct hello {
    char magic[8]; // "STKRANK"
    uint32_t protocol, byte_order;
    char version[VERSION_BYTES];
    char host[STK_CLUSTER_HOST_BYTES];
} hello;

uint64_t stk_cluster_now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

// MPI ends the others. Should it wait for one that is gone, the alarm ends this process.
static void end_job(void)
{
    alarm(END_WITHIN_S);
    MPI_Abort(MPI_COMM_WORLD, 1);
    for (;;)
        pause();
}

void stk_cluster_lose(stk_cluster *c, uint32_t rank, const char *why)
{
    stk_error(c->log, "rank %u on %s %s; the job ends", rank, c->facts.hosts[rank], why);
    end_job();
}

void stk_cluster_check(stk_cluster *c, int code, const char *what)
{
    char text[MPI_MAX_ERROR_STRING];
    int length = 0;
    if (code == MPI_SUCCESS)
        return;
    MPI_Error_string(code, text, &length);
    stk_error(c->log, "MPI, %s: %.*s; the job ends", what, length, text);
    end_job();
}

static stk_status start_mpi(stk_cluster *c, const stk_launch *launch)
{
    int granted, size, rank;
    if (MPI_Init_thread(NULL, NULL, MPI_THREAD_MULTIPLE, &granted) != MPI_SUCCESS)
        return stk_fail(c->log, STK_UNSUPPORTED, "MPI does not start");
    if (granted < MPI_THREAD_MULTIPLE)
        return stk_fail(c->log, STK_UNSUPPORTED, "this MPI does not allow several threads");
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    c->facts.count = (uint32_t)size;
    c->facts.rank = (uint32_t)rank;
    if (c->facts.count != launch->count)
        return stk_fail(c->log, STK_UNSUPPORTED,
                        "%s started %u processes, but MPI knows of %u: is it another MPI than the "
                        "one stoker was built with?",
                        launch->name, launch->count, c->facts.count);
    if (c->facts.count > STK_CLUSTER_RANKS_MAX)
        return stk_fail(c->log, STK_INVALID, "%u ranks; at most %d are possible", c->facts.count,
                        STK_CLUSTER_RANKS_MAX);
    MPI_Comm_dup(MPI_COMM_WORLD, &c->messages);
    MPI_Comm_dup(MPI_COMM_WORLD, &c->pulses);
    MPI_Comm_set_errhandler(c->messages, MPI_ERRORS_RETURN);
    MPI_Comm_set_errhandler(c->pulses, MPI_ERRORS_RETURN);
    return STK_OK;
}

static void introduce(hello *h, const char *version)
{
    *h = (hello){.magic = "STKRANK", .protocol = STK_CLUSTER_PROTOCOL, .byte_order = 0x01020304};
    strncpy(h->version, version ? version : "", sizeof h->version - 1);
    if (gethostname(h->host, sizeof h->host - 1) != 0)
        strcpy(h->host, "?");
}

static stk_status check_hellos(stk_cluster *c, hello *all)
{
    stk_status status = STK_OK;
    for (uint32_t r = 0; r < c->facts.count; r++) {
        hello *h = &all[r];
        h->version[sizeof h->version - 1] = h->host[sizeof h->host - 1] = '\0';
        memcpy(c->facts.hosts[r], h->host, sizeof h->host);
    }
    for (uint32_t r = 1; r < c->facts.count; r++) {
        const hello *h = &all[r], *first = &all[0];
        if (memcmp(h->magic, first->magic, sizeof h->magic) == 0 &&
            h->protocol == first->protocol && h->byte_order == first->byte_order &&
            strcmp(h->version, first->version) == 0)
            continue;
        status = STK_INVALID;
        if (c->facts.rank == 0)
            stk_error(c->log,
                      "rank 0 on %s is stoker %s (protocol %u), rank %u on %s is stoker %s "
                      "(protocol %u): the same is needed everywhere",
                      first->host, first->version, first->protocol, r, h->host, h->version,
                      h->protocol);
    }
    return status;
}

// What is the same for all that share a machine: its boot, else its name.
static void name_machine(const stk_cluster *c, char *name, size_t size)
{
    FILE *f = fopen("/proc/sys/kernel/random/boot_id", "re");
    if (!f || !fgets(name, (int)size, f) || !name[0])
        snprintf(name, size, "%s", c->facts.hosts[c->facts.rank]);
    if (f)
        fclose(f);
}

static stk_status find_machines(stk_cluster *c)
{
    char mine[STK_CLUSTER_HOST_BYTES] = "", (*all)[STK_CLUSTER_HOST_BYTES];
    all = calloc(c->facts.count, sizeof *all);
    c->facts.turns = calloc(c->facts.count, sizeof *c->facts.turns);
    name_machine(c, mine, sizeof mine);
    if (!all) // the others wait for this rank's word all the same
        stk_cluster_check(c, MPI_ERR_NO_MEM, "meeting the other ranks");
    stk_mpi_gather(c, mine, sizeof mine, all);
    for (uint32_t r = 0; r < c->facts.count && c->facts.turns; r++) {
        c->facts.ranks_here += memcmp(all[r], mine, sizeof mine) == 0;
        for (uint32_t before = 0; before < r; before++)
            c->facts.turns[r] += memcmp(all[before], all[r], sizeof mine) == 0;
    }
    free(all);
    return c->facts.turns ? STK_OK : STK_NO_MEMORY;
}

static stk_status meet(stk_cluster *c, const stk_cluster_options *options)
{
    hello mine, *all = calloc(c->facts.count, sizeof *all);
    c->facts.hosts = calloc(c->facts.count, sizeof *c->facts.hosts);
    c->heard_ns = calloc(c->facts.count, sizeof *c->heard_ns);
    c->beats = calloc(c->facts.count, sizeof *c->beats);
    stk_status status = STK_NO_MEMORY;
    if (all && c->facts.hosts && c->heard_ns && c->beats) {
        for (uint32_t r = 0; r < c->facts.count; r++)
            c->beats[r] = MPI_REQUEST_NULL;
        introduce(&mine, options->version);
        // Not stk_cluster_gather: nobody watches yet. A rank that dies now is mpirun's affair.
        int code = MPI_Allgather(&mine, sizeof mine, MPI_BYTE, all, sizeof mine, MPI_BYTE,
                                 c->messages);
        stk_cluster_check(c, code, "meeting the other ranks");
        status = check_hellos(c, all);
    }
    free(all);
    if (status == STK_OK)
        status = stk_cluster_pulse_start(c);
    return status == STK_OK ? find_machines(c) : status;
}

stk_status stk_mpi_open(const stk_cluster_options *options, const stk_launch *launch,
                        stk_cluster **out)
{
    *out = NULL;
    stk_cluster *c = calloc(1, sizeof *c);
    if (!c)
        return STK_NO_MEMORY;
    c->facts.ops = &stk_cluster_mpi_ops;
    c->log = options->log;
    c->silence_ns_max = 1000000u *
                        (uint64_t)(options->silence_ms_max ? options->silence_ms_max : SILENCE_MS);
    c->messages = c->pulses = MPI_COMM_NULL;
    c->beat_in = MPI_REQUEST_NULL;
    for (int i = 0; i < STK_CLUSTER_BULKS_MAX; i++)
        c->bulks[i] = MPI_REQUEST_NULL;
    for (int i = 0; i < STK_CLUSTER_BUFFERS; i++)
        c->out[i] = c->in[i] = MPI_REQUEST_NULL;
    pthread_mutex_init(&c->lock, NULL);
    pthread_cond_init(&c->wake, NULL);
    stk_status status = start_mpi(c, launch);
    if (status == STK_OK)
        status = meet(c, options);
    if (status != STK_OK) {
        stk_mpi_close(&c);
        return status;
    }
    *out = c;
    return STK_OK;
}

static void cancel_receive(MPI_Request *request)
{
    if (*request == MPI_REQUEST_NULL)
        return;
    MPI_Cancel(request);
    MPI_Wait(request, MPI_STATUS_IGNORE);
}

void stk_mpi_close(stk_cluster **cluster)
{
    stk_cluster *c = *cluster;
    if (!c)
        return;
    // The last messages leave, and the others' end is waited for, while the pulse still watches.
    if (c->has_thread) {
        uint8_t done = 1, *all = calloc(c->facts.count, 1);
        for (int i = 0; i < STK_CLUSTER_BUFFERS; i++)
            MPI_Wait(&c->out[i], MPI_STATUS_IGNORE);
        if (all)
            stk_mpi_gather(c, &done, 1, all);
        free(all);
    }
    stk_cluster_pulse_stop(c);
    for (int i = 0; i < STK_CLUSTER_BUFFERS; i++)
        cancel_receive(&c->in[i]);
    for (int i = 0; i < STK_CLUSTER_BULKS_MAX; i++)
        cancel_receive(&c->bulks[i]);
    cancel_receive(&c->beat_in);
    for (uint32_t r = 0; c->beats && r < c->facts.count; r++)
        MPI_Wait(&c->beats[r], MPI_STATUS_IGNORE); // so short that they leave at once
    if (c->messages != MPI_COMM_NULL)
        MPI_Comm_free(&c->messages);
    if (c->pulses != MPI_COMM_NULL)
        MPI_Comm_free(&c->pulses);
    int started = 0;
    MPI_Initialized(&started);
    if (started)
        MPI_Finalize();
    stk_pages_free(c->buffers, c->buffers_bytes);
    free(c->facts.hosts);
    free(c->facts.turns);
    free((void *)c->heard_ns);
    free(c->beats);
    pthread_cond_destroy(&c->wake);
    pthread_mutex_destroy(&c->lock);
    free(c);
    *cluster = NULL;
}
