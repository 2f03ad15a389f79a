// cpu/group_work.h: which neurons of a group matter to its quantised sum, for the kernels that
// take several at once.
#ifndef STK_CPU_GROUP_WORK_H
#define STK_CPU_GROUP_WORK_H

#include "cpu/cpu.h"

#include <string.h>

// Neurons in `sets` of as many as a kernel takes at once, the last one filled up with zeros.
typedef struct stk_group_work {
    const uint8_t *nibbles[32]; // each neuron's down weights
    int8_t q[32];
    uint32_t sets;
} stk_group_work;

// Where a neuron's run begins; w is either matrix of the bundle.
static inline const uint8_t *stk_bundle_run(const stk_matrix *w, const stk_bundle *b,
                                            uint32_t neuron)
{
    return (const uint8_t *)w->data + (size_t)(neuron / 32) * b->group_bytes + b->scales_bytes +
           (size_t)(neuron % 32) * b->run_bytes;
}

// At most 32 neurons, in sets of set_size, which divides 32.
static inline void stk_group_collect(const stk_matrix *down, const stk_bundle *b,
                                     const stk_neurons *n, uint32_t group, uint32_t set_size,
                                     stk_group_work *work)
{
    uint32_t count = 0;
    for (uint32_t a = n->first[group]; a < n->first[group + 1]; a++) {
        uint32_t j = n->active[a];
        if (n->q[j] == 0)
            continue;
        work->q[count] = n->q[j];
        work->nibbles[count++] = stk_bundle_run(down, b, j) + b->up_bytes;
    }
    for (; count % set_size != 0; count++) { // zeros times any readable nibbles
        work->q[count] = 0;
        work->nibbles[count] = work->nibbles[count - 1];
    }
    work->sets = count / set_size;
}

// The values of a set of four.
static inline int32_t stk_group_four(const stk_group_work *work, uint32_t set)
{
    int32_t four;
    memcpy(&four, work->q + 4 * (size_t)set, sizeof four);
    return four;
}

#endif
