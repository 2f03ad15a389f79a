// Models and machines that plans are tested with.
#ifndef STK_TESTS_PLAN_SHAPES_H
#define STK_TESTS_PLAN_SHAPES_H

#include "scheduler/plan.h"

#define MIB ((uint64_t)1 << 20)
#define GIB ((uint64_t)1 << 30)

// About the 4B and the 21B model in Q4_0, with a context of 4096 tokens.
stk_plan_model plan_model_4b(void);
stk_plan_model plan_model_21b(void);
stk_plan_node plan_node(uint32_t cores, uint64_t memory, double gb_s, double one_gb_s);
// nodes equal nodes of `cores` cores and `memory` bytes, `gb_s` GB/s each.
stk_plan_machine plan_machine(uint32_t nodes, uint32_t cores, uint64_t memory, double gb_s);
void plan_add_gpu(stk_plan_machine *machine, uint64_t memory, bool is_integrated, double gb_s);
stk_plan_wishes plan_open_wishes(void);

#endif
