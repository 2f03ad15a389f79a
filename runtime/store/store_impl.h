// store/store_impl.h: the store's state, shared by its files. Not for other rooms.
//
//   entry: an expert of a layer. In at most one queue; owns at most one slot.
//   slot:  room for one expert. Free, or owned by an entry that is loading or ready.
//   A load is cut into reads of READ_BYTES, handed out by urgency; those of the GGUF's three slices
//   that are not used as they are go through a staging buffer, and each is packed when it is there.
#ifndef STK_STORE_STORE_IMPL_H
#define STK_STORE_STORE_IMPL_H

#include "store/expert_layout.h"
#include "store/expert_store.h"
#include "store/model_file.h"
#include "store/sidecar.h"

#include <pthread.h>
#include <time.h>

enum {
    STK_STAGING_COUNT = 6,
    STK_READ_BYTES = 512 << 10,
    STK_NONE = -1,
};

typedef enum stk_entry_state {
    STK_ENTRY_ABSENT,
    STK_ENTRY_QUEUED,  // in queue[urgency], no slot yet
    STK_ENTRY_LOADING, // has a slot; reads are being handed out or in flight
    STK_ENTRY_READY,
    STK_ENTRY_FAILED,
} stk_entry_state;

// What a load reads in one run: a packed expert, or one of the GGUF's slices.
typedef struct stk_piece {
    struct stk_load *load;
    stk_expert_slice slice; // of the GGUF's
    bool in_place;          // read where it is used
    uint32_t in_flight;
    bool sealed;  // every read of it was handed out
    bool arrived; // its bytes wait to be packed or checked
    int fd;
    uint64_t from;         // file offset, aligned when direct
    uint64_t bytes;        // aligned likewise
    uint64_t bytes_needed; // up to the last byte that matters
    uint8_t *to;
    uint64_t skip; // in `to`: where what matters starts
} stk_piece;

// A load in progress; there are STK_STAGING_COUNT.
typedef struct stk_load {
    bool busy;
    bool sealed; // every read was handed out
    uint32_t entry;
    uint32_t piece_count, piece;
    uint64_t piece_at;
    uint32_t in_flight; // reads whose bytes are not yet in the slot as they should be
    int error;
    bool from_sidecar;
    stk_piece pieces[STK_SLICE_COUNT];
    uint8_t *staging; // NULL: everything straight into the slot
} stk_load;

typedef struct stk_entry {
    atomic_int state;     // written under the lock; read without it by poll (release/acquire)
    _Atomic int32_t slot; // as state: a poll that comes late may meet an eviction
    int32_t load;         // index while LOADING
    uint32_t pins;
    uint8_t urgency;         // while QUEUED or LOADING
    bool speculative;        // loaded ahead and not yet used
    bool wanted_late;        // by somebody who found it LOADING
    bool verified;           // its sidecar copy matched its checksum once
    uint32_t next, previous; // queue links, entry indexes
    stk_usage usage;
} stk_entry;

typedef struct stk_queue {
    uint32_t head, tail; // UINT32_MAX: empty
} stk_queue;

struct stk_expert_store {
    const stk_gguf *gguf;
    const stk_model *model;
    const stk_log *log;
    stk_expert_layout *layouts; // [layer_count]
    bool resident;              // everything loaded, nothing below the slots is used

    uint64_t slot_bytes;
    uint32_t slot_count;
    uint8_t *slots;
    uint64_t slots_size;
    // With several memory nodes: slot i, and entry i, belong to node_of[i]; a node's slots lie side
    // by side, slot i at place slot_at[i]. NULL with one node, and for slot_at also when there are
    // too few slots to divide.
    uint8_t *node_of;  // [layer_count * expert_count]
    uint32_t *slot_at; // [slot_count]
    uint32_t node_count;
    uint32_t node_first[STK_NODES_MAX + 1]; // each node's first place
    uint32_t *slot_entry;                   // [slot_count], UINT32_MAX: free
    stk_expert_places *places; // [layer_count * expert_count], where they lie in their slots
    bool in_rooms; // they lie in rooms, so that what needs no packing is read where it is used

    pthread_mutex_t lock; // guards what follows
    pthread_cond_t arrived;
    atomic_uint events;
    uint32_t slots_used; // so many were given out, from the first on
    uint32_t slot_limit; // so many may be used now, the smaller of:
    uint32_t slots_allowed, slots_lent;
    uint32_t slots_kept; // of these the pages are never given back
    stk_entry *entries;  // [layer_count * expert_count]
    stk_queue queues[STK_WANT_COUNT];
    stk_load loads[STK_STAGING_COUNT];
    uint8_t *staging;
    uint64_t staging_bytes; // of one buffer
    uint32_t staging_count; // of STK_STAGING_COUNT buffers, those in use
    const stk_cache_policy *policy;
    stk_policy_clock clock;
    bool is_sweep; // the pass that is on needs most experts of every layer
    stk_expert_store_stats stats;
    uint32_t in_flight;
    uint32_t sleepers;   // in stk_expert_store_wait
    uint64_t counted_ns; // until when the stats know how long the disk was busy

    stk_model_file *file;
    stk_sidecar *sidecar; // NULL: none
    stk_io *io;
    char *usage_path;
};

// expert_warm.c: the usage file.
void stk_store_load_usage(stk_expert_store *s);
void stk_store_save_usage(const stk_expert_store *s);
// Reads the most used experts into the free slots and waits for them.
stk_status stk_store_warm(stk_expert_store *s, const atomic_int *cancel);

// expert_fetch.c: called with the lock held.
void stk_store_count_busy(stk_expert_store *s); // before in_flight changes
void stk_store_enqueue(stk_expert_store *s, uint32_t entry, stk_want urgency);
void stk_store_unlink(stk_expert_store *s, uint32_t entry);
bool stk_store_next_read(void *store, stk_read *out); // the I/O source's

// expert_arrive.c: the rest of the I/O source. Packs or checks a piece that has come.
void stk_store_read_done(void *store, const stk_read *read, int error);
bool stk_store_work(void *store);
// The same with the lock held, which it gives up meanwhile.
bool stk_store_settle(stk_expert_store *s);

// expert_store.c: one staging buffer, an expert's three slices.
uint64_t stk_store_staging_bytes(const stk_model *model);

// expert_load.c: statuses of stk_expert_store_open.
stk_status stk_store_load_all(stk_expert_store *s, const stk_expert_store_options *options);

// expert_nodes.c: deals slots and experts to memory nodes, and asks for their pages. STK_NO_MEMORY.
stk_status stk_store_divide(stk_expert_store *s, stk_team *team);

static inline uint64_t stk_store_now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static inline uint8_t *stk_store_slot(const stk_expert_store *s, uint32_t slot)
{
    return s->slots + (s->slot_at ? s->slot_at[slot] : slot) * s->slot_bytes;
}

// Whether an entry may live in a slot: on its own node.
static inline bool stk_store_may_hold(const stk_expert_store *s, uint32_t slot, uint32_t entry)
{
    return !s->slot_at || s->node_of[slot] == s->node_of[entry];
}

// Whether the GGUF's bytes of this slice are read where they are used.
static inline bool stk_store_in_place(const stk_expert_store *s, uint32_t layer,
                                      stk_expert_slice slice)
{
    return s->in_rooms && s->layouts[layer].in_place[slice];
}

static inline uint32_t stk_store_entry(const stk_expert_store *s, uint32_t layer, uint32_t expert)
{
    return layer * s->model->expert_count + expert;
}

#endif
