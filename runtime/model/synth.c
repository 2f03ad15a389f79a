#include "model/synth.h"
#include "base/half.h"
#include "base/random.h"
#include "model/gguf_writer.h"
#include "model/synth_tokens.h"
#include "model/synth_types.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    BLOCK_LEN = 32,
    BLOCK_BYTES = 18,
    NIBBLE_ZERO = 8,
    NO_COLUMN = -1,
    BUFFER_BYTES = 4 << 20,
    NAME_BYTES = 48,
    TENSORS_PER_LAYER = 10,
    TENSORS_BESIDE = 3,
    VOCAB_MAX = 1 << 24,
};

// Nibbles 1..15 uniform around 8 have a standard deviation of sqrt(14 * 16 / 12) = 4.3; with 0
// turned into 8 it is 4.2.
static const double NIBBLE_STD = 4.2;
// Residual channel 0: the embedding's column 0 holds nibble 15, its weights have std 1.
static const double CHANNEL0 = 7 / 4.2;

typedef struct shape {
    const char *name;
    uint32_t layers, width, head_dim, ffn, heads, kv_heads, experts, active, window, context;
    bool tied;
    float theta;
} shape;

static const shape shapes[] = {
    {"4b", 32, 1536, 128, 768, 12, 2, 32, 4, 0, 32768, true, 1e6f},
    {"21b", 52, 2560, 128, 768, 28, 4, 64, 6, 4096, 16384, false, 1.5e6f},
    {"mid", 12, 1024, 128, 512, 8, 2, 32, 4, 4096, 8192, false, 1e6f},
    {"small", 2, 256, 64, 768, 4, 2, 8, 4, 0, 4096, true, 1e6f}, // experts of real length
    {"tiny", 8, 256, 64, 128, 4, 2, 16, 4, 4096, 4096, true, 1e6f},
};
enum { SHAPE_COUNT = sizeof shapes / sizeof shapes[0] };

// How to fill one tensor of rows x columns.
typedef struct recipe {
    char name[NAME_BYTES];
    enum { FILL_NIBBLES, FILL_ONES, FILL_SIGNS, FILL_ROUTER } fill;
    uint64_t dims[3];
    uint32_t dim_count;
    double std;           // FILL_NIBBLES, FILL_ROUTER
    int column0;          // FILL_NIBBLES: nibble of every row's first weight, or NO_COLUMN
    uint64_t zero_period; // FILL_NIBBLES: rows that are multiples of it are zero; 0: none
    double first;         // FILL_ONES: value 0; FILL_ROUTER: std of column 0
    const stk_type *type;
} recipe;

typedef struct plan {
    recipe *recipes;
    uint32_t count;
} plan;

const char *stk_synth_shape_name(uint32_t index)
{
    return index < SHAPE_COUNT ? shapes[index].name : NULL;
}

stk_synth_options stk_synth_defaults(void)
{
    return (stk_synth_options){
        .seed = 1,
        .vocab_count = 151936,
        .window = STK_SYNTH_WINDOW_OF_SHAPE,
        .gating = STK_SYNTH_SIGMOID,
        .skew = 1.2,
        .sparsity_shift = 0.45,
    };
}

static void add_keys(const stk_synth_options *o, const shape *s, stk_gguf_writer *w)
{
    char name[64];
    uint32_t window = o->window < 0 ? s->window : (uint32_t)o->window;
    snprintf(name, sizeof name, "synthetic-smallthinker-%s", s->name);
    stk_gguf_writer_string(w, "general.architecture", stk_str_of("smallthinker"));
    stk_gguf_writer_string(w, "general.name", stk_str_of(name));
    stk_gguf_writer_u32(w, "general.file_type", stk_synth_file_type(o->weights));
    stk_gguf_writer_u32(w, "general.quantization_version", 2);
    stk_gguf_writer_u32(w, "smallthinker.block_count", s->layers);
    stk_gguf_writer_u32(w, "smallthinker.context_length", s->context);
    stk_gguf_writer_u32(w, "smallthinker.embedding_length", s->width);
    stk_gguf_writer_u32(w, "smallthinker.feed_forward_length", s->ffn);
    stk_gguf_writer_u32(w, "smallthinker.expert_feed_forward_length", s->ffn);
    stk_gguf_writer_u32(w, "smallthinker.attention.head_count", s->heads);
    stk_gguf_writer_u32(w, "smallthinker.attention.head_count_kv", s->kv_heads);
    stk_gguf_writer_u32(w, "smallthinker.attention.key_length", s->head_dim);
    stk_gguf_writer_u32(w, "smallthinker.attention.value_length", s->head_dim);
    stk_gguf_writer_u32(w, "smallthinker.rope.dimension_count", s->head_dim);
    stk_gguf_writer_f32(w, "smallthinker.rope.freq_base", s->theta);
    stk_gguf_writer_f32(w, "smallthinker.attention.layer_norm_rms_epsilon", 1e-6f);
    stk_gguf_writer_u32(w, "smallthinker.expert_count", s->experts);
    stk_gguf_writer_u32(w, "smallthinker.expert_used_count", s->active);
    if (o->gating != STK_SYNTH_MISSING)
        stk_gguf_writer_u32(w, "smallthinker.expert_gating_func",
                            o->gating == STK_SYNTH_SOFTMAX ? 1 : 2);
    if (window)
        stk_gguf_writer_u32(w, "smallthinker.attention.sliding_window", window);
}

static recipe *add(plan *p, const char *prefix, const char *name, uint64_t d0, uint64_t d1,
                   uint64_t d2)
{
    recipe *r = &p->recipes[p->count++];
    *r = (recipe){.dims = {d0, d1, d2}, .dim_count = d2 ? 3 : d1 ? 2 : 1, .column0 = NO_COLUMN};
    snprintf(r->name, sizeof r->name, "%s%s.weight", prefix, name);
    return r;
}

static recipe *add_nibbles(plan *p, const char *prefix, const char *name, double std, uint64_t d0,
                           uint64_t d1, uint64_t d2)
{
    recipe *r = add(p, prefix, name, d0, d1, d2);
    r->std = std;
    return r;
}

static void plan_layer(const stk_synth_options *o, const shape *s, uint32_t layer, plan *p)
{
    uint64_t d = s->width, f = s->ffn, e = s->experts, q = (uint64_t)s->heads * s->head_dim,
             kv = (uint64_t)s->kv_heads * s->head_dim;
    double in_std = 1 / sqrt((double)d), residual = 1 / sqrt(2.0 * s->layers);
    double shift = layer < s->layers / 8 ? 2 : o->sparsity_shift;
    double norm0 = shift * NIBBLE_STD / 8 * sqrt((double)d) / CHANNEL0;
    char prefix[16];
    recipe *r;
    snprintf(prefix, sizeof prefix, "blk.%" PRIu32 ".", layer);

    r = add(p, prefix, "attn_norm", d, 0, 0);
    r->fill = FILL_ONES;
    add_nibbles(p, prefix, "attn_q", in_std, d, q, 0);
    add_nibbles(p, prefix, "attn_k", in_std, d, kv, 0);
    add_nibbles(p, prefix, "attn_v", in_std, d, kv, 0);
    r = add_nibbles(p, prefix, "attn_output", residual / sqrt((double)q), q, d, 0);
    r->zero_period = d; // row 0 alone: nothing is added to channel 0

    r = add(p, prefix, "ffn_norm", d, 0, 0);
    r->fill = FILL_ONES;
    r->first = norm0;
    r = add(p, prefix, "ffn_gate_inp", d, e, 0);
    r->fill = FILL_ROUTER;
    r->std = in_std;
    r->first = o->skew / CHANNEL0;
    r = add_nibbles(p, prefix, "ffn_gate_exps", in_std, d, f, e);
    r->column0 = 0;
    if (o->transpose_down) {
        r = add_nibbles(p, prefix, "ffn_down_exps", 4 * residual / sqrt((double)f), d, f, e);
        r->column0 = NIBBLE_ZERO;
    } else {
        r = add_nibbles(p, prefix, "ffn_down_exps", 4 * residual / sqrt((double)f), f, d, e);
        r->zero_period = d;
    }
    add_nibbles(p, prefix, "ffn_up_exps", in_std, d, f, e);
}

static void plan_model(const stk_synth_options *o, const shape *s, plan *p)
{
    recipe *r = add_nibbles(p, "", "token_embd", 1, s->width, o->vocab_count, 0);
    r->column0 = 15;
    r = add(p, "", "output_norm", s->width, 0, 0);
    r->fill = FILL_SIGNS; // with ones, a tied head would repeat its input
    if (!s->tied)
        add_nibbles(p, "", "output", 1 / sqrt((double)s->width), s->width, o->vocab_count, 0);
    for (uint32_t i = 0; i < s->layers; i++)
        plan_layer(o, s, i, p);
}

// Sixteen random nibbles, 0 replaced by 8 so that the mean is 8.
static uint64_t random_nibbles(stk_random *random)
{
    const uint64_t ones = UINT64_C(0x1111111111111111);
    uint64_t x = stk_random_u64(random), any = x | x >> 1;
    any |= any >> 2; // bit 0 of each nibble: the nibble is not 0
    return x | (~any & ones) << 3;
}

static void fill_nibbles(const recipe *r, uint64_t row, uint64_t rows, stk_random *random,
                         uint8_t *out)
{
    uint16_t scale = stk_half_from_float((float)(r->std / NIBBLE_STD));
    uint64_t blocks = r->dims[0] / BLOCK_LEN;
    for (uint64_t i = row; i < row + rows; i++) {
        uint8_t *first = out;
        bool zero = r->zero_period && i % r->zero_period == 0;
        for (uint64_t b = 0; b < blocks; b++, out += BLOCK_BYTES) {
            uint64_t nibbles[2] = {random_nibbles(random), random_nibbles(random)};
            memcpy(out, &scale, sizeof scale);
            if (zero)
                memset(out + 2, NIBBLE_ZERO | NIBBLE_ZERO << 4, sizeof nibbles);
            else
                memcpy(out + 2, nibbles, sizeof nibbles);
        }
        if (r->column0 != NO_COLUMN)
            first[2] = (uint8_t)((first[2] & 0xf0) | r->column0);
    }
}

// Nearly normal with mean 0 and variance 1: the sum of twelve uniform numbers. Unlike Box-Muller
// it needs no logarithm, which differs between C libraries.
static double random_normal(stk_random *random)
{
    uint32_t sum = 0;
    for (int i = 0; i < 3; i++) {
        uint64_t x = stk_random_u64(random);
        sum += (uint32_t)((x & 0xffff) + (x >> 16 & 0xffff) + (x >> 32 & 0xffff) + (x >> 48));
    }
    return (double)sum / 65536 - 6;
}

static void fill_floats(const recipe *r, uint64_t rows, stk_random *random, float *out)
{
    for (uint64_t row = 0; row < rows; row++) {
        for (uint64_t i = 0; i < r->dims[0]; i++, out++) {
            if (r->fill == FILL_ONES)
                *out = i == 0 ? (float)r->first : 1;
            else if (r->fill == FILL_SIGNS)
                *out = stk_random_u64(random) >> 63 ? 1 : -1;
            else
                *out = (float)(random_normal(random) * (i == 0 ? r->first : r->std));
        }
    }
}

typedef struct job {
    const stk_synth_options *options;
    const stk_log *log;
    stk_gguf_writer *writer;
    uint8_t *buffer; // BUFFER_BYTES, as drawn
    uint8_t *coded;  // the same in the tensor's type, of which none takes twice as much
    uint64_t done_bytes, total_bytes;
} job;

static stk_status write_tensor(job *j, const recipe *r, uint32_t index)
{
    stk_random random = stk_random_seeded(j->options->seed * UINT64_C(0x100000001b3) + index);
    bool is_nibbles = r->fill == FILL_NIBBLES;
    uint64_t blocks = r->dims[0] / BLOCK_LEN, row_bytes = stk_type_row_bytes(r->type, r->dims[0]);
    uint64_t rows = 1, batch = BUFFER_BYTES / (is_nibbles ? blocks * BLOCK_BYTES : row_bytes);
    for (uint32_t i = 1; i < r->dim_count; i++)
        rows *= r->dims[i];
    for (uint64_t row = 0; row < rows; row += batch) {
        uint64_t n = rows - row < batch ? rows - row : batch;
        if (j->options->stop && atomic_load_explicit(j->options->stop, memory_order_relaxed))
            return STK_CANCELLED;
        if (is_nibbles) {
            fill_nibbles(r, row, n, &random, j->buffer);
            stk_synth_transcode(r->type, j->buffer, n * blocks, j->coded);
        } else
            fill_floats(r, n, &random, (float *)j->coded);
        stk_status status = stk_gguf_writer_append(j->writer, j->coded, n * row_bytes);
        if (status != STK_OK)
            return status;
        j->done_bytes += n * row_bytes;
        stk_progress(j->log, "writing random weights", j->done_bytes, j->total_bytes);
    }
    return STK_OK;
}

static const shape *find_shape(const char *name)
{
    for (uint32_t i = 0; i < SHAPE_COUNT; i++) {
        if (strcmp(shapes[i].name, name) == 0)
            return &shapes[i];
    }
    return NULL;
}

static stk_status check(const stk_synth_options *o, const stk_log *log)
{
    if (!find_shape(o->shape))
        return stk_fail(log, STK_INVALID, "'%s' is not a shape: 4b, 21b, mid, small or tiny",
                        o->shape);
    if (o->vocab_count > VOCAB_MAX)
        return stk_fail(log, STK_INVALID, "a vocabulary of %" PRIu32 " tokens, more than %d",
                        o->vocab_count, VOCAB_MAX);
    if (o->window > UINT32_MAX || o->window < STK_SYNTH_WINDOW_OF_SHAPE)
        return stk_fail(log, STK_INVALID, "a window of %" PRIi64 " tokens", o->window);
    if (!isfinite(o->skew) || !isfinite(o->sparsity_shift))
        return stk_fail(log, STK_INVALID, "skew and sparsity shift must be finite");
    return STK_OK;
}

static stk_status write_model(job *j, const shape *s, plan *p)
{
    stk_status status = stk_synth_add_tokens(j->options, j->log, j->writer);
    if (status != STK_OK)
        return status;
    plan_model(j->options, s, p);
    for (uint32_t i = 0; i < p->count; i++) {
        recipe *r = &p->recipes[i];
        int layer = -1;
        sscanf(r->name, "blk.%d.", &layer);
        r->type = r->fill != FILL_NIBBLES ? &stk_type_f32
                                          : stk_synth_type(j->options->weights, r->name, layer,
                                                           (int)s->layers, r->dims[0]);
        stk_gguf_writer_tensor(j->writer, r->name, r->type, r->dims, r->dim_count);
    }
    j->total_bytes = stk_gguf_writer_data_bytes(j->writer);
    for (uint32_t i = 0; i < p->count && status == STK_OK; i++)
        status = write_tensor(j, &p->recipes[i], i);
    if (status == STK_OK) // padding is in the total only
        stk_progress(j->log, "writing random weights", j->total_bytes, j->total_bytes);
    return status;
}

stk_status stk_synth_write(const stk_synth_options *options, const stk_log *log)
{
    stk_status status = check(options, log);
    if (status != STK_OK)
        return status;
    const shape *s = find_shape(options->shape);
    const stk_gguf_writer_options file = {.path = options->path, .overwrite = options->overwrite};
    job j = {.options = options, .log = log};
    status = stk_gguf_writer_open(&file, log, &j.writer);
    if (status != STK_OK)
        return status;
    add_keys(options, s, j.writer);
    plan p = {.recipes = calloc(s->layers * TENSORS_PER_LAYER + TENSORS_BESIDE, sizeof *p.recipes)};
    j.buffer = malloc(BUFFER_BYTES);
    j.coded = malloc(2 * (size_t)BUFFER_BYTES);
    if (p.recipes && j.buffer && j.coded)
        status = write_model(&j, s, &p);
    else
        status = stk_fail(log, STK_NO_MEMORY, "%s: no memory to write it", options->path);
    free(p.recipes);
    free(j.buffer);
    free(j.coded);
    if (status == STK_OK)
        return stk_gguf_writer_finish(&j.writer);
    stk_gguf_writer_abandon(&j.writer);
    return status;
}
