// model/model.h: a model as the engine sees it: sizes, per-layer traits and tensors.
//
// Filled from a GGUF by the architecture that claims it (model/arch.h). Owns only the tables;
// the tensors' bytes stay where the GGUF says. Invariant: after load every tensor has the shape
// the sizes imply, so the engine checks nothing again.
#ifndef STK_MODEL_MODEL_H
#define STK_MODEL_MODEL_H

#include "model/gguf.h"
#include <stdbool.h>

enum { STK_EXPERTS_MAX = 1024, STK_EXPERTS_USED_MAX = 32, STK_LAYERS_MAX = 1024 };

typedef enum stk_gating {
    STK_GATING_SOFTMAX = 1, // softmax over all experts, chosen ones renormalised
    STK_GATING_SIGMOID = 2, // sigmoid of the chosen logits, divided by their sum
} stk_gating;

// How the stacked down projection lies in the file.
typedef enum stk_down_layout {
    STK_DOWN_ROWS_ARE_OUTPUTS, // dims [ffn, width, experts], llama.cpp's converter
    STK_DOWN_ROWS_ARE_NEURONS, // dims [width, ffn, experts], PowerInfer's --transpose-down
} stk_down_layout;

typedef struct stk_layer {
    const stk_gguf_tensor *attn_norm;    // [width]
    const stk_gguf_tensor *attn_q;       // [width, head_count * head_dim]
    const stk_gguf_tensor *attn_k;       // [width, kv_head_count * head_dim]
    const stk_gguf_tensor *attn_v;       // [width, kv_head_count * head_dim]
    const stk_gguf_tensor *attn_output;  // [head_count * head_dim, width]
    const stk_gguf_tensor *ffn_norm;     // [width]
    const stk_gguf_tensor *router;       // [width, expert_count], F32
    const stk_gguf_tensor *gate_experts; // [width, ffn, expert_count]
    const stk_gguf_tensor *up_experts;   // [width, ffn, expert_count]
    const stk_gguf_tensor *down_experts; // by down_layout
    uint32_t window_tokens;              // sliding window, 0: attends to everything
    bool has_rope;                       // false: no position (NoPE)
} stk_layer;

typedef struct stk_model {
    const char *architecture; // static, "smallthinker"
    stk_str name;             // general.name or empty; borrowed from the GGUF
    uint32_t layer_count;     // of this process; the file's unless it was cut
    uint32_t layer_first;     // in the file, of layers[0]
    uint32_t layer_total;     // in the file
    uint32_t width;           // residual stream
    uint32_t head_dim;
    uint32_t head_count;
    uint32_t kv_head_count; // divides head_count
    uint32_t rope_dim;      // leading part of head_dim that turns (NeoX halves)
    uint32_t ffn_width;     // neurons of one expert
    uint32_t expert_count;
    uint32_t expert_used_count;
    uint32_t context_tokens;
    uint32_t vocab_size;
    float rope_theta;
    float rms_epsilon;
    stk_gating gating;
    stk_down_layout down_layout;
    const stk_gguf_tensor *token_embd;  // [width, vocab]
    const stk_gguf_tensor *output_norm; // [width]
    const stk_gguf_tensor *output;      // [width, vocab]; token_embd when the head is tied
    stk_layer *layers;                  // [layer_count], part of all_layers
    stk_layer *all_layers;              // [layer_total], owned
    uint32_t tensors_ignored;           // in the file, unknown to the architecture
} stk_model;

// Checks and describes the model in `gguf` (borrowed, must outlive *out). On failure *out is
// untouched and a line names the key or tensor. STK_UNSUPPORTED: no such architecture.
STK_CHECKED stk_status stk_model_load(const stk_gguf *gguf, const stk_log *log, stk_model *out);
void stk_model_free(stk_model *model); // clears *model

// Leaves the layers [first, end) of the file, 0 <= first < end <= layer_total: the model of a
// process that runs a part, in which layers are counted from there.
void stk_model_cut(stk_model *model, uint32_t first, uint32_t end);
// The same model with every layer of the file. Borrows; not to be freed.
stk_model stk_model_whole(const stk_model *model);

// Whether tokens enter here, and whether logits leave here.
static inline bool stk_model_has_embedding(const stk_model *model)
{
    return model->layer_first == 0;
}
static inline bool stk_model_has_head(const stk_model *model)
{
    return model->layer_first + model->layer_count == model->layer_total;
}

#endif
