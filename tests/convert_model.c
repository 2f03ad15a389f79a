#include "convert_model.h"

#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/half.h"
#include "engine_test.h"
#include "model/gguf_writer.h"

enum { SUPER = 256 };

// The block of 32 as it would be in Q4_0: its scale, from which the K-quants are built.
static float block_scale(const float *x)
{
    uint8_t block[18];
    uint16_t half;
    stk_type_q4_0.quantize(x, block, 32);
    memcpy(&half, block, 2);
    return stk_half_to_float(half);
}

static int clamp_round(float x, int low, int high)
{
    long q = lrintf(x);
    return (int)(q < low ? low : q > high ? high : q);
}

// value = d * scale * q - dmin * min, scale and min of 6 bits: here dmin = 8d and min = scale.
static void encode_q4_k(const float *x, uint8_t *out)
{
    float scales[8], top = 0;
    for (int b = 0; b < 8; b++) {
        scales[b] = fabsf(block_scale(x + 32 * b));
        top = fmaxf(top, scales[b]);
    }
    uint16_t d = stk_half_from_float(top / 63), dmin = stk_half_from_float(8 * (top / 63));
    float unit = stk_half_to_float(d);
    memset(out, 0, 144);
    memcpy(out, &d, 2);
    memcpy(out + 2, &dmin, 2);
    for (int b = 0; b < 8; b++) {
        int scale = unit > 0 ? clamp_round(scales[b] / unit, 0, 63) : 0;
        uint8_t *packed = out + 4;
        if (b < 4) {
            packed[b] |= (uint8_t)scale;
            packed[b + 4] |= (uint8_t)scale;
        } else {
            packed[b + 4] = (uint8_t)((scale & 15) | (scale & 15) << 4);
            packed[b - 4] |= (uint8_t)(scale >> 4 << 6);
            packed[b] |= (uint8_t)(scale >> 4 << 6);
        }
        for (int j = 0; j < 32; j++) {
            float step = unit * (float)scale;
            int q = step > 0 ? clamp_round(x[32 * b + j] / step + 8, 0, 15) : 0;
            out[16 + b / 2 * 32 + j] |= (uint8_t)(q << (b % 2 * 4));
        }
    }
}

// value = d * scale * (q - 32), scale a signed byte for 16 values, q of 6 bits.
static void encode_q6_k(const float *x, uint8_t *out)
{
    float tops[16], top = 0;
    for (int s = 0; s < 16; s++) {
        tops[s] = 0;
        for (int j = 0; j < 16; j++)
            tops[s] = fmaxf(tops[s], fabsf(x[16 * s + j]));
        top = fmaxf(top, tops[s]);
    }
    uint16_t d = stk_half_from_float(top / 31 / 127);
    float unit = stk_half_to_float(d);
    memset(out, 0, 210);
    memcpy(out + 208, &d, 2);
    for (int i = 0; i < SUPER; i++) {
        int half = i / 128, run = i % 128 / 32, j = i % 32, s = i / 16;
        int scale = unit > 0 ? clamp_round(tops[s] / 31 / unit, 1, 127) : 0;
        scale = s % 3 == 1 ? -scale : scale; // signs of both kinds
        float step = unit * (float)scale;
        int q = step != 0 ? clamp_round(x[i] / step, -32, 31) + 32 : 32;
        out[192 + s] = (uint8_t)(int8_t)scale;
        out[half * 64 + run % 2 * 32 + j] |= (uint8_t)((q & 15) << (run / 2 * 4));
        out[128 + half * 32 + j] |= (uint8_t)(q >> 4 << (run * 2));
    }
}

static void encode(const stk_type *type, const float *x, uint8_t *out, size_t count)
{
    if (type->quantize) {
        type->quantize(x, out, count);
        return;
    }
    for (size_t i = 0; i < count / SUPER; i++)
        (type == &stk_type_q4_k ? encode_q4_k : encode_q6_k)(x + i * SUPER,
                                                             out + i * type->block_bytes);
}

static const char *const keys_u32[] = {
    "context_length",         "embedding_length",     "feed_forward_length",
    "attention.key_length",   "attention.head_count", "expert_feed_forward_length",
    "attention.value_length", "expert_count",         "attention.head_count_kv",
    "rope.dimension_count",   "expert_used_count",    "attention.sliding_window",
    "expert_gating_func",
};
static const char *const keys_f32[] = {"rope.freq_base", "attention.layer_norm_rms_epsilon"};

static void copy_keys(const stk_gguf *gguf, stk_gguf_writer *writer, uint32_t layer_count)
{
    char key[96];
    stk_gguf_writer_string(writer, "general.architecture", stk_str_of("smallthinker"));
    stk_gguf_writer_u32(writer, "smallthinker.block_count", layer_count);
    for (size_t i = 0; i < sizeof keys_u32 / sizeof *keys_u32; i++) {
        uint64_t value;
        snprintf(key, sizeof key, "smallthinker.%s", keys_u32[i]);
        if (stk_gguf_u64(gguf, key, &value))
            stk_gguf_writer_u32(writer, key, (uint32_t)value);
    }
    for (size_t i = 0; i < sizeof keys_f32 / sizeof *keys_f32; i++) {
        double value;
        snprintf(key, sizeof key, "smallthinker.%s", keys_f32[i]);
        assert_true(stk_gguf_f64(gguf, key, &value));
        stk_gguf_writer_f32(writer, key, (float)value);
    }
}

// What becomes of one tensor.
typedef struct tensor_plan {
    const stk_gguf_tensor *from;
    const stk_type *type;
    uint64_t dims[STK_GGUF_DIMS_MAX];
    bool transpose;
} tensor_plan;

static bool plan_tensor(const test_conversion *c, uint32_t layers, const stk_gguf_tensor *t,
                        tensor_plan *plan)
{
    char name[128];
    int layer = -1;
    snprintf(name, sizeof name, "%.*s", (int)t->name.len_bytes, t->name.data);
    if (sscanf(name, "blk.%d.", &layer) == 1 && layer >= (int)layers)
        return false;
    *plan = (tensor_plan){.from = t, .type = t->type};
    memcpy(plan->dims, t->dims, sizeof plan->dims);
    plan->transpose = c->transpose_down && strstr(name, "ffn_down_exps");
    if (plan->transpose) {
        plan->dims[0] = t->dims[1];
        plan->dims[1] = t->dims[0];
    }
    if (t->dim_count > 1 && !strstr(name, "ffn_gate_inp"))
        plan->type = c->type_of(name, layer, c->user);
    if (plan->dims[0] % plan->type->block_len != 0)
        plan->type = &stk_type_q8_0;
    return true;
}

// x[slices][rows][cols] to x[slices][cols][rows].
static float *transposed(float *x, uint64_t cols, uint64_t rows, uint64_t slices)
{
    float *out = test_floats(cols * rows * slices);
    for (uint64_t s = 0; s < slices; s++)
        for (uint64_t r = 0; r < rows; r++)
            for (uint64_t c = 0; c < cols; c++)
                out[(s * cols + c) * rows + r] = x[(s * rows + r) * cols + c];
    free(x);
    return out;
}

static void write_tensor(const tensor_plan *plan, int fd, stk_gguf_writer *writer)
{
    const stk_gguf_tensor *t = plan->from;
    uint64_t count = t->dims[0] * t->dims[1] * t->dims[2] * t->dims[3];
    uint8_t *raw = malloc(t->size_bytes);
    assert_non_null(raw);
    assert_int_equal(pread(fd, raw, t->size_bytes, (off_t)t->offset_bytes), t->size_bytes);
    float *x = test_floats(count);
    t->type->dequantize(raw, x, count);
    free(raw);
    if (plan->transpose)
        x = transposed(x, t->dims[0], t->dims[1], t->dims[2]);
    uint64_t bytes = stk_type_row_bytes(plan->type, count);
    uint8_t *out = malloc(bytes);
    assert_non_null(out);
    encode(plan->type, x, out, count);
    assert_int_equal(stk_gguf_writer_append(writer, out, bytes), STK_OK);
    free(out);
    free(x);
}

void test_convert(const test_conversion *c)
{
    stk_gguf *gguf = NULL;
    stk_gguf_writer *writer = NULL;
    uint64_t layers;
    if (stk_gguf_open(c->from, &test_log, &gguf) != STK_OK)
        fail_msg("%s", test_last_error);
    assert_true(stk_gguf_u64(gguf, "smallthinker.block_count", &layers));
    if (c->layer_count != 0)
        layers = c->layer_count;
    const stk_gguf_writer_options options = {.path = c->to, .overwrite = true};
    if (stk_gguf_writer_open(&options, &test_log, &writer) != STK_OK)
        fail_msg("%s", test_last_error);
    copy_keys(gguf, writer, (uint32_t)layers);
    uint32_t count = stk_gguf_tensor_count(gguf), planned = 0;
    tensor_plan *plans = malloc(count * sizeof *plans);
    assert_non_null(plans);
    for (uint32_t i = 0; i < count; i++) {
        const stk_gguf_tensor *t = stk_gguf_tensor_at(gguf, i);
        char name[128];
        if (!plan_tensor(c, (uint32_t)layers, t, &plans[planned]))
            continue;
        snprintf(name, sizeof name, "%.*s", (int)t->name.len_bytes, t->name.data);
        stk_gguf_writer_tensor(writer, name, plans[planned].type, plans[planned].dims,
                               t->dim_count);
        planned++;
    }
    int fd = open(c->from, O_RDONLY);
    assert_true(fd >= 0);
    for (uint32_t i = 0; i < planned; i++)
        write_tensor(&plans[i], fd, writer);
    close(fd);
    free(plans);
    stk_gguf_close(&gguf);
    assert_int_equal(stk_gguf_writer_finish(&writer), STK_OK);
}
