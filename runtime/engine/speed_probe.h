// engine/speed_probe.h: how fast this process gets through weights, in memory and from its disk.
//
// A few hundredths of a second, so that ranks can compare themselves at every start;
// topology/probe.h measures with care.
#ifndef STK_ENGINE_SPEED_PROBE_H
#define STK_ENGINE_SPEED_PROBE_H

#include "engine/engine.h"

typedef struct stk_speed {
    double memory_bytes_per_s; // a product with one activation, all workers
    double disk_bytes_per_s;   // reads of the model's files past the page cache
} stk_speed;

// Uses at most memory_bytes_max for a moment. What cannot be measured is a careful guess.
stk_speed stk_speed_probe(stk_engine *engine, uint64_t memory_bytes_max);

#endif
