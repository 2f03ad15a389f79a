// cli/plan_facts.h: what is known of a machine, in the words of the scheduler.
//
// Facts come from topology, speeds from measurements that were kept; what nobody measured is a
// cautious guess, and said to be one.
#ifndef STK_CLI_PLAN_FACTS_H
#define STK_CLI_PLAN_FACTS_H

#include "cli/probe_cache.h"
#include "scheduler/plan.h"
#include "vulkan/device.h"

typedef struct stk_plan_facts {
    stk_plan_machine machine;
    bool has_memory_probe, has_disk_probe; // else assumed
    int64_t measured_at;
    stk_known_disk disk; // has_disk_probe: what its speed was made of
    uint32_t cores;
    double cpu_quota; // 0: none
    bool is_this;
} stk_plan_facts;

typedef struct stk_plan_facts_options {
    const char *topology; // as stk_machine_options; NULL: this machine
    const char *path;     // of the model, whose disk counts
    const char *device;   // as stk_engine_options: "cpu" or NULL leaves GPUs out
    bool measures;        // what is not known, in a few seconds, with a line that says so
    bool is_refreshed;    // measure it all again
} stk_plan_facts_options;

// Facts of this machine (with what the cache of measurements holds) or of an invented one.
// STK_INVALID, STK_FORMAT, STK_IO, STK_NO_MEMORY: as stk_machine_open and the probes.
STK_CHECKED stk_status stk_plan_facts_find(const stk_plan_facts_options *options,
                                           const stk_log *log, stk_plan_facts *out);

#endif
