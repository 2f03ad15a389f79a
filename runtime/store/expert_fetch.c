// Which read comes next.
#include "store/store_impl.h"

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
    uint8_t *staging = load->staging;
    if (load->from_sidecar) {
        plan_piece(s, load, stk_sidecar_fd(s->sidecar), stk_sidecar_offset(s->sidecar, index),
                   s->layouts[layer].slot_bytes, slot);
        return;
    }
    for (int i = 0; i < STK_SLICE_COUNT; i++) {
        const stk_gguf_tensor *t = stk_expert_slice_tensor(&m->layers[layer], order[i]);
        uint64_t bytes = t->size_bytes / m->expert_count;
        stk_piece *p = plan_piece(s, load, stk_model_file_fd(s->file, t->file_index),
                                  t->offset_bytes + expert * bytes, bytes, staging);
        p->slice = order[i];
        p->in_place = stk_store_in_place(s, layer, order[i]);
        if (p->in_place)
            p->to = slot + s->places[index].at[order[i]] - p->skip;
        else
            staging += (p->bytes + STK_DIRECT_ALIGN - 1) / STK_DIRECT_ALIGN * STK_DIRECT_ALIGN;
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

static bool needs_staging(const stk_expert_store *s, uint32_t index)
{
    bool needs = false;
    for (int i = 0; i < STK_SLICE_COUNT; i++)
        needs |= !stk_store_in_place(s, index / s->model->expert_count, (stk_expert_slice)i);
    return needs && !is_in_sidecar(s, index);
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
        if (needs_staging(s, index) && !free_staging(s))
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
        *load = (stk_load){.busy = true,
                           .entry = index,
                           .from_sidecar = is_in_sidecar(s, index),
                           .staging = needs_staging(s, index) ? free_staging(s) : NULL};
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
