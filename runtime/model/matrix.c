#include "model/matrix.h"

#include <assert.h>
#include <string.h>

#include "base/half.h"

// Q4_0 and Q8_0 blocks in files: a half scale, then the values.
enum { Q4_BLOCK_BYTES = 18, Q8_BLOCK_BYTES = 34, X16_ROWS = 16 };

static uint32_t round_up(uint32_t value, uint32_t unit)
{
    return (value + unit - 1) / unit * unit;
}

// Bytes of the values of one block of 32 for 16 rows.
static uint32_t x16_values_bytes(const stk_type *type)
{
    return (type->block_bytes - 2) * X16_ROWS;
}

static uint32_t x16_pair_bytes(const stk_type *type)
{
    return 2 * (2 * X16_ROWS + x16_values_bytes(type));
}

static uint64_t x16_group_bytes(const stk_type *type, uint32_t cols)
{
    return (uint64_t)((cols / 32 + 1) / 2) * x16_pair_bytes(type);
}

// Where the scale and the first value byte of (row, block) are; runs are 64 bytes apart.
static void x16_locate(const stk_type *type, uint32_t cols, uint32_t row, uint32_t block,
                       size_t *scale, size_t *values)
{
    size_t pair = (size_t)(row / X16_ROWS * x16_group_bytes(type, cols)) +
                  (size_t)(block / 2) * x16_pair_bytes(type);
    *scale = pair + (block & 1) * 2 * X16_ROWS + row % X16_ROWS * 2;
    *values = pair + 4 * X16_ROWS + (block & 1) * x16_values_bytes(type) + row % X16_ROWS * 4;
}

// Gathers a block back into its file form, which the type's codec then reads.
static void x16_unpack32(const stk_matrix *m, uint32_t row, uint32_t block, stk_block32 *out)
{
    uint8_t file_block[Q8_BLOCK_BYTES];
    const uint8_t *data = m->data;
    size_t scale, values;
    x16_locate(m->type, m->cols, row, block, &scale, &values);
    memcpy(file_block, data + scale, 2);
    for (uint32_t c = 0; c < (m->type->block_bytes - 2) / 4; c++)
        memcpy(file_block + 2 + 4 * c, data + values + 64 * c, 4);
    m->type->unpack32(file_block, 0, out);
}

static void row_pair_unpack32(const uint8_t *row, uint32_t blocks, uint32_t block, stk_block32 *out)
{
    uint8_t file_block[Q4_BLOCK_BYTES];
    memcpy(file_block, row + (size_t)blocks * 16 + 2 * block, 2);
    memcpy(file_block + 2, row + (size_t)block * 16, 16);
    stk_type_q4_0.unpack32(file_block, 0, out);
}

// Byte and nibble of output o in a neuron's BUNDLE nibbles.
static uint32_t bundle_nibble_at(uint32_t o, uint32_t *shift)
{
    uint32_t chunk = o / 128, within = o % 64;
    uint32_t k = within / 16, lane = within / 4 % 4, i = within % 4;
    *shift = o % 128 < 64 ? 0 : 4;
    return chunk * 64 + 16 * lane + 4 * k + i;
}

static void bundle_down_unpack32(const stk_matrix *m, uint32_t row, uint32_t group,
                                 stk_block32 *out)
{
    stk_bundle b = stk_bundle_of(m->rows, m->cols, 0);
    const uint8_t *base = (const uint8_t *)m->data + (size_t)group * b.group_bytes;
    uint32_t shift, byte = bundle_nibble_at(row, &shift);
    out->d = stk_half_to_float(stk_load_u16(base + 2 * (size_t)row));
    out->m = 0;
    for (uint32_t j = 0; j < 32; j++) {
        const uint8_t *run = base + b.scales_bytes + (size_t)j * b.run_bytes + b.up_bytes;
        out->q[j] = (int16_t)(((run[byte] >> shift) & 15) - 8);
    }
}

void stk_matrix_unpack32(const stk_matrix *m, uint32_t row, uint32_t block, stk_block32 *out)
{
    const uint8_t *data = m->data;
    switch (m->format) {
    case STK_FORMAT_ROWS:
    case STK_FORMAT_ROWS_T:
        m->type->unpack32(stk_matrix_row(m, row), block, out);
        return;
    case STK_FORMAT_X16:
        x16_unpack32(m, row, block, out);
        return;
    case STK_FORMAT_BUNDLE_DOWN:
        bundle_down_unpack32(m, row, block, out);
        return;
    case STK_FORMAT_BUNDLE_UP:
    case STK_FORMAT_BUNDLE_T_UP:
    case STK_FORMAT_BUNDLE_T_DOWN: {
        stk_bundle b = stk_bundle_of(m->cols, m->rows, m->format != STK_FORMAT_BUNDLE_UP);
        size_t at = (size_t)(row / 32) * b.group_bytes + b.scales_bytes +
                    (size_t)(row % 32) * b.run_bytes;
        at += m->format == STK_FORMAT_BUNDLE_T_DOWN ? b.up_bytes : 0;
        row_pair_unpack32(data + at, m->cols / 32, block, out);
        return;
    }
    case STK_FORMAT_COUNT:
        break;
    }
    assert(!"unknown matrix format");
}

void stk_matrix_dequantize_row(const stk_matrix *m, uint32_t row, float *out)
{
    if (m->format == STK_FORMAT_ROWS || m->format == STK_FORMAT_ROWS_T) {
        m->type->dequantize(stk_matrix_row(m, row), out, m->cols);
        return;
    }
    for (uint32_t b = 0; b < m->cols / 32; b++) {
        stk_block32 block;
        stk_matrix_unpack32(m, row, b, &block);
        for (uint32_t i = 0; i < 32; i++)
            out[32 * b + i] = block.d * (float)block.q[i] - block.m;
    }
}

const void *stk_matrix_row(const stk_matrix *m, uint32_t row)
{
    assert(m->format == STK_FORMAT_ROWS || m->format == STK_FORMAT_ROWS_T);
    return (const uint8_t *)m->data + row * stk_type_row_bytes(m->type, m->cols);
}

stk_format stk_dense_format(const stk_type *type, uint32_t cols)
{
    int packs = type == &stk_type_q4_0 || type == &stk_type_q8_0;
    return packs && cols % 32 == 0 ? STK_FORMAT_X16 : STK_FORMAT_ROWS;
}

uint64_t stk_dense_bytes(const stk_type *type, stk_format format, uint32_t rows, uint32_t cols)
{
    if (format == STK_FORMAT_ROWS)
        return rows * stk_type_row_bytes(type, cols);
    return (uint64_t)((rows + X16_ROWS - 1) / X16_ROWS) * x16_group_bytes(type, cols);
}

// Up to 16 rows into their group; rows that do not exist are left alone.
static void x16_pack_group(const stk_type *type, uint32_t blocks, uint32_t rows,
                           const uint8_t *from, size_t row_bytes, uint8_t *group)
{
    uint32_t runs = (type->block_bytes - 2) / 4, values_bytes = x16_values_bytes(type);
    for (uint32_t b = 0; b < (blocks + 1) / 2 * 2; b++) {
        uint8_t *pair = group + (size_t)(b / 2) * x16_pair_bytes(type);
        uint8_t *scales = pair + (b & 1) * 2 * X16_ROWS;
        uint8_t *values = pair + 4 * X16_ROWS + (b & 1) * values_bytes;
        if (b == blocks) { // the padding block
            memset(scales, 0, 2 * X16_ROWS);
            memset(values, 0, values_bytes);
            break;
        }
        const uint8_t *block = from + (size_t)b * type->block_bytes;
        for (uint32_t r = 0; r < rows; r++, block += row_bytes) {
            memcpy(scales + 2 * r, block, 2);
            for (uint32_t c = 0; c < runs; c++)
                memcpy(values + 64 * c + 4 * r, block + 2 + 4 * c, 4);
        }
    }
}

void stk_dense_pack(const stk_type *type, stk_format format, uint32_t rows, uint32_t cols,
                    uint32_t row_begin, uint32_t row_count, const void *source, void *packed)
{
    const uint8_t *from = source;
    uint8_t *to = packed;
    uint64_t row_bytes = stk_type_row_bytes(type, cols);
    if (format == STK_FORMAT_ROWS) {
        memcpy(to + row_begin * row_bytes, from, row_count * row_bytes);
        return;
    }
    assert(row_begin % X16_ROWS == 0);
    uint32_t blocks = cols / 32, end = row_begin + row_count;
    if (end == rows && rows % X16_ROWS != 0) // the padding rows of the last group
        memset(to + rows / X16_ROWS * x16_group_bytes(type, cols), 0, x16_group_bytes(type, cols));
    for (uint32_t row = row_begin; row < end; row += X16_ROWS, from += X16_ROWS * row_bytes)
        x16_pack_group(type, blocks, end - row < X16_ROWS ? end - row : X16_ROWS, from, row_bytes,
                       to + row / X16_ROWS * x16_group_bytes(type, cols));
}

stk_bundle stk_bundle_of(uint32_t width, uint32_t ffn_width, int transposed)
{
    stk_bundle b = {.width = width, .ffn_width = ffn_width};
    b.up_bytes = round_up(width / 32 * Q4_BLOCK_BYTES, 64);
    b.scales_bytes = transposed ? 0 : round_up(width, 128) * 2;
    b.run_bytes = b.up_bytes + (transposed ? b.up_bytes : round_up(width, 128) / 2);
    b.group_bytes = b.scales_bytes + 32 * b.run_bytes;
    return b;
}

uint64_t stk_bundle_bytes(const stk_bundle *bundle)
{
    return (uint64_t)(bundle->ffn_width / 32) * bundle->group_bytes;
}

// A file row becomes: nibbles of all blocks, then all scales, then zeros.
static void pack_row_pair(const uint8_t *file_row, uint32_t blocks, uint32_t padded, uint8_t *to)
{
    for (uint32_t b = 0; b < blocks; b++) {
        memcpy(to + 16 * b, file_row + Q4_BLOCK_BYTES * b + 2, 16);
        memcpy(to + 16 * blocks + 2 * b, file_row + Q4_BLOCK_BYTES * b, 2);
    }
    memset(to + Q4_BLOCK_BYTES * blocks, 0, padded - Q4_BLOCK_BYTES * blocks);
}

// Swaps the bits of *a under mask << shift with those of *b under mask.
static inline void exchange(uint64_t *a, uint64_t *b, int shift, uint64_t mask)
{
    uint64_t t = ((*a >> shift) ^ *b) & mask;
    *b ^= t;
    *a ^= t << shift;
}

// Byte i of word j becomes byte j of word i.
static inline void transpose_bytes(uint64_t w[8])
{
    for (int i = 0; i < 4; i++)
        exchange(&w[i], &w[i + 4], 32, 0x00000000ffffffffu);
    for (int i = 0; i < 8; i++)
        if ((i & 2) == 0)
            exchange(&w[i], &w[i + 2], 16, 0x0000ffff0000ffffu);
    for (int i = 0; i < 8; i += 2)
        exchange(&w[i], &w[i + 1], 8, 0x00ff00ff00ff00ffu);
}

static inline uint64_t load_word(const uint8_t *p)
{
    uint64_t word;
    memcpy(&word, p, sizeof word);
    return word;
}

// Neurons [8*part, +8) and [16 + 8*part, +8) of eight outputs and of the eight 64 above
// them, whose blocks are given (NULL: no such output): 8 bytes each, from `at` in their runs.
static void pack_eight(const uint8_t *const low[8], const uint8_t *const high[8], uint32_t part,
                       uint8_t *at, size_t run_bytes)
{
    const uint64_t nibbles = 0x0f0f0f0f0f0f0f0fu;
    uint64_t first[8], second[8];
    for (int i = 0; i < 8; i++) {
        uint64_t a = low[i] ? load_word(low[i] + 2 + 8 * part) : 0;
        uint64_t b = high[i] ? load_word(high[i] + 2 + 8 * part) : 0;
        first[i] = (a & nibbles) | (b & nibbles) << 4;
        second[i] = (a >> 4 & nibbles) | (b & ~nibbles);
    }
    transpose_bytes(first);
    transpose_bytes(second);
    for (uint32_t i = 0; i < 8; i++) {
        memcpy(at + (8 * part + i) * run_bytes, &first[i], 8);
        memcpy(at + (16 + 8 * part + i) * run_bytes, &second[i], 8);
    }
}

// Column-blocks of down (rows are outputs) become the down halves of 32 neurons.
static void pack_down_group(const stk_bundle *b, const uint8_t *down, uint32_t group, uint8_t *base)
{
    uint32_t row_bytes = b->ffn_width / 32 * Q4_BLOCK_BYTES;
    const uint8_t *blocks = down + (size_t)group * Q4_BLOCK_BYTES;
    uint8_t *runs = base + b->scales_bytes + b->up_bytes;
    memset(base + 2 * (size_t)b->width, 0, b->scales_bytes - 2 * b->width);
    for (uint32_t o = 0; o < b->width; o++)
        memcpy(base + 2 * (size_t)o, blocks + (size_t)o * row_bytes, 2);
    // Bytes [byte, byte+8) of a run hold outputs 4L+16k+i: i = 0..3, two neighbouring k.
    for (uint32_t byte = 0; byte < round_up(b->width, 128) / 2; byte += 8) {
        const uint8_t *low[8], *high[8];
        for (uint32_t i = 0; i < 8; i++) {
            uint32_t lane = byte % 64 / 16, k = (byte % 16 + i) / 4;
            uint32_t o = byte / 64 * 128 + 16 * k + 4 * lane + i % 4;
            low[i] = o < b->width ? blocks + (size_t)o * row_bytes : NULL;
            high[i] = o + 64 < b->width ? blocks + (size_t)(o + 64) * row_bytes : NULL;
        }
        for (uint32_t part = 0; part < 2; part++)
            pack_eight(low, high, part, runs + byte, b->run_bytes);
    }
}

void stk_bundle_pack(const stk_bundle *b, const void *up, const void *down, void *packed)
{
    uint32_t blocks = b->width / 32, row_bytes = blocks * Q4_BLOCK_BYTES;
    for (uint32_t g = 0; g < b->ffn_width / 32; g++) {
        uint8_t *base = (uint8_t *)packed + (size_t)g * b->group_bytes;
        for (uint32_t j = 0; j < 32; j++) {
            size_t row = (size_t)(32 * g + j) * row_bytes;
            uint8_t *run = base + b->scales_bytes + (size_t)j * b->run_bytes;
            pack_row_pair((const uint8_t *)up + row, blocks, b->up_bytes, run);
            if (b->scales_bytes == 0)
                pack_row_pair((const uint8_t *)down + row, blocks, b->up_bytes, run + b->up_bytes);
        }
        if (b->scales_bytes != 0)
            pack_down_group(b, down, g, base);
    }
}
