// Section 4 of docs/arithmetic.md: what a range of neuron groups adds to an expert's outputs.
#include "cpu/ref/ref.h"

#include "cpu/math.h"

static void add_outputs_quantized(const stk_matrix *down, const stk_neurons *n, uint32_t group,
                                  float *y)
{
    if (n->d[group] == 0)
        return;
    for (uint32_t o = 0; o < down->rows; o++) {
        stk_block32 block;
        stk_matrix_unpack32(down, o, group, &block);
        int32_t sum = 0;
        for (int i = 0; i < 32; i++)
            sum += block.q[i] * n->q[32 * group + i];
        float scale = block.d * n->d[group];
        float t = (float)sum * scale;
        if (block.m != 0) {
            float m = block.m * n->d[group];
            m = (float)n->sum[group] * m;
            t = t - m;
        }
        y[o] = y[o] + t;
    }
}

static void add_outputs_float(const stk_matrix *down, const stk_neurons *n, uint32_t group,
                              float *y)
{
    for (uint32_t o = 0; o < down->rows; o++) {
        const uint8_t *row = stk_matrix_row(down, o);
        for (uint32_t a = n->first[group]; a < n->first[group + 1]; a++) {
            float w;
            down->type->dequantize(row + stk_type_row_bytes(down->type, n->active[a]), &w, 1);
            float t = w * n->h[n->active[a]];
            y[o] = y[o] + t;
        }
    }
}

static void add_neuron_quantized(const stk_matrix *down, uint32_t neuron, float h, float *y)
{
    for (uint32_t b = 0; b < down->cols / 32; b++) {
        stk_block32 block;
        stk_matrix_unpack32(down, neuron, b, &block);
        float scale = h * block.d;
        for (uint32_t i = 0; i < 32; i++) {
            float t = scale * (float)block.q[i];
            if (block.m != 0) {
                float m = h * block.m;
                t = t - m;
            }
            y[32 * b + i] = y[32 * b + i] + t;
        }
    }
}

static void add_neuron_float(const stk_matrix *down, uint32_t neuron, float h, float *y)
{
    const uint8_t *row = stk_matrix_row(down, neuron);
    for (uint32_t o = 0; o < down->cols; o++) {
        float w;
        down->type->dequantize(row + stk_type_row_bytes(down->type, o), &w, 1);
        float t = w * h;
        y[o] = y[o] + t;
    }
}

void stk_down_ref(const stk_matrix *down, const stk_neurons *n, uint32_t group_begin,
                  uint32_t group_end, float *y)
{
    int quantized = down->type->unpack32 != NULL;
    int rows_are_neurons = down->format == STK_FORMAT_BUNDLE_T_DOWN ||
                           down->format == STK_FORMAT_ROWS_T;
    for (uint32_t g = group_begin; g < group_end; g++) {
        if (!rows_are_neurons) {
            (quantized ? add_outputs_quantized : add_outputs_float)(down, n, g, y);
            continue;
        }
        for (uint32_t a = n->first[g]; a < n->first[g + 1]; a++) {
            uint32_t neuron = n->active[a];
            (quantized ? add_neuron_quantized : add_neuron_float)(down, neuron, n->h[neuron], y);
        }
    }
}
