// scheduler/cost_impl.h: the pieces of the cost model that the search uses. Not for other rooms.
#ifndef STK_SCHEDULER_COST_IMPL_H
#define STK_SCHEDULER_COST_IMPL_H

#include "scheduler/plan.h"

// Seconds to take the memory that a session's batches and workers compute in.
double stk_cost_taking_s(const stk_plan_model *model, const stk_plan_choices *choices);

double stk_cost_disk_bytes_per_s(const stk_plan_machine *machine, uint32_t inflight);

// Positions that a row sees in all layers together.
double stk_cost_positions(const stk_plan_model *model, double position);

#endif
