// cpu/x86/dense_panel.h: dense products, a group's sixteen rows in the lanes of registers.
//
// Included after a dot_*.h. One token streams the weights; several are taken as panels (panel.h),
// whose accumulators are a[block mod 8][token][row].
#include "cpu/ref/ref.h"
#include "cpu/x86/panel.h"
#include "cpu/x86/x16.h"
#include "cpu/x86/x86.h"

static inline __attribute__((always_inline)) void load_q4_0(const uint8_t *values, __m256i w[8])
{
    for (int c = 0; c < 4; c++) {
        __m256i raw = load32(values + 64 * c);
        w[c] = low_nibbles(raw);
        w[4 + c] = high_nibbles(raw);
    }
}

static inline __attribute__((always_inline)) void load_q8_0(const uint8_t *values, __m256i w[8])
{
    for (int c = 0; c < 8; c++)
        w[c] = load_bytes(values + 64 * c);
}

// What the products of a type are made of.
typedef struct product {
    const x16_type *type;
    int32_t bias;
    void (*load)(const uint8_t *values, __m256i w[8]);
    dot_fn dot;
} product;

static const product q4_0 = {&x16_q4_0, 8, load_q4_0, dot_nibbles};
static const product q8_0 = {&x16_q8_0, BYTES_BIAS, load_q8_0, dot_bytes};

// y[LANES] = the halving tree of eight accumulators, `stride` floats apart.
static inline void halve8(const float *a, size_t stride, float *y)
{
    __m256 s[8];
    for (size_t i = 0; i < 8; i++)
        s[i] = _mm256_load_ps(a + i * stride);
    for (int n = 4; n >= 1; n /= 2)
        for (int i = 0; i < n; i++)
            s[i] = _mm256_add_ps(s[i], s[i + n]);
    _mm256_storeu_ps(y, s[0]);
}

// Sixteen rows with one token. The accumulators a[block mod 8][row] lie in memory: two passes with
// registers would read the weights in the first only and leave memory idle in the second.
static inline __attribute__((always_inline)) void dot_one(const uint8_t *group, const product *p,
                                                          uint32_t blocks, const stk_act *act,
                                                          float *y, stk_ahead *ahead)
{
    _Alignas(32) float a[8][X16_ROWS] = {{0}};
    for (uint32_t b = 0; b < blocks; b++) {
        const uint8_t *pair = x16_pair(group, p->type, b);
        const uint8_t *values = x16_values(pair, p->type, b);
        __m256i bias = _mm256_set1_epi32(p->bias ? -p->bias * act->sum[b] : 0);
        __m256 d = _mm256_set1_ps(act->d[b]);
        x16_prefetch(pair, p->type, b);
        if (ahead)
            stk_ahead_place(ahead);
        for (uint32_t row = 0; row < X16_ROWS; row += LANES) {
            __m256i w[8];
            p->load(values + 4 * row, w);
            __m256i sum = p->dot(w, act->q + 32 * (size_t)b, bias);
            __m256 scale = _mm256_mul_ps(load_halves(x16_scales(pair, b) + 2 * row), d);
            __m256 *to = (__m256 *)(a[b % 8] + row);
            *to = _mm256_add_ps(*to, _mm256_mul_ps(_mm256_cvtepi32_ps(sum), scale));
        }
    }
    for (uint32_t row = 0; row < X16_ROWS; row += LANES)
        halve8(&a[0][row], X16_ROWS, y + row);
}

// Sixteen rows with every token of a panel.
static inline __attribute__((always_inline)) void multiply_group(const uint8_t *group,
                                                                 const product *p, uint32_t blocks,
                                                                 const panel *x, float *y,
                                                                 size_t y_stride)
{
    _Alignas(64) float a[8][PANEL_TOKENS_MAX * X16_ROWS];
    for (int i = 0; i < 8; i++)
        memset(a[i], 0, x->count * X16_ROWS * sizeof *a[i]);
    for (uint32_t b = 0; b < blocks; b++) {
        const uint8_t *pair = x16_pair(group, p->type, b);
        for (uint32_t row = 0; row < X16_ROWS; row += LANES) {
            __m256i w[8];
            p->load(x16_values(pair, p->type, b) + 4 * row, w);
            panel_add_block(w, load_halves(x16_scales(pair, b) + 2 * row), p->dot, x, b,
                            a[b % 8] + row, X16_ROWS);
        }
    }
    for (uint32_t t = 0; t < x->count; t++)
        for (uint32_t row = 0; row < X16_ROWS; row += LANES)
            halve8(&a[0][X16_ROWS * t + row], PANEL_TOKENS_MAX * X16_ROWS, y + t * y_stride + row);
}

static inline __attribute__((always_inline)) void matmul(const stk_matrix *w, const product *p,
                                                         uint32_t row_begin, uint32_t row_end,
                                                         const stk_act *acts, uint32_t count,
                                                         float *y, size_t y_stride, uint8_t *buffer)
{
    uint32_t blocks = w->cols / 32, most = panel_tokens_max(blocks);
    most = most ? most : 1;
    for (uint32_t at = 0; at < count; at += most) {
        uint32_t n = count - at < most ? count - at : most;
        panel x;
        if (n > 1)
            panel_load(acts + at, n, blocks, p->bias, &x);
        for (uint32_t row = row_begin; row < row_end; row += X16_ROWS) {
            const uint8_t *group = x16_group(w, p->type, row, buffer);
            float *to = y + at * y_stride + row - row_begin;
            if (n > 1)
                multiply_group(group, p, blocks, &x, to, y_stride);
            else
                dot_one(group, p, blocks, acts + at, to, NULL);
        }
    }
}

static inline __attribute__((always_inline)) void gate(const stk_matrix *w, const product *p,
                                                       uint32_t row_begin, uint32_t row_end,
                                                       const stk_act *act, stk_ahead *ahead,
                                                       float *y)
{
    x16_spread(w, row_begin, row_end, ahead);
    for (uint32_t row = row_begin; row < row_end; row += X16_ROWS, y += X16_ROWS)
        dot_one(x16_group(w, p->type, row, NULL), p, w->cols / 32, act, y, ahead);
    stk_ahead_some(ahead, STK_AHEAD_RUNS_MAX);
}

// The same for a bundle's up rows.
static inline void matmul_bundle(const stk_matrix *w, uint32_t row_begin, uint32_t row_end,
                                 const stk_act *acts, uint32_t count, float *y, size_t y_stride)
{
    _Alignas(64) uint8_t buffer[BUNDLE_X16_BYTES_MAX];
    if (w->cols <= BUNDLE_X16_COLS_MAX)
        matmul(w, &q4_0, row_begin, row_end, acts, count, y, y_stride, buffer);
    else
        stk_matmul_ref(w, row_begin, row_end, acts, count, y, y_stride);
}
