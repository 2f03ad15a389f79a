// cli/run_json.h: the result of `stoker run --json`.
#ifndef STK_CLI_RUN_JSON_H
#define STK_CLI_RUN_JSON_H

#include "cli/run.h"

// Prints one JSON object and a newline. 0, or the errno of standard output (ENOMEM included).
STK_CHECKED int stk_run_print_json(stk_run *run, const int32_t *prompt_ids, uint32_t prompt_count,
                                   const stk_generate_stats *stats);

#endif
