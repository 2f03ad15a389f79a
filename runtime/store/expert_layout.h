// store/expert_layout.h: how one expert lies in its slot.
//
// A slot is page-aligned: the gate matrix, then either a bundle of up and down (Q4_0), or up and
// down each as the file has them. So it is in memory and in sidecars. A slice that is needed as the
// file has it may also lie in a room of its own with pages to spare, so that direct reads end where
// it is used. Knows nothing of where slots are.
#ifndef STK_STORE_EXPERT_LAYOUT_H
#define STK_STORE_EXPERT_LAYOUT_H

#include <stdbool.h>

#include "model/matrix.h"
#include "model/model.h"
#include "store/expert_store.h"
#include "store/model_file.h"

// What the file has of an expert.
typedef enum stk_expert_slice {
    STK_SLICE_GATE,
    STK_SLICE_UP,
    STK_SLICE_DOWN,
    STK_SLICE_COUNT
} stk_expert_slice;

// Where in its slot each slice of an expert begins, bytes. Of a bundle: where the bundle does.
typedef struct stk_expert_places {
    uint64_t at[STK_SLICE_COUNT];
} stk_expert_places;

typedef struct stk_expert_layout {
    stk_matrix gate, up, down;      // data is NULL
    stk_bundle bundle;              // group_bytes is 0 when up and down are separate
    uint64_t up_at, down_at;        // bytes from the slot's start; equal in a bundle
    uint64_t slot_bytes;            // a multiple of 4096
    uint64_t source_bytes;          // gate, up and down as in the file
    bool in_place[STK_SLICE_COUNT]; // needed as the file has it
    stk_expert_places rooms;        // for slices in place, with STK_DIRECT_ALIGN to spare for each
    uint64_t rooms_bytes;           // of a slot with rooms, a multiple of 4096, at least slot_bytes
} stk_expert_layout;

stk_expert_layout stk_expert_layout_of(const stk_model *model, const stk_layer *layer);

// Whether a slice is needed otherwise than the file has it.
bool stk_expert_packs(const stk_expert_layout *layout);

// Of an expert with every slice packed.
stk_expert_places stk_expert_packed_places(const stk_expert_layout *layout);

// The expert in `slot`.
stk_expert stk_expert_at(const stk_expert_layout *layout, const stk_expert_places *places,
                         const uint8_t *slot);

// Puts one of the file's slices of an expert into its place in `slot`. Each writes its own bytes,
// so slices of one expert may be packed at once.
void stk_expert_pack_slice(const stk_expert_layout *layout, stk_expert_slice which,
                           const void *source, uint8_t *slot);

// The tensor that holds this slice of all experts of a layer.
const stk_gguf_tensor *stk_expert_slice_tensor(const stk_layer *layer, stk_expert_slice which);

// Reads expert `index` (layer * expert_count + expert) slice by slice into `buffer`, which holds
// the largest, and packs it into `slot`. STK_IO.
STK_CHECKED stk_status stk_expert_read(const stk_model_file *file, const stk_model *model,
                                       const stk_expert_layout *layout, uint32_t index,
                                       uint8_t *buffer, uint8_t *slot);

#endif
