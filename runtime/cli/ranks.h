// cli/ranks.h: a command that a launcher (mpirun, srun) started several times.
//
// Rank 0 goes on as if it were alone; the others serve it and print nothing but log lines, which
// carry their rank and host.
#ifndef STK_CLI_RANKS_H
#define STK_CLI_RANKS_H

#include "cluster/cluster.h"
#include "engine/engine.h"
#include <stdbool.h>

struct stk_session_options;

// Whether a command may be started several times.
bool stk_ranks_know(const char *command);

// Meets the other ranks, if there are any, and sets engine->cluster. A split that does not suit is
// found here, where it is still a usage mistake. True: go on. False: return *exit_code.
bool stk_ranks_meet(stk_engine_options *engine, const char *name, int *exit_code);
// On ranks other than 0: opens the engine, serves until rank 0 closes its own, and closes it.
// Returns the exit code.
int stk_ranks_serve(const stk_engine_options *engine, const struct stk_session_options *planned);
// Last of all, on every rank: no rank leaves before the others.
void stk_ranks_part(stk_engine_options *engine);

// meet, and on ranks other than 0 serve and part too: then false with the exit code.
bool stk_ranks_join(stk_engine_options *engine, const struct stk_session_options *planned,
                    const char *name, int *exit_code);

#endif
