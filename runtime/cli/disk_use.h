// cli/disk_use.h: what a run's own reads say about its disk, for the plans of later runs.
//
// Owns nothing: the figure goes to the cache of measurements (cli/probe_cache.h). Only a run that
// kept its disk busy and waited for it says how fast the disk is.
#ifndef STK_CLI_DISK_USE_H
#define STK_CLI_DISK_USE_H

#include "base/log.h"
#include "scheduler/history.h"
#include "store/expert_store.h"

// These reads while the disk was busy; a speed of 0: they say nothing about it. Too few they are,
// or too few at once, the workers hardly waited, or slices were laid out meanwhile.
stk_measured stk_disk_use_of(const stk_expert_store_stats *reads, uint32_t thread_count);

// Remembers the figure for the disk of model_path, where that disk was probed before. Says at info
// what is remembered; failures are no concern of the run.
void stk_disk_use_remember(const char *model_path, const stk_measured *use, const stk_log *log);

#endif
