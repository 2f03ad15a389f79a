#include "store/expert_layout.h"

#include <string.h>

static uint64_t round_up(uint64_t value, uint64_t unit)
{
    return (value + unit - 1) / unit * unit;
}

// Rooms of the slices: what is packed is where it always is, in front.
static void take_rooms(stk_expert_layout *l)
{
    const stk_matrix *slices[STK_SLICE_COUNT] = {&l->gate, &l->up, &l->down};
    uint64_t end = l->bundle.group_bytes != 0 ? l->slot_bytes : 0;
    l->rooms = stk_expert_packed_places(l);
    for (int i = 0; i < STK_SLICE_COUNT && l->bundle.group_bytes == 0; i++) {
        const stk_matrix *m = slices[i];
        l->in_place[i] = m->format == STK_FORMAT_ROWS || m->format == STK_FORMAT_ROWS_T;
        l->rooms.at[i] = end;
        uint64_t bytes = l->in_place[i] ? m->rows * stk_type_row_bytes(m->type, m->cols)
                                        : stk_dense_bytes(m->type, m->format, m->rows, m->cols);
        end += round_up(bytes + (l->in_place[i] ? STK_DIRECT_ALIGN : 0), STK_DIRECT_ALIGN);
    }
    l->rooms_bytes = end > l->slot_bytes ? end : l->slot_bytes;
}

stk_expert_layout stk_expert_layout_of(const stk_model *model, const stk_layer *layer)
{
    stk_expert_layout l;
    memset(&l, 0, sizeof l);
    uint32_t width = model->width, ffn = model->ffn_width;
    int neurons = model->down_layout == STK_DOWN_ROWS_ARE_NEURONS;
    const stk_type *gate = layer->gate_experts->type, *up = layer->up_experts->type;
    const stk_type *down = layer->down_experts->type;
    l.gate = (stk_matrix){gate, stk_dense_format(gate, width), ffn, width, NULL};
    l.up = (stk_matrix){up, STK_FORMAT_ROWS, ffn, width, NULL};
    l.down = (stk_matrix){down, neurons ? STK_FORMAT_ROWS_T : STK_FORMAT_ROWS,
                          neurons ? ffn : width, neurons ? width : ffn, NULL};
    l.up_at = round_up(stk_dense_bytes(gate, l.gate.format, ffn, width), 64);
    if (up == &stk_type_q4_0 && down == &stk_type_q4_0) {
        l.bundle = stk_bundle_of(width, ffn, neurons);
        l.up.format = neurons ? STK_FORMAT_BUNDLE_T_UP : STK_FORMAT_BUNDLE_UP;
        l.down.format = neurons ? STK_FORMAT_BUNDLE_T_DOWN : STK_FORMAT_BUNDLE_DOWN;
        l.down_at = l.up_at;
        l.slot_bytes = l.up_at + stk_bundle_bytes(&l.bundle);
    } else {
        l.down_at = l.up_at + round_up(ffn * stk_type_row_bytes(up, width), 64);
        l.slot_bytes = l.down_at + l.down.rows * stk_type_row_bytes(down, l.down.cols);
    }
    l.slot_bytes = round_up(l.slot_bytes, 4096);
    l.source_bytes = ffn * stk_type_row_bytes(gate, width) + ffn * stk_type_row_bytes(up, width) +
                     l.down.rows * stk_type_row_bytes(down, l.down.cols);
    take_rooms(&l);
    return l;
}

bool stk_expert_packs(const stk_expert_layout *layout)
{
    bool packs = false;
    for (int i = 0; i < STK_SLICE_COUNT; i++)
        packs |= !layout->in_place[i];
    return packs;
}

stk_expert_places stk_expert_packed_places(const stk_expert_layout *layout)
{
    return (stk_expert_places){
        {[STK_SLICE_UP] = layout->up_at, [STK_SLICE_DOWN] = layout->down_at}};
}

stk_expert stk_expert_at(const stk_expert_layout *layout, const stk_expert_places *places,
                         const uint8_t *slot)
{
    stk_expert e = {layout->gate, layout->up, layout->down};
    e.gate.data = slot + places->at[STK_SLICE_GATE];
    e.up.data = slot + places->at[STK_SLICE_UP];
    e.down.data = slot + places->at[STK_SLICE_DOWN];
    return e;
}

void stk_expert_pack_slice(const stk_expert_layout *l, stk_expert_slice which, const void *source,
                           uint8_t *slot)
{
    switch (which) {
    case STK_SLICE_GATE:
        stk_dense_pack(l->gate.type, l->gate.format, l->gate.rows, l->gate.cols, 0, l->gate.rows,
                       source, slot);
        return;
    case STK_SLICE_UP:
        if (l->bundle.group_bytes != 0)
            stk_bundle_pack_up(&l->bundle, source, slot + l->up_at);
        else
            memcpy(slot + l->up_at, source,
                   l->up.rows * stk_type_row_bytes(l->up.type, l->up.cols));
        return;
    case STK_SLICE_DOWN:
        if (l->bundle.group_bytes != 0)
            stk_bundle_pack_down(&l->bundle, source, slot + l->down_at);
        else
            memcpy(slot + l->down_at, source,
                   l->down.rows * stk_type_row_bytes(l->down.type, l->down.cols));
        return;
    case STK_SLICE_COUNT:
        return;
    }
}

const stk_gguf_tensor *stk_expert_slice_tensor(const stk_layer *layer, stk_expert_slice which)
{
    return which == STK_SLICE_GATE ? layer->gate_experts
           : which == STK_SLICE_UP ? layer->up_experts
                                   : layer->down_experts;
}

stk_status stk_expert_read(const stk_model_file *file, const stk_model *model,
                           const stk_expert_layout *layout, uint32_t index, uint8_t *buffer,
                           uint8_t *slot)
{
    const stk_layer *layer = &model->layers[index / model->expert_count];
    uint32_t expert = index % model->expert_count;
    for (int i = 0; i < STK_SLICE_COUNT; i++) {
        stk_expert_slice which = (stk_expert_slice)i;
        const stk_gguf_tensor *t = stk_expert_slice_tensor(layer, which);
        uint64_t bytes = t->size_bytes / model->expert_count;
        stk_status status = stk_model_file_read(file, t, expert * bytes, bytes, buffer);
        if (status != STK_OK)
            return status;
        stk_expert_pack_slice(layout, which, buffer, slot);
    }
    return STK_OK;
}
