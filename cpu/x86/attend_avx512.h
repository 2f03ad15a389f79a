// cpu/x86/attend_avx512.h: attention of a few queries that see the same positions, AVX-512.
//
// Decode's case: the query heads of one KV head. Keys and values are turned into floats once, in
// registers, and meet all queries there; ops_v16.h goes through memory, which pays for many
// queries. The sums are the law's, in its order. Included only by ops_avx512.c, behind ops_v16.h.
#include <stdbool.h>

enum { FEW_MAX = 8, FEW_COLUMNS = 2 }; // 8 queries x 2 columns of 16 floats, and their values

// Scores of positions [at, at+16), of which [begin, end) are read.
static inline __attribute__((always_inline)) void
few_scores(const stk_attend_query *queries, uint32_t count, uint32_t head_dim, const uint16_t *k,
           uint32_t at, uint32_t begin, uint32_t end, v16 factor, float (*p)[STK_SEGMENT_TOKENS],
           const stream_v16 *stream, uint32_t index)
{
    v16 sums[FEW_MAX][ATTEND_BLOCK];
    for (uint32_t j = 0; j < ATTEND_BLOCK; j += 2) {
        const uint16_t *row[2];
        v16 a[FEW_MAX], b[FEW_MAX];
        prefetch_v16(stream, index, j / 2, ATTEND_BLOCK / 2);
        for (uint32_t n = 0; n < 2; n++) { // the nearest stand in for those outside
            uint32_t position = at + j + n;
            position = position < begin ? begin : position < end ? position : end - 1;
            row[n] = k + (size_t)position * head_dim;
        }
        for (uint32_t i = 0; i < count; i++)
            a[i] = b[i] = v_set1(0);
        for (uint32_t c = 0; c < head_dim; c += 16) {
            v16 k0 = v_load_half(row[0] + c), k1 = v_load_half(row[1] + c);
            for (uint32_t i = 0; i < count; i++) {
                v16 q = v_load(queries[i].q + c);
                a[i] = v_fma(q, k0, a[i]);
                b[i] = v_fma(q, k1, b[i]);
            }
        }
        for (uint32_t i = 0; i < count; i++) {
            sums[i][j] = a[i];
            sums[i][j + 1] = b[i];
        }
    }
    for (uint32_t i = 0; i < count; i++)
        v_store(p[i] + at, v_mul(v_halve16(sums[i]), factor));
}

// Adds positions [from, to) of v to every query's o.
static inline __attribute__((always_inline)) void
few_values(stk_attend_query *queries, uint32_t count, uint32_t head_dim, const uint16_t *v,
           uint32_t from, uint32_t to, float (*p)[STK_SEGMENT_TOKENS], const stream_v16 *stream,
           uint32_t index)
{
    uint32_t columns = head_dim / (16 * FEW_COLUMNS);
    for (uint32_t column = 0; column < head_dim; column += 16 * FEW_COLUMNS) {
        v16 o[FEW_MAX][FEW_COLUMNS];
        prefetch_v16(stream, index, column / (16 * FEW_COLUMNS), columns);
        for (uint32_t i = 0; i < count; i++)
            for (uint32_t c = 0; c < FEW_COLUMNS; c++)
                o[i][c] = v_load(queries[i].state.o + column + 16 * c);
        for (uint32_t j = from; j < to; j++) {
            const uint16_t *row = v + (size_t)j * head_dim + column;
            v16 x[FEW_COLUMNS];
            for (uint32_t c = 0; c < FEW_COLUMNS; c++)
                x[c] = v_load_half(row + 16 * c);
            for (uint32_t i = 0; i < count; i++) {
                v16 weight = v_set1(p[i][j]);
                for (uint32_t c = 0; c < FEW_COLUMNS; c++)
                    o[i][c] = v_fma(weight, x[c], o[i][c]);
            }
        }
        for (uint32_t i = 0; i < count; i++)
            for (uint32_t c = 0; c < FEW_COLUMNS; c++)
                v_store(queries[i].state.o + column + 16 * c, o[i][c]);
    }
}

static inline __attribute__((always_inline)) void attend_few(stk_attend_query *queries,
                                                             uint32_t count, uint32_t head_dim,
                                                             const uint16_t *k, const uint16_t *v,
                                                             float scale)
{
    _Alignas(64) float p[FEW_MAX][STK_SEGMENT_TOKENS];
    uint32_t begin = queries[0].begin, end = queries[0].end, index = 0;
    uint32_t first = begin / ATTEND_BLOCK * ATTEND_BLOCK;
    const stream_v16 stream = {k, v, head_dim, first,
                               (end - first + ATTEND_BLOCK - 1) / ATTEND_BLOCK};
    for (uint32_t i = 0; i < count; i++)
        memset(queries[i].state.o, 0, head_dim * sizeof *queries[i].state.o);
    for (uint32_t at = first; at < end; at += ATTEND_BLOCK, index++)
        few_scores(queries, count, head_dim, k, at, begin, end, v_set1(scale), p, &stream, index);
    for (uint32_t i = 0; i < count; i++)
        weights_v16(&queries[i], p[i]);
    for (uint32_t at = first; at < end; at += ATTEND_BLOCK, index++) {
        uint32_t from = at < begin ? begin : at;
        uint32_t to = end - at < ATTEND_BLOCK ? end : at + ATTEND_BLOCK;
        few_values(queries, count, head_dim, v, from, to, p, &stream, index);
    }
}

static bool see_the_same(const stk_attend_query *queries, uint32_t count)
{
    for (uint32_t i = 1; i < count; i++)
        if (queries[i].begin != queries[0].begin || queries[i].end != queries[0].end)
            return false;
    return true;
}

static void attend_avx512(stk_attend_query *queries, uint32_t count, uint32_t head_dim,
                          const uint16_t *k, const uint16_t *v, float scale)
{
    if (head_dim % (16 * FEW_COLUMNS) != 0 || !see_the_same(queries, count)) {
        attend_v16(queries, count, head_dim, k, v, scale);
        return;
    }
    switch (count) { // so that the sums of each are registers
    case 1:
        attend_few(queries, 1, head_dim, k, v, scale);
        break;
    case 2:
        attend_few(queries, 2, head_dim, k, v, scale);
        break;
    case 3:
        attend_few(queries, 3, head_dim, k, v, scale);
        break;
    case 4:
        attend_few(queries, 4, head_dim, k, v, scale);
        break;
    case 5:
        attend_few(queries, 5, head_dim, k, v, scale);
        break;
    case 6:
        attend_few(queries, 6, head_dim, k, v, scale);
        break;
    case 7:
        attend_few(queries, 7, head_dim, k, v, scale);
        break;
    case 8:
        attend_few(queries, 8, head_dim, k, v, scale);
        break;
    default:
        attend_v16(queries, count, head_dim, k, v, scale);
    }
}
