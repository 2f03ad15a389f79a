// topology/limits.h: how much memory and processor time this process may take.
//
// Reads /proc and the cgroup trees, version 1, version 2 and both at once. Knows nothing of hwloc:
// cpusets are its business. Invariant: a limit that cannot be read is no limit, and is said so.
#ifndef STK_TOPOLOGY_LIMITS_H
#define STK_TOPOLOGY_LIMITS_H

#include "base/log.h"
#include <stdint.h>

#define STK_LIMIT_NONE UINT64_MAX

typedef struct stk_limits {
    uint64_t memory_total_bytes;        // of the machine; 0: not known
    uint64_t memory_limit_bytes;        // the tightest cgroup; STK_LIMIT_NONE
    uint64_t address_space_limit_bytes; // RLIMIT_AS; STK_LIMIT_NONE
    uint64_t locked_memory_limit_bytes; // RLIMIT_MEMLOCK; STK_LIMIT_NONE
    uint64_t memory_available_bytes;    // without swapping, now, under all of the above
    double cpu_quota;                   // processors' worth of time; 0: no limit
} stk_limits;

// root is "" for the running system; tests give a folder that holds proc/ and sys/. A process id
// other than this one's is not possible: it is always proc/self.
void stk_limits_read(const char *root, const stk_log *log, stk_limits *out);

#endif
