// cli/disk_use.h: what a run's own reads say about its disk, for the plans of later runs.
//
// Owns nothing: the figure goes to the cache of measurements (cli/probe_cache.h). Only a run that
// kept its disk busy and waited for it says how fast the disk is.
#ifndef STK_CLI_DISK_USE_H
#define STK_CLI_DISK_USE_H

#include "base/log.h"
#include "store/expert_store.h"

// Bytes per second of these reads while the disk was busy; 0: they say nothing about it. Too few
// they are, or too few at once, the workers hardly waited, or slices were laid out meanwhile.
double stk_disk_use_bytes_per_s(const stk_expert_store_stats *reads, uint32_t thread_count);

// Remembers the figure for the disk of model_path, where that disk was probed before. Says at info
// what is remembered; failures are no concern of the run.
void stk_disk_use_remember(const char *model_path, double bytes_per_s, const stk_log *log);

#endif
