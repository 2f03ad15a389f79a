// scheduler/skew.h: how unequally experts are used: a curve, from a record or assumed.
//
// Owns no memory. Experts of all layers are sorted by use and put into equal buckets; everything
// the cost model asks is a sum over the first of them.
#ifndef STK_SCHEDULER_SKEW_H
#define STK_SCHEDULER_SKEW_H

#include <stdint.h>

enum { STK_SKEW_BUCKETS = 64 };

typedef struct stk_skew {
    double rate[STK_SKEW_BUCKETS]; // uses per token of one expert, falling
    double experts;                // all of them
} stk_skew;

// Nothing is known: the share of uses that the first x of the experts take is 1 - (1 - x)^power.
void stk_skew_assume(uint32_t layers, uint32_t experts_per_layer, uint32_t used, double power,
                     stk_skew *out);

// Towards `other`, of the same model, by 0 (not at all) to 1.
void stk_skew_blend(stk_skew *skew, const stk_skew *other, double part);

// From usage[layers * experts_per_layer], any unit, recorded over so many tokens; zeros only: as
// assumed with power 1. Every expert is given half a use more, because what was not used in a short
// record may be used all the same. scratch: as many floats.
void stk_skew_of(const float *usage, uint32_t layers, uint32_t experts_per_layer, uint32_t used,
                 uint32_t tokens, float *scratch, stk_skew *out);

// Of the uses of one token, the share that go to experts [from, to) in the order of use.
double stk_skew_share(const stk_skew *skew, double from, double to);
// Different experts among [from, to) that `rows` tokens use, in all layers together.
double stk_skew_touched(const stk_skew *skew, double from, double to, uint32_t rows);

#endif
