// cli/plan_show.h: a plan as a table or JSON, and what became of its prediction.
#ifndef STK_CLI_PLAN_SHOW_H
#define STK_CLI_PLAN_SHOW_H

#include "cli/arguments.h"
#include "cli/plan_facts.h"
#include "engine/metrics.h"
#include "scheduler/plan.h"
#include "store/expert_store.h"

// A shorter pass is mostly what the cost model leaves out: waking up, caches that hold everything.
#define STK_PASS_MS_MIN 2.0

typedef struct stk_plan_shown {
    const stk_plan *plan;
    const stk_plan_model *model;
    const stk_plan_facts *facts;
    const stk_argument_origins *origins;
    const char *model_name, *config_path; // NULL: no file
} stk_plan_shown;

void stk_plan_print_text(const stk_plan_shown *shown, bool explains); // to standard output
// Prints one object and a newline. 0, or ENOMEM.
STK_CHECKED int stk_plan_print_json(const stk_plan_shown *shown);

// Logs at info, stage by stage, what was planned and what it took: `passes` times `cost` against
// timed metrics (engine/metrics.h) of those passes alone, and the experts' reads in them (NULL: all
// experts are in memory). Short passes get one line.
void stk_plan_compare(const char *what, const stk_plan_cost *cost, uint64_t passes,
                      const stk_metrics *metrics, const stk_expert_store_stats *reads,
                      const stk_log *log);

#endif
