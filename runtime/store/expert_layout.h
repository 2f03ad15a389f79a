// store/expert_layout.h: how one expert lies in its slot.
//
// A slot is page-aligned: the gate matrix, then either a bundle of up and down (Q4_0), or up and
// down each as the file has them. Knows nothing of where slots are.
#ifndef STK_STORE_EXPERT_LAYOUT_H
#define STK_STORE_EXPERT_LAYOUT_H

#include "model/matrix.h"
#include "model/model.h"
#include "store/expert_store.h"

typedef struct stk_expert_layout {
    stk_matrix gate, up, down; // data is NULL
    stk_bundle bundle;         // group_bytes is 0 when up and down are separate
    uint64_t up_at, down_at;   // bytes from the slot's start; equal in a bundle
    uint64_t slot_bytes;       // a multiple of 4096
    uint64_t source_bytes;     // gate, up and down as in the file
} stk_expert_layout;

stk_expert_layout stk_expert_layout_of(const stk_model *model, const stk_layer *layer);

// The expert in `slot`.
stk_expert stk_expert_at(const stk_expert_layout *layout, const uint8_t *slot);

// Fills `slot` from the file's gate, up and down slices of one expert.
void stk_expert_pack(const stk_expert_layout *layout, const void *gate, const void *up,
                     const void *down, uint8_t *slot);

#endif
