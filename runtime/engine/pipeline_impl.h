// engine/pipeline_impl.h: what pipeline.c and pipeline_serve.c share.
#ifndef STK_ENGINE_PIPELINE_IMPL_H
#define STK_ENGINE_PIPELINE_IMPL_H

#include "cluster/cluster.h"
#include "engine/engine_impl.h"
#include "engine/pipeline.h"
#include "engine/sampler.h"

// Rank 0: a forward that went out. Its index is its slot for large data too.
typedef struct stk_flight {
    uint32_t row_count, logit_count;
    bool has_tokens;      // come back, not logits
    bool answered;        // what was asked for has come, or comes
    bool is_alone;        // no other was under way with it
    uint64_t computed_ns; // by the ranks after the first
    uint32_t *slot;       // [batch_rows_max]
    int32_t *picked;      // [logit_rows_max]
    float *logits;        // [logit_rows_max][vocab_padded]
} stk_flight;

struct stk_pipeline {
    stk_cluster *cluster;
    uint32_t rank, count;
    stk_hop hop;
    stk_session *session; // the one there may be
    bool is_started;      // the others serve
    stk_status failed;    // rank 0: what another rank reported; from then on nothing works

    // Taken with the session.
    uint32_t rows_max;
    stk_message_row *rows; // [rows_max]
    stk_row *rows_in;      // [rows_max]
    uint16_t *halves;      // [rows_max][width], with STK_HOP_F16

    stk_flight *flights; // [flights_max], a ring; rank 0 only
    uint32_t flights_max, flight_first, flight_count;
    void *flight_pages;
    uint64_t flight_pages_bytes;

    bool draws;            // the forward in progress, on the last rank
    stk_message_draw draw; // with this
    stk_sampler *sampler;  // the last rank's

    uint64_t begun_ns;       // the forward in progress
    uint64_t computed_ns;    // of the ranks before, for it
    uint64_t reported_bytes; // of the meter and the store, at the last stats
    uint64_t reported_disk_bytes, reported_wanted, reported_hits;
    stk_message_stats stats;
    stk_pipeline_hops hops;
};

uint64_t stk_pipeline_now_ns(void);
void stk_pipeline_send(stk_pipeline *pipeline, uint32_t to, const stk_message *message);
// Rank 0: the next reply to a message of that type; those to forwards are noted on the way. Not
// STK_OK: what it says, or what has ended the session meanwhile.
STK_CHECKED stk_status stk_pipeline_await(stk_pipeline *pipeline, stk_message_type to,
                                          stk_message_reply *reply);
void stk_pipeline_land(stk_pipeline *pipeline); // rank 0: waits for all that is under way
// This rank's counters since the last call.
stk_message_stats stk_pipeline_take_stats(stk_pipeline *pipeline);

#endif
