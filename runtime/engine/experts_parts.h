// engine/experts_parts.h: groups of 32 neurons of an expert for one row, and a pipeline of them.
//
// With a few rows, workers share experts part by part. Each goes through its parts group by group,
// `up` and `down` one group behind the gate, from one part to the next: while a gate is computed,
// memory brings what the group behind needs, and while that one is finished, the beginning of the
// next gate. Which parts a worker takes is not known here.
#ifndef STK_ENGINE_EXPERTS_PARTS_H
#define STK_ENGINE_EXPERTS_PARTS_H

#include "engine/engine_impl.h"

// A part of an expert for one row.
typedef struct stk_part_task {
    uint32_t layer, index; // of session->work
    uint32_t pair, part;
    stk_expert expert;
    const void *next_gate; // where this worker's next part probably begins; NULL: unknown
} stk_part_task;

// Thread-safety: one worker's. All zeros: nothing is under way.
typedef struct stk_parts {
    stk_part_task task; // of the group that is behind
    bool is_behind;     // there is such a group
    bool is_last;       // it is the last of its task
    uint32_t group, count;
    uint32_t active[32]; // [count]: its active neurons
    float gate[32];
    stk_ahead ahead; // what it needs and nobody has asked for
} stk_parts;

// Groups [begin, end) of 32 neurons are part `part` of an expert with `groups` of them.
static inline uint32_t stk_part_begin(uint32_t groups, uint32_t part)
{
    return groups * part / STK_EXPERT_PARTS;
}

// Lists the active neurons of groups [from, to) in w->active, w->first[from] being 0; gate is that
// of group `from`.
void stk_groups_list(const stk_expert_scratch *w, const float *gate, uint32_t from, uint32_t to);
// `up` of groups [from, to), listed so: their h, quantised, for `down`. Meanwhile memory brings
// some of `ahead`; NULL: nothing.
void stk_groups_multiply(const stk_session *s, uint32_t layer, const stk_expert *expert,
                         const stk_expert_scratch *w, const stk_act *act, const float *gate,
                         uint32_t from, uint32_t to, stk_ahead *ahead);
// Adds groups [from, to), multiplied, to y[width padded].
void stk_groups_down(const stk_session *s, uint32_t layer, const stk_expert *expert,
                     const stk_expert_scratch *w, uint32_t from, uint32_t to, float *y);
// Whether a group of `down` is a strip of each of its rows, of which no neuron can be left out. The
// lists of active neurons are not looked at then.
static inline bool stk_down_is_in_strips(const stk_session *s, uint32_t layer)
{
    const stk_expert_kernels *kernels = &s->engine->expert_kernels[layer];
    return kernels->down_rows && !kernels->up_rows;
}

// Runs a task but for its last group, and the group that was behind before. Returns true and sets
// *finished to session->work's index if that ended a task.
bool stk_parts_run(stk_session *s, const stk_expert_scratch *w, stk_parts *parts,
                   const stk_part_task *task, uint32_t *finished);
// Runs what is behind; the same.
bool stk_parts_flush(stk_session *s, const stk_expert_scratch *w, stk_parts *parts,
                     uint32_t *finished);

#endif
