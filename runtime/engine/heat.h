// engine/heat.h: how often each expert is chosen, older choices counting less.
//
// Counts what routers choose, wherever the experts are computed, and keeps the counts beside the
// model from run to run (store/usage_file.h). Knows nothing of memory or devices. Invariant:
// counting changes no result.
#ifndef STK_ENGINE_HEAT_H
#define STK_ENGINE_HEAT_H

#include "base/log.h"
#include <stdbool.h>
#include <stdint.h>

// Thread-safety: none; one thread at a time.
typedef struct stk_heat stk_heat;

// Starts from the counts in the file at `path` (copied; NULL: from nothing, and nothing is
// written), if they are of this model. STK_NO_MEMORY.
STK_CHECKED stk_status stk_heat_open(const char *path, uint32_t layer_count, uint32_t expert_count,
                                     const stk_log *log, stk_heat **out);
// Writes the file, sets *heat to NULL; NULL is allowed.
void stk_heat_close(stk_heat **heat);

void stk_heat_tick(stk_heat *heat, uint32_t tokens); // the next token(s) begin
void stk_heat_touch(stk_heat *heat, uint32_t layer, uint32_t expert);

// Uses per token, as of now.
float stk_heat_of(const stk_heat *heat, uint32_t layer, uint32_t expert);
bool stk_heat_is_known(const stk_heat *heat); // whether anything was counted, also in earlier runs

#endif
