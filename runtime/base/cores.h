// base/cores.h: which cores this process may use, and binding a thread to one of them.
//
// hwloc decides; containers, cpusets and taskset are respected.
#ifndef STK_BASE_CORES_H
#define STK_BASE_CORES_H

#include "base/status.h"
#include <stdint.h>

typedef struct stk_cores stk_cores;

// description: NULL for this machine; tests give hwloc's synthetic syntax or the name of an XML
// file, and binding then does nothing. STK_NO_MEMORY: also where hwloc refuses.
STK_CHECKED stk_status stk_cores_open(const char *description, stk_cores **out);
void stk_cores_close(stk_cores **cores);

// Physical cores allowed to this process, at least 1.
uint32_t stk_cores_count(const stk_cores *cores);

// Binds the calling thread to core `index` modulo the count. Returns false when the system refuses;
// that costs speed, never correctness.
_Bool stk_cores_bind(const stk_cores *cores, uint32_t index);

// Gives the thread that opened `cores`, which must be the caller, the binding it had then.
_Bool stk_cores_unbind(const stk_cores *cores);

#endif
