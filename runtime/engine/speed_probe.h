// engine/speed_probe.h: how fast this process gets through weights, in memory and from its disk.
//
// A few hundredths of a second, so that ranks can compare themselves at every start;
// topology/probe.h measures with care.
#ifndef STK_ENGINE_SPEED_PROBE_H
#define STK_ENGINE_SPEED_PROBE_H

#include "engine/engine.h"

struct stk_cluster;

typedef struct stk_speed {
    double memory_bytes_per_s; // a product with one activation, all workers
    double disk_bytes_per_s;   // reads of the model's files past the page cache
    // Of the GPU that the options name, for experts; 0: none.
    uint64_t gpu_memory_bytes;
    double gpu_bytes_per_s, gpu_layer_s;
} stk_speed;

// Over ranks, which call them together: seconds of a short message, the best of some, and bytes/s
// of large data from this rank to the next, for which data[STK_SPEED_LINK_BYTES] is used.
enum { STK_SPEED_LINK_BYTES = 512 << 10 };
double stk_speed_hop(struct stk_cluster *cluster, size_t bytes);
double stk_speed_link(struct stk_cluster *cluster, double hop_s, void *data);

// What handing a layer's experts over to a GPU and having the result takes, where nobody measured
// it.
double stk_speed_gpu_layer_s(bool is_discrete);

// Uses at most memory_bytes_max for a moment. What cannot be measured is a careful guess.
stk_speed stk_speed_probe(stk_engine *engine, const stk_engine_options *options,
                          uint64_t memory_bytes_max);

#endif
