// What the engine does with experts: it wants them, asks whether they are there, and gives them
// back.
#include "store/store_impl.h"

static stk_expert expert_in_slot(const stk_expert_store *s, uint32_t index, uint32_t slot)
{
    return stk_expert_at(&s->layouts[index / s->model->expert_count], &s->places[index],
                         stk_store_slot(s, slot));
}

// Counts the wish, pins, and queues what is missing. With the lock held; true: I/O has work.
static bool want_exactly(stk_expert_store *s, uint32_t index, float weight, uint32_t rows,
                         stk_want kind)
{
    stk_entry *e = &s->entries[index];
    int state = atomic_load_explicit(&e->state, memory_order_relaxed);
    e->pins++;
    s->stats.wanted++;
    s->stats.hits += state == STK_ENTRY_READY && !e->speculative;
    s->stats.speculative_used += e->speculative && state != STK_ENTRY_ABSENT;
    e->speculative = false;
    s->clock.use++;
    s->clock.use_tokens = rows;
    s->policy->touch(&e->usage, &s->clock, weight);
    if (state == STK_ENTRY_ABSENT || state == STK_ENTRY_FAILED) {
        atomic_store_explicit(&e->state, STK_ENTRY_QUEUED, memory_order_relaxed);
        stk_store_enqueue(s, index, kind);
        return true;
    }
    e->wanted_late = state == STK_ENTRY_LOADING;
    return false;
}

static bool make_urgent(stk_expert_store *s, uint32_t index, stk_want kind)
{
    stk_entry *e = &s->entries[index];
    int state = atomic_load_explicit(&e->state, memory_order_relaxed);
    if (e->urgency <= kind)
        return false;
    if (state == STK_ENTRY_QUEUED) {
        stk_store_unlink(s, index);
        stk_store_enqueue(s, index, kind);
        return true;
    }
    if (state == STK_ENTRY_LOADING)
        e->urgency = (uint8_t)kind;
    return false;
}

static bool want_speculatively(stk_expert_store *s, uint32_t index)
{
    stk_entry *e = &s->entries[index];
    if (atomic_load_explicit(&e->state, memory_order_relaxed) != STK_ENTRY_ABSENT)
        return false;
    e->speculative = true;
    s->stats.speculative++;
    atomic_store_explicit(&e->state, STK_ENTRY_QUEUED, memory_order_relaxed);
    stk_store_enqueue(s, index, STK_WANT_SPECULATIVE);
    return true;
}

// The router has spoken for this layer: what was guessed and not chosen is not worth reading, nor
// protecting.
static void drop_guesses(stk_expert_store *s, uint32_t layer)
{
    for (uint32_t i = 0; i < s->model->expert_count; i++) {
        uint32_t index = stk_store_entry(s, layer, i);
        stk_entry *e = &s->entries[index];
        if (!e->speculative)
            continue;
        e->speculative = false;
        if (atomic_load_explicit(&e->state, memory_order_relaxed) == STK_ENTRY_QUEUED &&
            e->pins == 0) {
            stk_store_unlink(s, index);
            atomic_store_explicit(&e->state, STK_ENTRY_ABSENT, memory_order_relaxed);
            s->stats.speculative--;
        }
    }
}

void stk_expert_store_want(stk_expert_store *s, uint32_t layer, const uint32_t *experts,
                           const float *weights, const uint32_t *rows, uint32_t count,
                           stk_want kind)
{
    if (s->resident)
        return;
    bool work = false;
    pthread_mutex_lock(&s->lock);
    if (kind != STK_WANT_SPECULATIVE)
        s->clock.layer = layer;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t index = stk_store_entry(s, layer, experts[i]);
        stk_entry *e = &s->entries[index];
        if (kind == STK_WANT_SPECULATIVE) {
            work |= want_speculatively(s, index);
            continue;
        }
        if (kind == STK_WANT_EXACT || e->pins == 0)
            work |= want_exactly(s, index, weights ? weights[i] : 1.0f, rows ? rows[i] : 1, kind);
        work |= make_urgent(s, index, kind);
    }
    if (kind == STK_WANT_EXACT)
        drop_guesses(s, layer);
    pthread_mutex_unlock(&s->lock);
    if (work)
        stk_io_kick(s->io);
}

stk_status stk_expert_store_poll(stk_expert_store *s, uint32_t layer, uint32_t expert,
                                 stk_expert *out)
{
    uint32_t index = stk_store_entry(s, layer, expert);
    if (s->resident) {
        *out = expert_in_slot(s, index, index);
        return STK_OK;
    }
    const stk_entry *e = &s->entries[index];
    // acquire: pairs with the release in publish(), so the slot's bytes are seen
    int state = atomic_load_explicit(&e->state, memory_order_acquire);
    if (state == STK_ENTRY_READY) {
        *out = expert_in_slot(s, index, (uint32_t)e->slot);
        return STK_OK;
    }
    return state == STK_ENTRY_FAILED ? STK_IO : STK_PENDING;
}

static bool is_queued(const stk_expert_store *s)
{
    bool any = false;
    for (int i = 0; i < STK_WANT_COUNT; i++)
        any |= s->queues[i].head != UINT32_MAX;
    return any;
}

void stk_expert_store_release(stk_expert_store *s, uint32_t layer, uint32_t expert)
{
    if (s->resident)
        return;
    bool waiting = false;
    pthread_mutex_lock(&s->lock);
    stk_entry *e = &s->entries[stk_store_entry(s, layer, expert)];
    if (--e->pins == 0) {
        if (atomic_load_explicit(&e->state, memory_order_relaxed) == STK_ENTRY_FAILED)
            atomic_store_explicit(&e->state, STK_ENTRY_ABSENT, memory_order_relaxed);
        waiting = is_queued(s); // a slot may have become free for them
    }
    pthread_mutex_unlock(&s->lock);
    if (waiting)
        stk_io_kick(s->io);
}

uint32_t stk_expert_store_events(const stk_expert_store *s)
{
    return atomic_load_explicit(&s->events, memory_order_acquire);
}

// Whoever reads may ask the store while it is being kicked.
static void kick_unlocked(stk_expert_store *s)
{
    pthread_mutex_unlock(&s->lock);
    stk_io_kick(s->io);
    pthread_mutex_lock(&s->lock);
}

void stk_expert_store_wait(stk_expert_store *s, uint32_t events_seen)
{
    uint64_t from = stk_store_now_ns();
    pthread_mutex_lock(&s->lock);
    while (atomic_load_explicit(&s->events, memory_order_relaxed) == events_seen) {
        if (stk_store_settle(s)) { // what it waits for, maybe
            if (is_queued(s))      // for the staging that is free now, or again
                kick_unlocked(s);
            continue;
        }
        s->sleepers++;
        pthread_cond_wait(&s->arrived, &s->lock);
        s->sleepers--;
    }
    s->stats.wait_ns += stk_store_now_ns() - from;
    pthread_mutex_unlock(&s->lock);
}

void stk_expert_store_notify(stk_expert_store *s)
{
    pthread_mutex_lock(&s->lock);
    atomic_fetch_add_explicit(&s->events, 1, memory_order_release);
    pthread_cond_broadcast(&s->arrived);
    pthread_mutex_unlock(&s->lock);
}

void stk_expert_store_tick(stk_expert_store *s, uint32_t tokens)
{
    pthread_mutex_lock(&s->lock);
    s->clock.token += tokens;
    s->clock.step_tokens = tokens;
    s->is_sweep = tokens * s->model->expert_used_count >= s->model->expert_count;
    pthread_mutex_unlock(&s->lock);
}
