// engine/pipeline_impl.h: what pipeline.c and pipeline_serve.c share.
#ifndef STK_ENGINE_PIPELINE_IMPL_H
#define STK_ENGINE_PIPELINE_IMPL_H

#include "cluster/cluster.h"
#include "engine/engine_impl.h"
#include "engine/pipeline.h"

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

    uint64_t begun_ns;       // the forward in progress
    uint64_t computed_ns;    // of the ranks before, for it
    uint64_t reported_bytes; // of the meter and the store, at the last stats
    uint64_t reported_disk_bytes, reported_wanted, reported_hits;
    stk_message_stats stats;
    stk_pipeline_hops hops;
};

uint64_t stk_pipeline_now_ns(void);
void stk_pipeline_send(stk_pipeline *pipeline, uint32_t to, const stk_message *message);
// This rank's counters since the last call.
stk_message_stats stk_pipeline_take_stats(stk_pipeline *pipeline);

#endif
