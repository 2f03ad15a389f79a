// What becomes of the bytes that were read.
//
// The slices of a GGUF are packed and packed experts are checked once; that takes as long as a
// third of reading them. So it is work apart from reading: whoever reads does it when no read has
// come back and none can be started, a slice at a time.
#include "store/store_impl.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

static void report(const stk_expert_store *s, const stk_load *load, const stk_read *r, int error)
{
    uint32_t layer = s->model->layer_first + load->entry / s->model->expert_count;
    uint32_t expert = load->entry % s->model->expert_count;
    const char *path = NULL;
    if (load->from_sidecar)
        path = stk_sidecar_path(s->sidecar);
    for (uint32_t i = 0; i < stk_gguf_file_count(s->gguf) && !path; i++)
        if (stk_model_file_fd(s->file, i) == r->fd)
            path = stk_gguf_file_path(s->gguf, i);
    stk_error(s->log, "%s: layer %u expert %u, at byte %" PRIu64 ": %s", path ? path : "?", layer,
              expert, r->offset_bytes,
              error == ENODATA ? "the file has become shorter" : strerror(error));
}

// The load has failed, but may be tried again: its expert queues once more.
static void retry(stk_expert_store *s, stk_load *load)
{
    stk_entry *e = &s->entries[load->entry];
    s->slot_entry[e->slot] = UINT32_MAX;
    e->slot = STK_NONE;
    e->load = STK_NONE;
    atomic_store_explicit(&e->state, STK_ENTRY_QUEUED, memory_order_relaxed);
    stk_store_enqueue(s, load->entry, (stk_want)e->urgency);
    load->busy = false;
    pthread_cond_broadcast(&s->arrived); // who takes slots away waits for its load to end
}

static void publish(stk_expert_store *s, stk_load *load, int error)
{
    stk_entry *e = &s->entries[load->entry];
    if (error == 0) {
        s->stats.reads++;
        // release: poll reads the slot's bytes after an acquire load of the state
        atomic_store_explicit(&e->state, STK_ENTRY_READY, memory_order_release);
    } else {
        s->slot_entry[e->slot] = UINT32_MAX;
        e->slot = STK_NONE;
        e->speculative = false;
        // Nobody waits for a failed guess: it may be tried again.
        int state = e->pins > 0 ? STK_ENTRY_FAILED : STK_ENTRY_ABSENT;
        atomic_store_explicit(&e->state, state, memory_order_release);
    }
    e->load = STK_NONE;
    load->busy = false;
    atomic_fetch_add_explicit(&s->events, 1, memory_order_release);
    pthread_cond_broadcast(&s->arrived);
}

// A sidecar that cannot be read or is damaged loses this expert; the GGUF still has it.
static void retry_from_gguf(stk_expert_store *s, stk_load *load)
{
    stk_sidecar_drop(s->sidecar, load->entry);
    retry(s, load); // queued, because that way needs staging
}

// Everything that was read of a load is where it should be, or failed. With the lock held.
static void finish_load(stk_expert_store *s, stk_load *load)
{
    const stk_entry *e = &s->entries[load->entry];
    if (load->error == EILSEQ)
        stk_warn(s->log, "%s: layer %u expert %u does not match its checksum; using the GGUF",
                 stk_sidecar_path(s->sidecar),
                 s->model->layer_first + load->entry / s->model->expert_count,
                 load->entry % s->model->expert_count);
    if (load->error != 0 && load->from_sidecar)
        retry_from_gguf(s, load);
    else if (load->error != 0 && e->pins > 0 && e->wanted_late)
        retry(s, load); // what a guess or a forward that has ended left under way
    else
        publish(s, load, load->error);
}

static void leave_load(stk_expert_store *s, stk_load *load)
{
    if (--load->in_flight == 0 && load->sealed)
        finish_load(s, load);
}

void stk_store_read_done(void *store, const stk_read *read, int error)
{
    stk_expert_store *s = store;
    stk_piece *piece = read->user;
    stk_load *load = piece->load;
    pthread_mutex_lock(&s->lock);
    stk_store_count_busy(s);
    s->in_flight--;
    if (error != 0 && load->error == 0) {
        load->error = error;
        load->sealed = true; // no more reads for it
        report(s, load, read, error);
    }
    bool as_it_should_be = load->from_sidecar ? s->entries[load->entry].verified : piece->in_place;
    piece->arrived = --piece->in_flight == 0 && piece->sealed && load->error == 0 &&
                     !as_it_should_be;
    if (!piece->arrived) // else its last read leaves when it has been worked on
        leave_load(s, load);
    else if (s->sleepers > 0)
        pthread_cond_signal(&s->arrived);
    pthread_mutex_unlock(&s->lock);
}

// The most urgent piece that nobody works on yet.
static stk_piece *choose_piece(stk_expert_store *s)
{
    stk_piece *best = NULL;
    for (int i = 0; i < STK_STAGING_COUNT; i++) {
        stk_load *load = &s->loads[i];
        for (uint32_t j = 0; load->busy && j < load->piece_count; j++)
            if (load->pieces[j].arrived &&
                (!best || s->entries[load->entry].urgency < s->entries[best->load->entry].urgency))
                best = &load->pieces[j];
    }
    return best;
}

// Called without the lock, as a loading entry belongs to the I/O side. 0, or EILSEQ.
static int settle_piece(const stk_expert_store *s, const stk_piece *p)
{
    uint32_t index = p->load->entry;
    uint8_t *slot = stk_store_slot(s, (uint32_t)s->entries[index].slot);
    if (p->load->from_sidecar)
        return stk_sidecar_verify(s->sidecar, index, slot) ? 0 : EILSEQ;
    stk_expert_pack_slice(&s->layouts[index / s->model->expert_count], p->slice, p->to + p->skip,
                          slot);
    return 0;
}

bool stk_store_settle(stk_expert_store *s)
{
    stk_piece *piece = choose_piece(s);
    if (!piece)
        return false;
    stk_load *load = piece->load;
    piece->arrived = false;
    pthread_mutex_unlock(&s->lock);
    uint64_t from_ns = stk_store_now_ns();
    int error = settle_piece(s, piece);
    uint64_t took_ns = stk_store_now_ns() - from_ns;
    pthread_mutex_lock(&s->lock);
    s->stats.pack_ns += load->from_sidecar ? 0 : took_ns;
    s->entries[load->entry].verified |= load->from_sidecar && error == 0;
    load->error = load->error ? load->error : error;
    leave_load(s, load);
    return true;
}

bool stk_store_work(void *store)
{
    stk_expert_store *s = store;
    pthread_mutex_lock(&s->lock);
    bool worked = stk_store_settle(s);
    pthread_mutex_unlock(&s->lock);
    return worked;
}
