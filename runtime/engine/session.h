// engine/session.h: sequences with their KV cache; a batch of rows in, logits out.
//
// There is one forward pass: prompt chunks, several sequences and drafted tokens are all just
// rows. Invariant: a row's logits depend only on the tokens of its sequence up to its position -
// never on how the rows were batched, on other sequences, or on the number of threads.
#ifndef STK_ENGINE_SESSION_H
#define STK_ENGINE_SESSION_H

#include "engine/engine.h"
#include <stdbool.h>

struct stk_sampler;

// Thread-safety: none; sessions of one engine share its workers.
typedef struct stk_session stk_session;

typedef struct stk_session_options {
    uint32_t context_tokens; // positions per sequence; 0: the model's context length
    uint32_t sequence_count; // 0: one
    uint32_t batch_rows_max; // rows per forward; 0: 512, or fewer under a memory limit
    uint32_t logit_rows_max; // of which ask for logits; 0: 16
    uint32_t inflight_max;   // forwards submitted and not collected, over ranks; 0: one
    bool full_kv;            // tests: keep every position on sliding-window layers too
    uint32_t trace_forwards; // spans of this many forwards are kept (engine/metrics.h); 0: none
} stk_session_options;

// For inflight_max: enough to keep every rank busy.
#define STK_INFLIGHT_AUTO UINT32_MAX

// Converts from a bool.
typedef enum stk_want_logits {
    STK_LOGITS_NONE,
    STK_LOGITS_ALL,
    STK_LOGITS_BEST,  // only where the largest is: a GPU, or another rank, keeps the rest
    STK_LOGITS_DRAWN, // for stk_session_draw: another rank draws and keeps them
} stk_want_logits;

typedef struct stk_row {
    uint32_t sequence; // < sequence_count
    uint32_t position; // the sequence's next position (rows of a sequence come in order)
    int32_t token;
    stk_want_logits logits;
} stk_row;

// Takes the KV cache and all scratch; later calls do not allocate.
// STK_NO_MEMORY, STK_INVALID (more context than the model has is allowed with a warning).
STK_CHECKED stk_status stk_session_open(stk_engine *engine, const stk_session_options *options,
                                        stk_session **out);
void stk_session_close(stk_session **session); // sets it to NULL; NULL is allowed

// Runs rows[0..count), count <= batch_rows_max. A row's position must be the length of its
// sequence so far. STK_INVALID: a row is out of range, nothing was changed; STK_IO: an expert
// could not be read, the sequences are as before the call.
STK_CHECKED stk_status stk_session_forward(stk_session *session, const stk_row *rows,
                                           uint32_t count);

// The same in two halves, so that over ranks several forwards are under way at once: each rank
// works on another one. submit returns when this rank has done its share, collect waits for what
// the oldest one not yet collected asked for. One process has done all of it in submit, and lets
// one be under way. STK_BUSY: stk_session_inflight_max are, nothing was changed, collect first; for
// stk_session_forward: one is. STK_INVALID: collect without submit. After a failure of collect the
// session is of no more use. Rows of one sequence may be in several forwards, in order, and
// stk_session_truncate may stand between them.
STK_CHECKED stk_status stk_session_submit(stk_session *session, const stk_row *rows,
                                          uint32_t count);
STK_CHECKED stk_status stk_session_collect(stk_session *session);

// Logits [vocab] of rows[row_index] of the last forward (that was collected), which must have asked
// for all. Borrowed, valid until the next forward, submit or collect.
const float *stk_session_logits(const stk_session *session, uint32_t row_index);
// The token with the largest logit of a row that asked for any, the lowest id among equals.
int32_t stk_session_best(const stk_session *session, uint32_t row_index);

// What rows that ask STK_LOGITS_DRAWN are drawn with over ranks: the sampler as it stands when they
// are submitted, and where a forward draws several of one sequence, as if before each the tokens of
// those after the first had been accepted. Borrowed; NULL: nothing is drawn elsewhere.
void stk_session_set_sampler(stk_session *session, const struct stk_sampler *sampler);
// stk_sampler_sample of the row's logits, which it must have asked for in any way but BEST, or the
// same token from the rank that has drawn it. The sampler is the one that was set, and stands as it
// was promised to: rows are drawn in order.
int32_t stk_session_draw(const stk_session *session, uint32_t row_index,
                         struct stk_sampler *sampler);

// The residual stream [batch_rows_max][width]. An engine without the first layer expects the rows
// of a batch there before stk_session_forward; one without the last leaves them there.
float *stk_session_hidden(stk_session *session);

// Tokens held by a sequence, and dropping its newest ones (length_tokens = 0 clears it).
// STK_INVALID: longer than it is, or a sliding-window layer no longer holds what is needed.
uint32_t stk_session_length(const stk_session *session, uint32_t sequence);
STK_CHECKED stk_status stk_session_truncate(stk_session *session, uint32_t sequence,
                                            uint32_t length_tokens);

// Told what the router chose: experts[row][used] of a layer and their weights[row][used], rows in
// the batch's order. Called from a worker during forward; must not call back. NULL stops it.
typedef void (*stk_route_hook)(void *user, uint32_t layer, uint32_t row_count,
                               const uint32_t *experts, const float *weights);
void stk_session_set_route_hook(stk_session *session, stk_route_hook hook, void *user);

uint32_t stk_session_context_tokens(const stk_session *session);
uint32_t stk_session_batch_rows_max(const stk_session *session);
uint32_t stk_session_logit_rows_max(const stk_session *session);
uint32_t stk_session_inflight_max(const stk_session *session); // 1 on one process
uint64_t stk_session_kv_bytes(const stk_session *session);

#endif
