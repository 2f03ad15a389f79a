// scheduler/cost_impl.h: the pieces of the cost model that the search uses. Not for other rooms.
#ifndef STK_SCHEDULER_COST_IMPL_H
#define STK_SCHEDULER_COST_IMPL_H

#include "scheduler/plan.h"

enum { STK_COST_PAIRS_FEW = 32 }; // up to as many (row, expert) pairs count as a few rows

// stk_cost_prompt, whose first pass finds no expert in memory if it is_first.
void stk_cost_passes(const stk_plan_machine *machine, const stk_plan_model *model,
                     const stk_plan_choices *choices, uint32_t tokens, uint32_t position,
                     bool is_first, stk_plan_cost *out);

double stk_cost_disk_bytes_per_s(const stk_plan_machine *machine, uint32_t inflight);

// Positions that a row sees in all layers together.
double stk_cost_positions(const stk_plan_model *model, double position);

// One forward pass on its way to a cost.
typedef struct stk_cost_pass {
    const stk_plan_machine *machine;
    const stk_plan_model *model;
    const stk_plan_choices *choices;
    double rows;
    bool is_first; // no expert is in memory yet
    stk_plan_cost *out;
} stk_cost_pass;

// ---- gpu.c ----

// Steps from nothing to all of it: of the layers whose attention the first GPU takes, and of the
// experts that each takes.
enum { STK_PLAN_GPU_DENSE_STEPS = 2, STK_PLAN_GPU_EXPERT_STEPS = 16 };
uint32_t stk_plan_gpu_dense_steps(const stk_plan_machine *machine, const stk_plan_wishes *wishes);
uint32_t stk_plan_gpu_expert_steps(const stk_plan_machine *machine, const stk_plan_wishes *wishes);

// Fills the GPUs' part of *choices, as much of a step as fits; batch_rows is given.
void stk_plan_gpu_place(const stk_plan_machine *machine, const stk_plan_model *model,
                        const stk_plan_wishes *wishes, uint32_t dense_step, uint32_t expert_step,
                        stk_plan_choices *choices);
// What attention and head take of the first GPU's memory: weights, keys and values, scratch.
uint64_t stk_plan_gpu_dense_bytes(const stk_plan_model *model, const stk_plan_choices *choices);

// The experts that GPUs compute beside the cores.
typedef struct stk_plan_gpu_experts_cost {
    double count; // of them: the first in the order of use
    double seconds;
    double stolen_s;     // of the cores, by software devices
    double shared_bytes; // that integrated ones read of the host's memory
} stk_plan_gpu_experts_cost;
stk_plan_gpu_experts_cost stk_plan_gpu_experts(const stk_cost_pass *pass);
// Adds attention and head to their stages; the cores' part of these is there. seen: positions.
void stk_plan_gpu_dense_add(const stk_cost_pass *pass, double seen);

#endif
