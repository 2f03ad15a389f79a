// Which read comes next, and what becomes of its bytes.
#include "store/store_impl.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

// A guess is read only while the disk has at most this much to do.
enum { SPECULATIVE_READS_MAX = 6 };

void stk_store_unlink(stk_expert_store *s, uint32_t index)
{
    stk_entry *e = &s->entries[index];
    stk_queue *q = &s->queues[e->urgency];
    if (e->previous != UINT32_MAX)
        s->entries[e->previous].next = e->next;
    else
        q->head = e->next;
    if (e->next != UINT32_MAX)
        s->entries[e->next].previous = e->previous;
    else
        q->tail = e->previous;
}

void stk_store_enqueue(stk_expert_store *s, uint32_t index, stk_want urgency)
{
    stk_entry *e = &s->entries[index];
    stk_queue *q = &s->queues[urgency];
    e->urgency = (uint8_t)urgency;
    e->next = UINT32_MAX;
    e->previous = q->tail;
    if (q->tail != UINT32_MAX)
        s->entries[q->tail].next = index;
    else
        q->head = index;
    q->tail = index;
}

// How hard an entry is to give up, before its worth counts: what a sweep is still to reach would
// be read again, and a guess was read for one of the very next layers.
typedef enum hold { HOLD_LITTLE, HOLD_AHEAD, HOLD_GUESS } hold;

static hold hold_of(const stk_expert_store *s, uint32_t index)
{
    if (s->entries[index].speculative)
        return HOLD_GUESS;
    return s->is_sweep && index / s->model->expert_count > s->clock.layer ? HOLD_AHEAD
                                                                          : HOLD_LITTLE;
}

// For an entry the slot of the ready, unpinned expert least worth keeping, among those held up to
// `most`.
static int32_t choose_victim(const stk_expert_store *s, uint32_t entry, hold most)
{
    int32_t victim = STK_NONE;
    double least = 0;
    for (uint32_t i = 0; i < s->slots_used && i < s->slot_limit; i++) {
        uint32_t owner = s->slot_entry[i];
        if (owner == UINT32_MAX || !stk_store_may_hold(s, i, entry))
            continue;
        const stk_entry *e = &s->entries[owner];
        if (e->pins > 0 || atomic_load_explicit(&e->state, memory_order_relaxed) != STK_ENTRY_READY)
            continue;
        hold held = hold_of(s, owner);
        if (held > most)
            continue;
        double worth = s->policy->worth(&e->usage, &s->clock, owner / s->model->expert_count);
        if (victim == STK_NONE || held < most || worth < least) {
            victim = (int32_t)i;
            least = worth;
            most = held;
        }
    }
    return victim;
}

// A slot for an entry: a free one, or one that an expert gives up; STK_NONE if all are busy. A
// guess takes no slot from what is as likely to be needed.
static int32_t take_slot(stk_expert_store *s, uint32_t entry)
{
    // With several nodes the next free slot may be another node's, and come to be used later.
    while (s->slots_used < s->slot_limit) {
        uint32_t fresh = s->slots_used++;
        if (stk_store_may_hold(s, fresh, entry))
            return (int32_t)fresh;
    }
    for (uint32_t i = 0; i < s->slots_used && i < s->slot_limit; i++)
        if (s->slot_entry[i] == UINT32_MAX && stk_store_may_hold(s, i, entry))
            return (int32_t)i;
    bool guessed = s->entries[entry].urgency == STK_WANT_SPECULATIVE;
    int32_t victim = choose_victim(s, entry, guessed ? HOLD_LITTLE : HOLD_GUESS);
    if (victim != STK_NONE) {
        stk_entry *e = &s->entries[s->slot_entry[victim]];
        atomic_store_explicit(&e->state, STK_ENTRY_ABSENT, memory_order_relaxed);
        e->slot = STK_NONE;
        e->speculative = false;
        s->slot_entry[victim] = UINT32_MAX;
        s->stats.evictions++;
    }
    return victim;
}

static stk_piece *plan_piece(const stk_expert_store *s, stk_load *load, int fd, uint64_t offset,
                             uint64_t bytes, uint8_t *to)
{
    uint64_t unit = stk_model_file_is_direct(s->file) ? STK_DIRECT_ALIGN : 1;
    uint64_t skip = offset % unit, needed = skip + bytes;
    stk_piece *p = &load->pieces[load->piece_count++];
    *p = (stk_piece){.load = load,
                     .fd = fd,
                     .from = offset - skip,
                     .bytes = (needed + unit - 1) / unit * unit,
                     .bytes_needed = needed,
                     .to = to,
                     .skip = skip};
    return p;
}

static void plan_load(stk_expert_store *s, stk_load *load, uint32_t index, uint8_t *slot)
{
    // The slice that takes longest to pack comes first, and is packed while the others are read.
    static const stk_expert_slice order[] = {STK_SLICE_DOWN, STK_SLICE_GATE, STK_SLICE_UP};
    const stk_model *m = s->model;
    uint32_t layer = index / m->expert_count, expert = index % m->expert_count;
    if (load->from_sidecar) {
        plan_piece(s, load, stk_sidecar_fd(s->sidecar), stk_sidecar_offset(s->sidecar, index),
                   s->layouts[layer].slot_bytes, slot);
        return;
    }
    uint8_t *to = load->staging;
    for (int i = 0; i < STK_SLICE_COUNT; i++) {
        const stk_gguf_tensor *t = stk_expert_slice_tensor(&m->layers[layer], order[i]);
        uint64_t bytes = t->size_bytes / m->expert_count;
        stk_piece *p = plan_piece(s, load, stk_model_file_fd(s->file, t->file_index),
                                  t->offset_bytes + expert * bytes, bytes, to);
        p->slice = order[i];
        to += (p->bytes + STK_DIRECT_ALIGN - 1) / STK_DIRECT_ALIGN * STK_DIRECT_ALIGN;
    }
}

// A staging buffer that no load uses; NULL: none.
static uint8_t *free_staging(const stk_expert_store *s)
{
    for (uint32_t i = 0; i < s->staging_count; i++) {
        uint8_t *staging = s->staging + i * s->staging_bytes;
        bool used = false;
        for (int j = 0; j < STK_STAGING_COUNT; j++)
            used |= s->loads[j].busy && s->loads[j].staging == staging;
        if (!used)
            return staging;
    }
    return NULL;
}

static bool is_in_sidecar(const stk_expert_store *s, uint32_t index)
{
    return s->sidecar && stk_sidecar_has(s->sidecar, index);
}

// The first expert of a queue, from `index` on, that has a slot to go to, and that slot;
// UINT32_MAX: none, or no staging for it. An expert whose memory node is busy does not hold up
// those of other nodes.
static uint32_t first_with_slot(stk_expert_store *s, uint32_t index, int32_t *slot)
{
    uint64_t busy_nodes = 0;
    for (; index != UINT32_MAX; index = s->entries[index].next) {
        uint64_t node = s->slot_at ? UINT64_C(1) << s->node_of[index] : 1;
        if (busy_nodes & node)
            continue;
        if (!is_in_sidecar(s, index) && !free_staging(s))
            return UINT32_MAX;
        *slot = take_slot(s, index);
        if (*slot != STK_NONE)
            return index;
        if (!s->slot_at)
            return UINT32_MAX;
        busy_nodes |= node;
    }
    return UINT32_MAX;
}

// Starts loading the most urgent queued expert. NULL: none, or no slot or staging for it.
static stk_load *begin_load(stk_expert_store *s)
{
    stk_load *load = NULL;
    int idle = 0;
    for (int i = 0; i < STK_STAGING_COUNT; i++) {
        if (s->loads[i].busy)
            continue;
        load = &s->loads[i];
        idle++;
    }
    if (!load)
        return NULL;
    for (int urgency = 0; urgency < STK_WANT_COUNT; urgency++) {
        uint32_t index = s->queues[urgency].head;
        // Guesses leave room, so that what the router chooses never queues behind them.
        if (index == UINT32_MAX ||
            (urgency == STK_WANT_SPECULATIVE &&
             (idle <= STK_STAGING_COUNT / 2 || s->in_flight > SPECULATIVE_READS_MAX)))
            continue;
        int32_t slot = STK_NONE;
        index = first_with_slot(s, index, &slot);
        if (index == UINT32_MAX)
            return NULL;
        stk_entry *e = &s->entries[index];
        stk_store_unlink(s, index);
        e->slot = slot;
        e->load = (int32_t)(load - s->loads);
        s->slot_entry[slot] = index;
        e->wanted_late = false;
        atomic_store_explicit(&e->state, STK_ENTRY_LOADING, memory_order_relaxed);
        bool from_sidecar = is_in_sidecar(s, index);
        *load = (stk_load){.busy = true,
                           .entry = index,
                           .from_sidecar = from_sidecar,
                           .staging = from_sidecar ? NULL : free_staging(s)};
        plan_load(s, load, index, stk_store_slot(s, (uint32_t)slot));
        return load;
    }
    return NULL;
}

// Among the loads with something left to read, the most urgent; a queued expert that is more
// urgent still is started first.
static stk_load *choose_load(stk_expert_store *s)
{
    stk_load *best = NULL;
    for (int i = 0; i < STK_STAGING_COUNT; i++) {
        stk_load *load = &s->loads[i];
        if (load->busy && !load->sealed &&
            (!best || s->entries[load->entry].urgency < s->entries[best->entry].urgency))
            best = load;
    }
    int queued = STK_WANT_COUNT;
    for (int urgency = STK_WANT_COUNT - 1; urgency >= 0; urgency--)
        queued = s->queues[urgency].head != UINT32_MAX ? urgency : queued;
    if (queued < STK_WANT_COUNT && (!best || queued < s->entries[best->entry].urgency)) {
        stk_load *fresh = begin_load(s);
        best = fresh ? fresh : best;
    }
    return best;
}

void stk_store_count_busy(stk_expert_store *s)
{
    uint64_t now_ns = stk_store_now_ns(), since_ns = now_ns - s->counted_ns;
    s->counted_ns = now_ns;
    s->stats.busy_ns += s->in_flight ? since_ns : 0;
    s->stats.flight_ns += s->in_flight * since_ns;
}

bool stk_store_next_read(void *store, stk_read *out)
{
    stk_expert_store *s = store;
    pthread_mutex_lock(&s->lock);
    stk_load *load = choose_load(s);
    if (load) {
        stk_piece *p = &load->pieces[load->piece];
        uint64_t left = p->bytes - load->piece_at, needed = p->bytes_needed - load->piece_at;
        uint64_t take = left < STK_READ_BYTES ? left : STK_READ_BYTES;
        *out = (stk_read){.fd = p->fd,
                          .bytes = (uint32_t)take,
                          .bytes_needed = (uint32_t)(needed < take ? needed : take),
                          .offset_bytes = p->from + load->piece_at,
                          .to = p->to + load->piece_at,
                          .user = p};
        load->piece_at += take;
        load->in_flight++;
        p->in_flight++;
        s->stats.read_bytes += take;
        s->stats.bursts += s->in_flight == 0;
        stk_store_count_busy(s);
        if (++s->in_flight > s->stats.inflight_peak)
            s->stats.inflight_peak = s->in_flight;
        if (load->piece_at == p->bytes) {
            load->piece_at = 0;
            p->sealed = true;
            load->sealed = ++load->piece == load->piece_count;
        }
    }
    pthread_mutex_unlock(&s->lock);
    return load != NULL;
}

// Called without the lock, as a loading entry belongs to the I/O side. Returns the time it took.
static uint64_t pack_piece(stk_expert_store *s, const stk_piece *p)
{
    uint32_t index = p->load->entry;
    uint8_t *slot = stk_store_slot(s, (uint32_t)s->entries[index].slot);
    uint64_t from_ns = stk_store_now_ns();
    stk_expert_pack_slice(&s->layouts[index / s->model->expert_count], p->slice, p->to + p->skip,
                          slot);
    return stk_store_now_ns() - from_ns;
}

// The first time an expert comes from the sidecar. 0, or EILSEQ. Called without the lock.
static int verify(stk_expert_store *s, uint32_t index)
{
    stk_entry *e = &s->entries[index];
    if (!e->verified)
        e->verified = stk_sidecar_verify(s->sidecar, index, stk_store_slot(s, (uint32_t)e->slot));
    return e->verified ? 0 : EILSEQ;
}

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

// Every read of a load has come back.
static void finish_load(stk_expert_store *s, stk_load *load)
{
    int error = load->error;
    if (error == 0 && load->from_sidecar)
        error = verify(s, load->entry);
    pthread_mutex_lock(&s->lock);
    if (error != 0 && load->from_sidecar) {
        if (error == EILSEQ)
            stk_warn(s->log, "%s: layer %u expert %u does not match its checksum; using the GGUF",
                     stk_sidecar_path(s->sidecar),
                     s->model->layer_first + load->entry / s->model->expert_count,
                     load->entry % s->model->expert_count);
        retry_from_gguf(s, load);
    } else if (error != 0 && s->entries[load->entry].pins > 0 &&
               s->entries[load->entry].wanted_late) {
        retry(s, load); // what a guess or a forward that has ended left under way
    } else {
        publish(s, load, error);
    }
    pthread_mutex_unlock(&s->lock);
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
    bool packs = --piece->in_flight == 0 && piece->sealed && !load->from_sidecar &&
                 load->error == 0;
    pthread_mutex_unlock(&s->lock);
    uint64_t pack_ns = packs ? pack_piece(s, piece) : 0;
    pthread_mutex_lock(&s->lock);
    s->stats.pack_ns += pack_ns;
    bool last = --load->in_flight == 0 && load->sealed;
    pthread_mutex_unlock(&s->lock);
    if (last)
        finish_load(s, load);
}
