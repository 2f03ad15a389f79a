// cluster/launcher.h: whether a launcher (mpirun, srun) started this process as one of several.
//
// The only place that reads the environment: launchers tell a process its rank in no other way, and
// a process that runs alone must not load MPI to find that out.
#ifndef STK_CLUSTER_LAUNCHER_H
#define STK_CLUSTER_LAUNCHER_H

#include <stdbool.h>
#include <stdint.h>

typedef struct stk_launch {
    uint32_t rank, count; // count > 1
    const char *name;     // of the launcher's family, static: "Open MPI"
} stk_launch;

// False: this process runs alone, *out is {0, 1, NULL}.
bool stk_launch_detect(stk_launch *out);

// Whether this is a rank other than 0: such leave usage mistakes and results to rank 0.
bool stk_launch_is_mute(void);

#endif
