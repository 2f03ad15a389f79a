// cpu/x86/attend_avx512.h: attention of a few queries that see the same positions, AVX-512.
//
// Decode's case: the query heads of one KV head; a prompt's rows come in groups as large. Keys and
// values are turned into floats once, in registers, and meet all queries there; ops_v16.h, for
// queries that do not see the same, goes through memory. The sums are the law's, in its order.
// Included only by ops_avx512.c, behind ops_v16.h.
#include <stdbool.h>

// Sums are registers: those of every query for 4 positions, or for 4 times 16 columns, where 24
// hold them, else for 2. Each load of a query's values, or of its weight, then meets as many.
enum { FEW_MAX = 8, FEW_SUMS = 24, FEW_WIDE = 4, FEW_NARROW = 2 };

static inline uint32_t few_width(uint32_t count)
{
    return count * FEW_WIDE <= FEW_SUMS ? FEW_WIDE : FEW_NARROW;
}

// Asks for the lines of a block's successors, one by one as the block's own are used: more at once
// than the core can have under way would stop it. In assembly, because compilers move prefetches
// past each other, and two for L2 followed by two for L1 cost a fifth of the bandwidth.
typedef struct few_ahead {
    const char *near_rows, *far_rows; // the next to be asked for, into L1 and into L2
} few_ahead;

static inline few_ahead few_ahead_of(const stream_v16 *stream, uint32_t index)
{
    return (few_ahead){stream_at_v16(stream, index + ATTEND_NEAR),
                       stream_at_v16(stream, index + ATTEND_FAR)};
}

static inline void few_ask(few_ahead *ahead, uint32_t lines)
{
    for (; lines > 0; lines--, ahead->near_rows += 64, ahead->far_rows += 64)
        __asm__ volatile("prefetcht0 (%0)\n\tprefetcht1 (%1)"
                         :
                         : "r"(ahead->near_rows), "r"(ahead->far_rows));
}

// To q[head_dim/16][query][16], so that one address finds the values of all queries: with one for
// each, seven left too few registers for addresses. Up to six are faster without.
static inline void few_pack(const stk_attend_query *queries, uint32_t count, uint32_t head_dim,
                            float *q)
{
    for (uint32_t c = 0; c < head_dim; c += 16)
        for (uint32_t i = 0; i < count; i++, q += 16)
            v_store(q, v_load(queries[i].q + c));
}

// Scores of positions [at, at+16), of which [begin, end) are read.
static inline __attribute__((always_inline)) void
few_scores(const stk_attend_query *queries, const float *q, uint32_t count, uint32_t head_dim,
           const uint16_t *k, uint32_t at, uint32_t begin, uint32_t end, v16 factor,
           float (*p)[STK_SEGMENT_TOKENS], few_ahead ahead)
{
    v16 sums[FEW_MAX][ATTEND_BLOCK];
    const uint32_t width = few_width(count);
    for (uint32_t j = 0; j < ATTEND_BLOCK; j += width) {
        const uint16_t *row[FEW_WIDE];
        v16 a[FEW_MAX][FEW_WIDE], x[FEW_WIDE];
        for (uint32_t n = 0; n < width; n++) { // the nearest stand in for those outside
            uint32_t position = at + j + n;
            position = position < begin ? begin : position < end ? position : end - 1;
            row[n] = k + (size_t)position * head_dim;
        }
        for (uint32_t i = 0; i < count; i++)
            for (uint32_t n = 0; n < width; n++)
                a[i][n] = v_set1(0);
        const float *values = q;
#pragma GCC unroll 1
        for (uint32_t c = 0; c < head_dim; c += 16) {
            for (uint32_t n = 0; n < width; n++)
                x[n] = v_load_half(row[n] + c);
            few_ask(&ahead, width / 2);
            for (uint32_t i = 0; i < count; i++, values += 16) {
                v16 y = v_load(width == FEW_NARROW ? values : queries[i].q + c);
                if (width == FEW_NARROW)
                    __asm__("" : "+v"(y)); // else it is loaded again for every product
                for (uint32_t n = 0; n < width; n++)
                    a[i][n] = v_fma(y, x[n], a[i][n]);
            }
        }
        for (uint32_t i = 0; i < count; i++)
            for (uint32_t n = 0; n < width; n++)
                sums[i][j + n] = a[i][n];
    }
    for (uint32_t i = 0; i < count; i++)
        v_store(p[i] + at, v_mul(v_halve16(sums[i]), factor));
}

// Adds positions [from, to) of v to every query's o.
static inline __attribute__((always_inline)) void
few_values(stk_attend_query *queries, uint32_t count, uint32_t head_dim, const uint16_t *v,
           uint32_t from, uint32_t to, float (*p)[STK_SEGMENT_TOKENS], few_ahead ahead)
{
    const uint32_t width = few_width(count);
    for (uint32_t column = 0; column < head_dim; column += 16 * width) {
        v16 o[FEW_MAX][FEW_WIDE], x[FEW_WIDE];
        for (uint32_t i = 0; i < count; i++)
            for (uint32_t c = 0; c < width; c++)
                o[i][c] = v_load(queries[i].state.o + column + 16 * c);
#pragma GCC unroll 1
        for (uint32_t j = from; j < to; j++) {
            const uint16_t *row = v + (size_t)j * head_dim + column;
            for (uint32_t c = 0; c < width; c++)
                x[c] = v_load_half(row + 16 * c);
            few_ask(&ahead, width / 2);
            for (uint32_t i = 0; i < count; i++) {
                v16 weight = v_set1(p[i][j]);
                for (uint32_t c = 0; c < width; c++)
                    o[i][c] = v_fma(weight, x[c], o[i][c]);
            }
        }
        for (uint32_t i = 0; i < count; i++)
            for (uint32_t c = 0; c < width; c++)
                v_store(queries[i].state.o + column + 16 * c, o[i][c]);
    }
}

static inline __attribute__((always_inline)) void attend_few(stk_attend_query *queries,
                                                             uint32_t count, uint32_t head_dim,
                                                             const stk_attend_segment *segment,
                                                             float scale)
{
    _Alignas(64) float p[FEW_MAX][STK_SEGMENT_TOKENS];
    _Alignas(64) float q[FEW_MAX * STK_HEAD_DIM_MAX];
    uint32_t begin = queries[0].begin, end = queries[0].end, index = 0;
    uint32_t first = begin / ATTEND_BLOCK * ATTEND_BLOCK;
    const stream_v16 stream = stream_of_v16(segment, head_dim, first, end);
    if (few_width(count) == FEW_NARROW)
        few_pack(queries, count, head_dim, q);
    for (uint32_t i = 0; i < count; i++)
        memset(queries[i].state.o, 0, head_dim * sizeof *queries[i].state.o);
    for (uint32_t at = first; at < end; at += ATTEND_BLOCK, index++)
        few_scores(queries, q, count, head_dim, segment->k, at, begin, end, v_set1(scale), p,
                   few_ahead_of(&stream, index));
    for (uint32_t i = 0; i < count; i++)
        weights_v16(&queries[i], p[i]);
    for (uint32_t at = first; at < end; at += ATTEND_BLOCK, index++) {
        uint32_t from = at < begin ? begin : at;
        uint32_t to = end - at < ATTEND_BLOCK ? end : at + ATTEND_BLOCK;
        few_values(queries, count, head_dim, segment->v, from, to, p, few_ahead_of(&stream, index));
    }
}

static bool see_the_same(const stk_attend_query *queries, uint32_t count)
{
    for (uint32_t i = 1; i < count; i++)
        if (queries[i].begin != queries[0].begin || queries[i].end != queries[0].end)
            return false;
    return true;
}

// As attend_v16 for up to FEW_MAX queries that see the same.
static void attend_group(stk_attend_query *queries, uint32_t count, uint32_t head_dim,
                         const stk_attend_segment *segment, float scale)
{
    switch (count) { // so that the sums of each are registers
    case 1:
        attend_few(queries, 1, head_dim, segment, scale);
        break;
    case 2:
        attend_few(queries, 2, head_dim, segment, scale);
        break;
    case 3:
        attend_few(queries, 3, head_dim, segment, scale);
        break;
    case 4:
        attend_few(queries, 4, head_dim, segment, scale);
        break;
    case 5:
        attend_few(queries, 5, head_dim, segment, scale);
        break;
    case 6:
        attend_few(queries, 6, head_dim, segment, scale);
        break;
    case 7:
        attend_few(queries, 7, head_dim, segment, scale);
        break;
    default:
        attend_few(queries, 8, head_dim, segment, scale);
    }
}

static void attend_avx512(stk_attend_query *queries, uint32_t count, uint32_t head_dim,
                          const stk_attend_segment *segment, float scale)
{
    if (head_dim % (16 * FEW_WIDE) != 0 || !see_the_same(queries, count)) {
        attend_v16(queries, count, head_dim, segment, scale);
        return;
    }
    // A prompt's rows, where they see all of a segment: groups that have the widest sums, one after
    // the other. Only the last has what comes next to ask for.
    uint32_t groups = count <= FEW_MAX ? 1 : (count * FEW_WIDE + FEW_SUMS - 1) / FEW_SUMS;
    const stk_attend_segment again = {segment->k, segment->v, NULL};
    for (uint32_t g = 0; g < groups; g++) {
        uint32_t begin = count * g / groups, end = count * (g + 1) / groups;
        attend_group(queries + begin, end - begin, head_dim, g + 1 < groups ? &again : segment,
                     scale);
    }
}
