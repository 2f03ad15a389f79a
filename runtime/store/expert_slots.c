// How many of the slots taken at open are in use: less while the system or a session needs the
// memory.
#include "store/store_impl.h"

#include "base/pages.h"

// Empties the slots past the limit that nobody reads, and gives their pages back. False: some are
// still being read.
static bool drop_slots(stk_expert_store *s)
{
    bool all = true;
    for (uint32_t i = s->slot_limit; i < s->slots_used; i++) {
        uint32_t owner = s->slot_entry[i];
        if (owner == UINT32_MAX)
            continue;
        stk_entry *e = &s->entries[owner];
        int state = atomic_load_explicit(&e->state, memory_order_relaxed);
        all &= state != STK_ENTRY_LOADING;
        if (e->pins > 0 || state != STK_ENTRY_READY)
            continue;
        atomic_store_explicit(&e->state, STK_ENTRY_ABSENT, memory_order_relaxed);
        e->slot = STK_NONE;
        e->speculative = false;
        s->slot_entry[i] = UINT32_MAX;
        s->stats.evictions++;
        if (i >= s->slots_kept)
            stk_pages_discard(stk_store_slot(s, i), s->slot_bytes);
    }
    return all;
}

// With the lock held.
static uint32_t limit_slots(stk_expert_store *s)
{
    uint32_t least = stk_expert_store_slots_min(s->model);
    uint32_t limit = s->slots_allowed < s->slots_lent ? s->slots_allowed : s->slots_lent;
    limit = limit < s->slot_count ? limit : s->slot_count;
    if (s->slot_at && least < s->node_count) // one for each
        least = s->node_count;
    s->slot_limit = limit < least ? least : limit;
    while (!drop_slots(s)) // a guess
        pthread_cond_wait(&s->arrived, &s->lock);
    return s->slot_limit;
}

uint32_t stk_expert_store_set_slots(stk_expert_store *s, uint32_t slot_count)
{
    if (s->resident)
        return s->slot_count;
    pthread_mutex_lock(&s->lock);
    s->slots_allowed = slot_count;
    uint32_t limit = limit_slots(s);
    pthread_mutex_unlock(&s->lock);
    return limit;
}

void stk_expert_store_lend(stk_expert_store *s, uint32_t slot_count)
{
    if (s->resident)
        return;
    pthread_mutex_lock(&s->lock);
    s->slots_lent = slot_count;
    limit_slots(s);
    pthread_mutex_unlock(&s->lock);
}

stk_expert_pool stk_expert_store_pool(stk_expert_store *s, uint32_t kept_count)
{
    pthread_mutex_lock(&s->lock);
    s->slots_kept = kept_count;
    pthread_mutex_unlock(&s->lock);
    return (stk_expert_pool){s->slot_at ? NULL : s->slots, s->slot_bytes, s->slot_count};
}
