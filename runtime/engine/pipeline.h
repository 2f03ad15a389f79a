// engine/pipeline.h: one model over several ranks, each with some of its layers.
//
// Rank 0 is the session's user: tokens enter there, and logits come back there or, where no row
// wants more, only the best tokens. The other ranks serve (stk_engine_serve): they take the
// residual stream from the rank before, run their layers and pass it on; the last one computes the
// head. A forward that asks for no logits returns as soon as rank 0 has done its share, so that the
// chunks of a prompt fill the ranks like an assembly line; so do forwards that are submitted and
// collected later. Invariant: the numbers are those of one rank that has all layers (with
// STK_HOP_F32).
//
// What goes wrong on another rank ends the session: the next forward that waits for logits says so,
// and every one after it. A lost rank ends the job (cluster/cluster.h).
#ifndef STK_ENGINE_PIPELINE_H
#define STK_ENGINE_PIPELINE_H

#include "cluster/message.h"
#include "engine/engine.h"
#include "engine/session.h"

// Runs this rank's layers for rank 0 until rank 0 closes its engine. For ranks other than 0.
// Failures of a forward are rank 0's to report; STK_FORMAT: a message made no sense.
STK_CHECKED stk_status stk_engine_serve(stk_engine *engine);

// What the ranks did since the last call, [rank_count]; on rank 0, with a session open. STK_OK,
// STK_BUSY (forwards are under way), or what ended the session.
STK_CHECKED stk_status stk_pipeline_stats(stk_engine *engine, stk_message_stats *all);
uint32_t stk_engine_rank_count(const stk_engine *engine); // 1: alone
const char *stk_engine_rank_host(const stk_engine *engine, uint32_t rank);

// What rank 0 waited for the others' answers beyond their own computing: all hops of a token, their
// messages and wake-ups; of forwards that were alone under way. Since the last call of
// stk_pipeline_stats.
typedef struct stk_pipeline_hops {
    uint64_t answers; // forwards that brought logits
    uint64_t hops;    // of them: one between each pair of neighbours, and one back
    uint64_t ns;
} stk_pipeline_hops;
stk_pipeline_hops stk_pipeline_hops_of(const stk_engine *engine);

// ---- for session.c and engine.c ----
typedef struct stk_pipeline stk_pipeline;

STK_CHECKED stk_status stk_pipeline_open(stk_engine *engine, const stk_engine_options *options);
// Once the layers are loaded, or not: fails everywhere where one rank has failed.
STK_CHECKED stk_status stk_pipeline_start(stk_engine *engine, stk_status mine);
void stk_pipeline_close(stk_engine *engine);          // rank 0 lets the others go
bool stk_pipeline_is_first(const stk_engine *engine); // over ranks, and rank 0
uint64_t stk_pipeline_session_bytes(const stk_session *session);
// Rank 0: has the others open the same session. STK_BUSY: they have one.
STK_CHECKED stk_status stk_pipeline_session_opened(stk_session *session);
void stk_pipeline_session_closed(stk_session *session);
// Before and after this rank's share of a forward. Rank 0 then collects each, oldest first, which
// waits for what it asked for.
STK_CHECKED stk_status stk_pipeline_begin(stk_session *session);
STK_CHECKED stk_status stk_pipeline_pass_on(stk_session *session);
STK_CHECKED stk_status stk_pipeline_collect(stk_session *session);
void stk_pipeline_truncate(stk_session *session, uint32_t sequence, uint32_t length_tokens);

#endif
