// The one forward pass: every worker runs it together, phases are separated by barriers.
#include "engine/engine_impl.h"

#include <math.h>

// Rows of a matrix are handed out in runs of about as many bytes, a multiple of 16 rows.
enum { TAKE_BYTES = 1 << 16, ROWS_PER_TAKE_MAX = STK_PART_ROWS };

static bool has_failed(const stk_session *s)
{
    return atomic_load_explicit(&s->failure, memory_order_relaxed) != STK_OK;
}

static void look_up(stk_session *s, const stk_expert_scratch *w, uint32_t token, float *x)
{
    const stk_engine *e = s->engine;
    if (!e->embedding_file) {
        stk_linear_dequantize_row(&e->weights.embedding, token, x);
        return;
    }
    const stk_type *type = e->model.token_embd->type;
    uint64_t bytes = stk_type_row_bytes(type, e->model.width);
    const void *row;
    stk_status status = stk_model_file_view(e->embedding_file, e->model.token_embd, token * bytes,
                                            bytes, w->embedding, &row);
    if (status == STK_OK)
        type->dequantize(row, x, e->model.width);
    else
        atomic_store(&s->failure, (int)status);
}

static void embed_row(stk_session *s, const stk_expert_scratch *w, uint32_t row)
{
    const stk_model *m = &s->engine->model;
    const stk_row *r = &s->rows[row];
    if (stk_model_has_embedding(m)) // else the layers before have left their output there
        look_up(s, w, (uint32_t)r->token, s->x + (size_t)row * m->width);
    uint32_t half = m->rope_dim / 2;
    float *cosines = s->rope + (size_t)row * m->rope_dim, *sines = cosines + half;
    for (uint32_t i = 0; i < half; i++) {
        double exponent = 2.0 * (double)i / (double)m->rope_dim;
        double angle = (double)r->position / pow((double)m->rope_theta, exponent);
        cosines[i] = (float)cos(angle);
        sines[i] = (float)sin(angle);
    }
}

void stk_acts_quantize(const stk_session *s, stk_acts *acts, uint32_t row, uint32_t from,
                       uint32_t count)
{
    size_t at = (size_t)row * acts->n + from;
    s->engine->cpu.quantize(acts->x + at, count, acts->q + at, acts->d + at / 32,
                            acts->sum + at / 32);
}

// normed.rows[to] = rmsnorm(x of row), quantised.
static void norm_row(stk_session *s, uint32_t row, const float *weight, uint32_t to)
{
    const stk_model *m = &s->engine->model;
    s->engine->cpu.rmsnorm(s->x + (size_t)row * m->width, weight, m->rms_epsilon, m->width,
                           s->normed.x + (size_t)to * m->width);
    stk_acts_quantize(s, &s->normed, to, 0, m->width);
}

// One of several products of the same phase: y[count][stride] = linear . acts.
typedef struct product {
    const stk_linear *linear;
    const stk_act *acts;
    float *y;
    size_t stride;
} product;

static uint32_t rows_per_take(const product *p)
{
    const stk_matrix *w = &p->linear->parts[0].matrix;
    uint64_t rows = TAKE_BYTES / stk_type_row_bytes(w->type, w->cols) / 16 * 16;
    return rows < 16 ? 16 : rows < ROWS_PER_TAKE_MAX ? (uint32_t)rows : ROWS_PER_TAKE_MAX;
}

static uint32_t takes(const product *p, uint32_t node)
{
    uint32_t rows = rows_per_take(p);
    return (p->linear->parts[node].matrix.rows + rows - 1) / rows;
}

// Each worker multiplies with rows that its memory node holds.
static void multiply(stk_worker *worker, const product *products, uint32_t product_count,
                     uint32_t row_count)
{
    uint32_t node = worker->node, total = 0, task, end;
    for (uint32_t i = 0; i < product_count; i++)
        total += takes(&products[i], node);
    while (stk_worker_take_near(worker, total, 1, &task, &end)) {
        const product *p = products;
        for (; task >= takes(p, node); p++)
            task -= takes(p, node);
        const stk_linear_part *part = &p->linear->parts[node];
        const stk_matrix *w = &part->matrix;
        uint32_t rows = rows_per_take(p), from = task * rows;
        uint32_t to = w->rows - from < rows ? w->rows : from + rows;
        p->linear->matmul(w, from, to, p->acts, row_count, p->y + part->row_first + from,
                          p->stride);
    }
}

static void add_projected(stk_session *s, uint32_t row)
{
    uint32_t width = s->engine->model.width;
    float *x = s->x + (size_t)row * width;
    const float *y = s->projected + (size_t)row * width;
    for (uint32_t i = 0; i < width; i++)
        x[i] = x[i] + y[i];
}

static void cpu_attention_block(stk_session *s, stk_worker *worker, uint32_t layer)
{
    const stk_model *m = &s->engine->model;
    const stk_layer_weights *w = &s->engine->weights.layers[layer];
    size_t q_width = (size_t)m->head_count * m->head_dim;
    size_t kv_width = (size_t)m->kv_head_count * m->head_dim;
    const product products[] = {
        {&w->router, s->x_acts, s->router_logits, (m->expert_count + 15) / 16 * 16},
        {&w->q, s->normed.rows, s->q, q_width},
        {&w->k, s->normed.rows, s->k, kv_width},
        {&w->v, s->normed.rows, s->v, kv_width},
    };
    uint32_t row, end, half;
    multiply(worker, products, 4, s->row_count);
    stk_phase_end(s, worker, layer, STK_PHASE_PROJECT);
    while (stk_worker_take(worker, 2 * s->row_count, 1, &half, &end)) {
        if (half % 2 == 0)
            stk_attention_prepare_row(s, layer, half / 2);
        else
            stk_route_row(s, layer, half / 2);
    }
    stk_phase_end(s, worker, layer, STK_PHASE_ROUTE);
    if (worker->index == 0)
        stk_experts_announce(s, layer); // reads start while attention computes
    stk_attention_worker(s, worker, layer);
    const product output = {&w->output, s->attended.rows, s->projected, m->width};
    multiply(worker, &output, 1, s->row_count);
    stk_phase_end(s, worker, layer, STK_PHASE_OUTPUT);
    while (stk_worker_take(worker, s->row_count, 1, &row, &end)) {
        add_projected(s, row);
        norm_row(s, row, w->ffn_norm, row);
    }
}

// The same on the device, while the router and what it announces stay here.
static void gpu_attention_block(stk_session *s, stk_worker *worker, uint32_t layer)
{
    const stk_linear *router = &s->engine->weights.layers[layer].router;
    const product logits = {router, s->x_acts, s->router_logits,
                            (s->engine->model.expert_count + 15) / 16 * 16};
    uint32_t row, end;
    if (worker->index == 0)
        stk_gpu_attend_begin(s, layer);
    multiply(worker, &logits, 1, s->row_count);
    stk_phase_end(s, worker, layer, STK_PHASE_PROJECT);
    while (stk_worker_take(worker, s->row_count, 1, &row, &end))
        stk_route_row(s, layer, row);
    stk_phase_end(s, worker, layer, STK_PHASE_ROUTE);
    if (worker->index == 0) {
        stk_experts_announce(s, layer);
        stk_gpu_attend_end(s, layer);
    }
    stk_phase_end(s, worker, layer, STK_PHASE_ATTEND);
    while (stk_worker_take(worker, s->row_count, 1, &row, &end))
        stk_gpu_attend_take_row(s, row);
}

static void head_block(stk_session *s, stk_worker *worker)
{
    const stk_weights *w = &s->engine->weights;
    uint32_t slot, end, outside = s->engine->model.layer_count;
    if (stk_gpu_heads(s)) {
        if (worker->index == 0)
            stk_gpu_head_run(s, s->logit_count);
        stk_phase_end(s, worker, outside, STK_PHASE_HEAD);
        return;
    }
    while (stk_worker_take(worker, s->logit_count, 1, &slot, &end))
        norm_row(s, s->logit_rows[slot], w->output_norm, slot);
    stk_phase_end(s, worker, outside, STK_PHASE_HEAD_NORM);
    const product head = {&w->head, s->normed.rows, s->logits, s->vocab_padded};
    multiply(worker, &head, 1, s->logit_count);
    stk_phase_end(s, worker, outside, STK_PHASE_HEAD);
}

// False: the forward has failed.
static bool layer_block(stk_session *s, stk_worker *worker, uint32_t layer)
{
    const stk_model *m = &s->engine->model;
    uint32_t row, end;
    if (stk_gpu_attends(s, layer))
        gpu_attention_block(s, worker, layer);
    else
        cpu_attention_block(s, worker, layer);
    stk_phase_end(s, worker, layer, STK_PHASE_NORM);
    if (worker->index == 0) {
        stk_gpu_begin(s, layer);
        stk_experts_guess(s, layer);
    }
    stk_experts_worker(s, worker, layer);
    if (worker->index == 0)
        stk_gpu_end(s, layer);
    stk_phase_end(s, worker, layer, STK_PHASE_EXPERTS);
    if (has_failed(s)) {
        if (worker->index == 0) {
            stk_experts_finish(s, layer);
            stk_meter_abandon(s);
        }
        return false;
    }
    if (worker->index == 0)
        stk_meter_layer(s, layer);
    while (stk_worker_take(worker, s->row_count, 1, &row, &end)) {
        stk_experts_combine_row(s, row);
        if (layer + 1 < m->layer_count && !stk_gpu_attends(s, layer + 1))
            norm_row(s, row, s->engine->weights.layers[layer + 1].attn_norm, row);
    }
    stk_phase_end(s, worker, layer, STK_PHASE_COMBINE);
    return true;
}

// Layers [first, next) without coming back from the device. False: the forward has failed.
static bool chain_block(stk_session *s, stk_worker *worker, uint32_t first, uint32_t next)
{
    uint32_t row, end;
    if (worker->index == 0)
        stk_gpu_chain_run(s, first, next);
    stk_phase_end(s, worker, first, STK_PHASE_CHAIN);
    if (has_failed(s))
        return false;
    bool is_wanted = next < s->engine->model.layer_count && !stk_gpu_attends(s, next);
    while (is_wanted && stk_worker_take(worker, s->row_count, 1, &row, &end))
        norm_row(s, row, s->engine->weights.layers[next].attn_norm, row);
    // also where nothing was done: what fails next may not be seen above
    stk_phase_end(s, worker, next - 1, STK_PHASE_COMBINE);
    return true;
}

void stk_forward_worker(stk_worker *worker, void *argument)
{
    stk_session *s = argument;
    const stk_model *m = &s->engine->model;
    uint32_t row, end;
    stk_meter_begin(s, worker);
    while (stk_worker_take(worker, s->row_count, 1, &row, &end)) {
        embed_row(s, &s->workers[worker->index], row);
        norm_row(s, row, s->engine->weights.layers[0].attn_norm, row);
    }
    stk_phase_end(s, worker, m->layer_count, STK_PHASE_EMBED);
    if (s->uses_stream) {
        if (worker->index == 0)
            stk_gpu_attend_forward(s);
        stk_worker_barrier(worker); // everybody sees the same failure
    }
    if (has_failed(s))
        return;
    for (uint32_t layer = 0; layer < m->layer_count;) {
        uint32_t next = stk_gpu_chain_end(s, layer);
        if (next > layer ? !chain_block(s, worker, layer, next) : !layer_block(s, worker, layer))
            return;
        layer = next > layer ? next : layer + 1;
    }
    if (s->logit_count > 0 && stk_model_has_head(m) && !stk_gpu_chain_heads(s))
        head_block(s, worker);
}
