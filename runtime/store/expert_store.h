// store/expert_store.h: where the experts of every layer live.
//
// Owns the slots that hold experts in the layout the kernels read. Knows nothing of routing.
// Invariant: residency changes time, never values; an expert's numbers are those in the file.
#ifndef STK_STORE_EXPERT_STORE_H
#define STK_STORE_EXPERT_STORE_H

#include "base/log.h"
#include "base/team.h"
#include "model/matrix.h"
#include "model/model.h"
#include <stdatomic.h>

// Thread-safety: safe after open.
typedef struct stk_expert_store stk_expert_store;

// One expert's weights. gate: [ffn][width]; up: [ffn][width]; down by its format.
typedef struct stk_expert {
    stk_matrix gate;
    stk_matrix up;
    stk_matrix down;
} stk_expert;

// Reads every expert of `model` into memory, using `team`. All arguments are borrowed and must
// outlive the store, but for cancel (NULL, or non-zero ends the reading). STK_IO, STK_NO_MEMORY, STK_CANCELLED.
STK_CHECKED stk_status stk_expert_store_open(const stk_gguf *gguf, const stk_model *model,
                                             stk_team *team, const stk_log *log,
                                             const atomic_int *cancel, stk_expert_store **out);
void stk_expert_store_close(stk_expert_store **store);

// The weights of one expert, valid until close.
stk_expert stk_expert_store_get(const stk_expert_store *store, uint32_t layer, uint32_t expert);

uint64_t stk_expert_store_bytes(const stk_expert_store *store); // resident

#endif
