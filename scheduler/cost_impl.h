// scheduler/cost_impl.h: the pieces of the cost model that the search uses. Not for other rooms.
#ifndef STK_SCHEDULER_COST_IMPL_H
#define STK_SCHEDULER_COST_IMPL_H

#include "scheduler/plan.h"

// Bytes per second that so many workers read from all nodes' memory together.
double stk_cost_bandwidth(const stk_plan_machine *machine, double workers);
double stk_cost_disk_bytes_per_s(const stk_plan_machine *machine, uint32_t inflight);

// Positions that a row sees in all layers together.
double stk_cost_positions(const stk_plan_model *model, double position);

#endif
