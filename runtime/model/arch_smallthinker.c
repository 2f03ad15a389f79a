// SmallThinker (arXiv 2507.20984): router before attention, ReGLU experts, and, where a sliding
// window is given, every fourth layer full attention without position, the others RoPE and window.
#include "model/arch.h"

static void load_sizes(stk_arch_reader *r)
{
    stk_model *m = r->model;
    m->layer_count = stk_arch_u32(r, "block_count", 1, STK_LAYERS_MAX, STK_ARCH_REQUIRED);
    m->context_tokens = stk_arch_u32(r, "context_length", 1, 1u << 30, STK_ARCH_REQUIRED);
    m->width = stk_arch_u32(r, "embedding_length", 1, 1u << 17, STK_ARCH_REQUIRED);
    m->head_count = stk_arch_u32(r, "attention.head_count", 1, 1024, STK_ARCH_REQUIRED);
    m->kv_head_count = stk_arch_u32(r, "attention.head_count_kv", 1, m->head_count, m->head_count);
    m->head_dim = stk_arch_u32(r, "attention.key_length", 1, 512, m->width / m->head_count);
    uint32_t value_dim = stk_arch_u32(r, "attention.value_length", 1, 512, m->head_dim);
    m->rope_dim = stk_arch_u32(r, "rope.dimension_count", 2, m->head_dim, m->head_dim);
    m->rope_theta = stk_arch_f32(r, "rope.freq_base", 10000.0f);
    m->rms_epsilon = stk_arch_f32(r, "attention.layer_norm_rms_epsilon", 1e-6f);
    m->expert_count = stk_arch_u32(r, "expert_count", 1, STK_EXPERTS_MAX, STK_ARCH_REQUIRED);
    uint32_t used_max = m->expert_count < STK_EXPERTS_USED_MAX ? m->expert_count
                                                               : STK_EXPERTS_USED_MAX;
    m->expert_used_count = stk_arch_u32(r, "expert_used_count", 1, used_max, STK_ARCH_REQUIRED);
    uint32_t dense_width = stk_arch_u32(r, "feed_forward_length", 1, 1u << 16, 768);
    m->ffn_width = stk_arch_u32(r, "expert_feed_forward_length", 1, 1u << 16, dense_width);
    // One converter writes the key only for softmax.
    m->gating = (stk_gating)stk_arch_u32(r, "expert_gating_func", STK_GATING_SOFTMAX,
                                         STK_GATING_SIGMOID, STK_GATING_SIGMOID);
    if (m->head_count % m->kv_head_count != 0)
        stk_arch_fail(r, STK_FORMAT, "%u query heads cannot share %u KV heads", m->head_count,
                      m->kv_head_count);
    if (value_dim != m->head_dim)
        stk_arch_fail(r, STK_UNSUPPORTED, "keys of %u and values of %u dimensions differ",
                      m->head_dim, value_dim);
    if (m->rope_dim % 2 != 0)
        stk_arch_fail(r, STK_FORMAT, "key 'smallthinker.rope.dimension_count' is odd (%u)",
                      m->rope_dim);
}

// The vocabulary's size is the embedding's.
static void load_embedding(stk_arch_reader *r)
{
    stk_model *m = r->model;
    const stk_gguf_tensor *embd = stk_gguf_tensor_find(r->gguf, "token_embd.weight");
    uint64_t vocab = embd ? embd->dims[1] : 1;
    if (vocab < 1 || vocab > 1u << 24) {
        stk_arch_fail(r, STK_FORMAT, "tensor 'token_embd.weight' has an absurd vocabulary");
        return;
    }
    const uint64_t shape[] = {m->width, vocab, 0, 0};
    m->vocab_size = (uint32_t)vocab;
    m->token_embd = stk_arch_tensor(r, -1, "token_embd.weight", 0, shape);
    m->output_norm = stk_arch_tensor(r, -1, "output_norm.weight", 0, (uint64_t[4]){m->width});
    m->output = stk_arch_tensor(r, -1, "output.weight", 1, shape);
    if (!m->output)
        m->output = m->token_embd;
}

// Both orientations of the stacked down projection are on the hub; the shape tells them apart.
static const stk_gguf_tensor *load_down(stk_arch_reader *r, int layer)
{
    stk_model *m = r->model;
    const uint64_t outputs[4] = {m->ffn_width, m->width, m->expert_count, 0};
    const uint64_t neurons[4] = {m->width, m->ffn_width, m->expert_count, 0};
    char name[64] = "ffn_down_exps.weight";
    if (layer == 0) {
        const stk_gguf_tensor *t = stk_gguf_tensor_find(r->gguf, "blk.0.ffn_down_exps.weight");
        m->down_layout = t && t->dims[0] == m->width && m->width != m->ffn_width
                             ? STK_DOWN_ROWS_ARE_NEURONS
                             : STK_DOWN_ROWS_ARE_OUTPUTS;
    }
    int transposed = m->down_layout == STK_DOWN_ROWS_ARE_NEURONS;
    return stk_arch_tensor(r, layer, name, 0, transposed ? neurons : outputs);
}

static void load_layer(stk_arch_reader *r, int i, uint32_t window, uint32_t period)
{
    stk_model *m = r->model;
    stk_layer *layer = &m->layers[i];
    const uint64_t d = m->width, q = (uint64_t)m->head_count * m->head_dim;
    const uint64_t kv = (uint64_t)m->kv_head_count * m->head_dim;
    const uint64_t rows[4] = {d, m->ffn_width, m->expert_count, 0};
    layer->attn_norm = stk_arch_tensor(r, i, "attn_norm.weight", 0, (uint64_t[4]){d});
    layer->attn_q = stk_arch_tensor(r, i, "attn_q.weight", 0, (uint64_t[4]){d, q});
    layer->attn_k = stk_arch_tensor(r, i, "attn_k.weight", 0, (uint64_t[4]){d, kv});
    layer->attn_v = stk_arch_tensor(r, i, "attn_v.weight", 0, (uint64_t[4]){d, kv});
    layer->attn_output = stk_arch_tensor(r, i, "attn_output.weight", 0, (uint64_t[4]){q, d});
    layer->ffn_norm = stk_arch_tensor(r, i, "ffn_norm.weight", 0, (uint64_t[4]){d});
    layer->router = stk_arch_tensor(r, i, "ffn_gate_inp.weight", 0,
                                    (uint64_t[4]){d, m->expert_count});
    layer->gate_experts = stk_arch_tensor(r, i, "ffn_gate_exps.weight", 0, rows);
    layer->up_experts = stk_arch_tensor(r, i, "ffn_up_exps.weight", 0, rows);
    layer->down_experts = load_down(r, i);
    // With a window: layer 0 and every period-th after it see everything and have no position.
    int full = window == 0 || (uint32_t)i % period == 0;
    layer->window_tokens = full ? 0 : window;
    layer->has_rope = window == 0 || !full;
    if (layer->router && layer->router->type->unpack32)
        stk_arch_fail(r, STK_UNSUPPORTED, "tensor 'blk.%d.ffn_gate_inp.weight' is quantised (%s)",
                      i, layer->router->type->name);
}

static void load(stk_arch_reader *r)
{
    load_sizes(r);
    uint32_t window = stk_arch_u32(r, "attention.sliding_window", 0, 1u << 30, 0);
    uint32_t period = stk_arch_u32(r, "attention.sliding_window_pattern", 1, 1024, 4);
    if (r->status != STK_OK)
        return;
    load_embedding(r);
    if (!stk_arch_alloc_layers(r))
        return;
    for (uint32_t i = 0; i < r->model->layer_count && r->status == STK_OK; i++)
        load_layer(r, (int)i, window, period);
}

const stk_arch stk_arch_smallthinker = {.name = "smallthinker", .load = load};
