// model/synth_types.h: the tensor types of a synthetic model. Private to model/.
//
// Weights are drawn as Q4_0, and every type here can hold those values exactly: a model means the
// same whatever its types.
#ifndef STK_MODEL_SYNTH_TYPES_H
#define STK_MODEL_SYNTH_TYPES_H

#include "model/synth.h"
#include "model/types.h"

// The type of tensor `name` of a layer (of `layers`; -1: of none) with rows of `cols` values, as
// llama.cpp's quantiser would choose it for such a file.
const stk_type *stk_synth_type(stk_synth_weights weights, const char *name, int layer, int layers,
                               uint64_t cols);

// general.file_type of such a file.
uint32_t stk_synth_file_type(stk_synth_weights weights);

// Rewrites `blocks` blocks of Q4_0 as `type`, one of the above; whole blocks of that type.
void stk_synth_transcode(const stk_type *type, const uint8_t *q4, uint64_t blocks, uint8_t *out);

#endif
