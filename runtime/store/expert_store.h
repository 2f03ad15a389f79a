// store/expert_store.h: makes experts resident when they are needed, and a little before.
//
// Owns a fixed pool of slots, the reads that fill them and the choice of what to evict. Knows
// nothing of routing: the engine says which experts a layer wants as soon as the router has spoken
// and comes back for them after attention. Invariant: residency changes time, never values; an
// expert's numbers are those in the file.
#ifndef STK_STORE_EXPERT_STORE_H
#define STK_STORE_EXPERT_STORE_H

#include "base/log.h"
#include "base/team.h"
#include "model/matrix.h"
#include "model/model.h"
#include "store/cache_policy.h"
#include "store/io.h"
#include <stdatomic.h>

// Thread-safety: safe after open, except close and stk_expert_store_reset_stats.
typedef struct stk_expert_store stk_expert_store;

// One expert's weights. gate: [ffn][width]; up: [ffn][width]; down by its format.
typedef struct stk_expert {
    stk_matrix gate;
    stk_matrix up;
    stk_matrix down;
} stk_expert;

// How urgently an expert is wanted; reads are started in this order.
typedef enum stk_want {
    STK_WANT_DEMAND,      // somebody waits for it
    STK_WANT_EXACT,       // the router chose it, attention still computes
    STK_WANT_SPECULATIVE, // it will probably be chosen; dropped when there is no room
    STK_WANT_COUNT
} stk_want;

typedef struct stk_expert_store_options {
    const stk_gguf *gguf;     // borrowed, must outlive the store
    const stk_model *model;   // borrowed, must outlive the store
    stk_team *team;           // loads in parallel at open; borrowed during open
    const stk_log *log;       // borrowed
    const atomic_int *cancel; // loading stops when it becomes non-zero; NULL: never
    uint64_t cache_bytes;     // for slots; 0 or enough for all: every expert is loaded at open
    const char *policy;       // cache policy; NULL: the default
    stk_io_kind io;
    bool direct;            // reads bypass the page cache
    const char *sidecar;    // packed experts; NULL: read the GGUF
    uint32_t inflight_max;  // reads at once; 0: 16
    const char *usage_path; // how often experts were used: the cache is warmed by it at open and
                            // it is written at close; NULL: neither
} stk_expert_store_options;

// STK_IO, STK_NO_MEMORY (fewer slots than stk_expert_store_slots_min), STK_INVALID, STK_CANCELLED.
STK_CHECKED stk_status stk_expert_store_open(const stk_expert_store_options *options,
                                             stk_expert_store **out);
void stk_expert_store_close(stk_expert_store **store); // sets it to NULL; NULL is allowed

// Sizes, before anything is opened. A slot holds any expert of the model.
uint64_t stk_expert_store_slot_bytes(const stk_model *model);
uint32_t stk_expert_store_slots_min(const stk_model *model);
// Memory besides the slots when not everything is resident: staging and tables.
uint64_t stk_expert_store_overhead_bytes(const stk_model *model);
// Of which an open store does not touch: reads end in their slots where nothing is to be packed.
uint64_t stk_expert_store_unused_bytes(const stk_expert_store *store);

// An expert's matrices with NULL data, to look kernels up.
stk_expert stk_expert_store_shape(const stk_expert_store *store, uint32_t layer);
// True when every expert is in memory for good: want, release and wait do nothing.
bool stk_expert_store_is_resident(const stk_expert_store *store);

// Says that `count` experts of a layer are wanted. DEMAND and EXACT pin each until one release;
// DEMAND for an expert already wanted only makes it urgent and pins nothing.
// weights[count] are the router's, for the policy's scores; NULL counts every use the same.
// rows[count]: of the tokens of the last tick, how many use each; NULL: one.
void stk_expert_store_want(stk_expert_store *store, uint32_t layer, const uint32_t *experts,
                           const float *weights, const uint32_t *rows, uint32_t count,
                           stk_want kind);
// The expert, if it is there: STK_OK fills *out, valid until its release. STK_PENDING: being read.
// STK_IO: its read failed, which was logged.
STK_CHECKED stk_status stk_expert_store_poll(stk_expert_store *store, uint32_t layer,
                                             uint32_t expert, stk_expert *out);
void stk_expert_store_release(stk_expert_store *store, uint32_t layer, uint32_t expert);

// Waiting until something arrives: read the count, poll, and wait if nothing was there. Who waits
// helps to lay out what has been read, and sleeps otherwise.
uint32_t stk_expert_store_events(const stk_expert_store *store);
void stk_expert_store_wait(stk_expert_store *store, uint32_t events_seen);
// Wakes everybody who waits, as if something had arrived.
void stk_expert_store_notify(stk_expert_store *store);

// With several memory nodes (those of the team), an expert has a home: it is kept in a slot of that
// node, for its workers. Nodes have about the same number of a layer's experts per worker.
uint32_t stk_expert_store_node(const stk_expert_store *store, uint32_t layer, uint32_t expert);
// Where the pages of a node's slots are. Nothing is found with one node.
stk_nodes_found stk_expert_store_find(const stk_expert_store *store, const stk_nodes *nodes,
                                      uint32_t node);

// Changes how many slots are in use, at most those taken at open and at least the minimum; the
// memory of the others goes back to the system, after waiting for reads into it. Call between
// forward passes. Returns the number.
uint32_t stk_expert_store_set_slots(stk_expert_store *store, uint32_t slot_count);
// A second such limit, for those who share memory with the slots; the smaller one holds.
void stk_expert_store_lend(stk_expert_store *store, uint32_t slot_count);

// The slots as one piece of memory, for a device that reads them in place. Of slots [0, kept_count)
// the pages stay even when they are not in use. With one memory node only.
typedef struct stk_expert_pool {
    void *data; // NULL: there are several nodes
    uint64_t slot_bytes;
    uint32_t slot_count;
} stk_expert_pool;
stk_expert_pool stk_expert_store_pool(stk_expert_store *store, uint32_t kept_count);

// Marks the beginning of the next token(s), the policies' clock. While a pass over enough tokens to
// need most experts of every layer is on, what it has passed makes room before what is to come.
void stk_expert_store_tick(stk_expert_store *store, uint32_t tokens);

typedef struct stk_expert_store_stats {
    uint64_t wanted;           // experts wanted exactly
    uint64_t hits;             // of which were resident
    uint64_t reads;            // experts read
    uint64_t read_bytes;       // from disk
    uint64_t speculative;      // experts read ahead of the router
    uint64_t speculative_used; // of which the router then chose
    uint64_t evictions;
    uint64_t wait_ns;   // workers in wait, summed
    uint64_t busy_ns;   // with at least one read in flight
    uint64_t flight_ns; // of every read, from being handed over until it was there
    uint64_t bursts;    // times that the disk began to read
    uint64_t pack_ns;   // slices of a GGUF were laid out anew
    uint32_t slot_count, slots_used;
    uint32_t inflight_peak;
} stk_expert_store_stats;
stk_expert_store_stats stk_expert_store_get_stats(stk_expert_store *store);
// The counts of *after without those of *before; slots and peak are those of *after.
stk_expert_store_stats stk_expert_store_stats_between(const stk_expert_store_stats *before,
                                                      const stk_expert_store_stats *after);
void stk_expert_store_reset_stats(stk_expert_store *store);

uint64_t stk_expert_store_bytes(const stk_expert_store *store); // slots and staging
const char *stk_expert_store_io_name(const stk_expert_store *store);

#endif
