// The shaders of attention and head against cpu/ref: to the bit but for attention itself, which has
// a tolerance and gives the same bits in every way it can be computed.
#include "tests/vulkan/shader_run.h"

// A block of activations as shaders/rows.glsl lays it out.
typedef struct block {
    uint32_t rows, n;
    uint8_t *bytes;
    size_t size;
} block;

static block block_new(uint32_t rows, uint32_t n)
{
    block b = {rows, n, NULL, (size_t)rows * n * 9 + (size_t)rows * n / 4};
    b.bytes = test_alloc(b.size);
    memset(b.bytes, 0x5c, b.size);
    return b;
}

// Row `row` holds x, its norm and that quantised.
static void expect_row(const char *name, const block *b, uint32_t row, const float *x,
                       const float *y)
{
    size_t all = (size_t)b->rows * b->n, at = (size_t)row * b->n;
    const uint8_t *d = b->bytes + all * 9 + at / 8, *sum = d + all / 8;
    int8_t *q = test_alloc(b->n);
    float *want_d = test_alloc(b->n / 8);
    int32_t *want_sum = test_alloc(b->n / 8);
    stk_quantize_ref(y, b->n, q, want_d, want_sum);
    expect_floats(name, (const float *)(const void *)(b->bytes + at * 4), x, b->n);
    expect_floats(name, (const float *)(const void *)(b->bytes + (all + at) * 4), y, b->n);
    assert_memory_equal(b->bytes + all * 8 + at, q, b->n);
    assert_memory_equal(d, want_d, b->n / 8);
    assert_memory_equal(sum, want_sum, b->n / 8);
    free(q);
    free(want_d);
    free(want_sum);
}

// To the bit: division and square root are the shader's own.
static void check_norm(uint32_t n, style s, float eps)
{
    enum { ROWS = 3, CAPACITY = 4 };
    float *x = test_alloc(ROWS * n * 4), *w = test_alloc(n * 4), *p = test_alloc(ROWS * n * 4);
    float *y = test_alloc(n * 4);
    block first = block_new(CAPACITY, n), local = block_new(CAPACITY, n), host = local;
    host.bytes = test_alloc(host.size);
    random_x(x, ROWS * n, s);
    random_x(p, ROWS * n, STYLE_RANDOM);
    random_x(w, n, STYLE_RANDOM);
    const stk_vk_run_buffer plain[] = {
        {x, ROWS * n * 4, false}, {w, n * 4, false}, {first.bytes, first.size, true}};
    const stk_vk_run_buffer add[] = {{x, ROWS * n * 4, false},
                                     {w, n * 4, false},
                                     {local.bytes, local.size, true},
                                     {p, ROWS * n * 4, false},
                                     {host.bytes, host.size, true}};
    const uint32_t constants[] = {n, CAPACITY, stk_float_bits(eps)};
    run(STK_VK_SHADER_norm_act, plain, 3, constants, 3, ROWS, 1);
    run(STK_VK_SHADER_norm_act_add, add, 5, constants, 3, ROWS, 1);
    for (uint32_t r = 0; r < ROWS; r++) {
        stk_rmsnorm_ref(x + r * n, w, eps, n, y);
        expect_row("norm_act", &first, r, x + r * n, y);
        for (uint32_t i = 0; i < n; i++)
            x[r * n + i] = x[r * n + i] + p[r * n + i];
        stk_rmsnorm_ref(x + r * n, w, eps, n, y);
        expect_row("norm_act_add", &local, r, x + r * n, y);
        expect_row("norm_act_add for the host", &host, r, x + r * n, y);
    }
    for (size_t i = (size_t)ROWS * n; i < (size_t)CAPACITY * n; i++) // the row that is not there
        assert_int_equal(first.bytes[4 * i], 0x5c);
    free(x);
    free(w);
    free(p);
    free(y);
    free(first.bytes);
    free(local.bytes);
    free(host.bytes);
}

static void test_norm(void **state)
{
    (void)state;
    static const uint32_t widths[] = {32, 96, 1024, 1536, 2560};
    for (size_t w = 0; w < sizeof widths / sizeof *widths; w++)
        for (style s = 0; s < STYLE_COUNT; s++) {
            check_norm(widths[w], s, 1e-6f);
            check_norm(widths[w], s, 1e-5f);
        }
    for (uint32_t i = 0; i < 40; i++) // many mantissas through division and root
        check_norm(32, STYLE_RANDOM, 1e-6f);
}

static float turned(const float *x, const float *angles, uint32_t half, uint32_t i)
{
    if (i >= 2 * half)
        return x[i];
    uint32_t p = i < half ? i : i - half;
    float a = x[p], b = x[p + half], c = angles[p], s = angles[half + p];
    float ac = a * c, bs = b * s, bc = b * c, as = a * s;
    return i < half ? ac - bs : bc + as;
}

// half: of the dimensions that turn, 0 for a layer without positions.
static void check_rope(uint32_t half)
{
    enum { DIM = 80, ANGLES = 64, HEADS = 3, KV = 2, ROWS = 3, CAPACITY = 8, SEQUENCES = 2 };
    enum { CACHE = SEQUENCES * KV * CAPACITY * DIM };
    float q[ROWS * HEADS * DIM], k[ROWS * KV * DIM], v[ROWS * KV * DIM], angles[ROWS * ANGLES];
    float want_q[ROWS * HEADS * DIM], row[DIM];
    const uint32_t batch[] = {ROWS, 0, 7, 0, 8, 0, 3, 1}; // count, unused; positions, sequences
    uint16_t keys[CACHE], values[CACHE], want_keys[CACHE], want_values[CACHE];
    random_x(q, ROWS * HEADS * DIM, STYLE_RANDOM);
    random_x(k, ROWS * KV * DIM, STYLE_RANDOM);
    random_x(v, ROWS * KV * DIM, STYLE_RANDOM);
    random_x(angles, ROWS * ANGLES, STYLE_RANDOM);
    v[0] = 1e-6f; // a denormal half, an overflow and a tie
    v[1] = 1e6f;
    v[2] = 1.00048828125f;
    memset(keys, 0x5c, sizeof keys);
    memset(values, 0x5c, sizeof values);
    memset(want_keys, 0x5c, sizeof keys);
    memset(want_values, 0x5c, sizeof values);
    for (uint32_t r = 0; r < ROWS; r++) {
        const float *turn = angles + r * ANGLES;
        for (uint32_t i = 0; i < HEADS * DIM; i++)
            want_q[r * HEADS * DIM + i] = turned(q + (r * HEADS + i / DIM) * DIM, turn, half,
                                                 i % DIM);
        for (uint32_t h = 0; h < KV; h++) {
            uint32_t ring = (batch[3 + 2 * r] * KV + h) * CAPACITY, from = (r * KV + h) * DIM;
            uint32_t to = (ring + batch[2 + 2 * r] % CAPACITY) * DIM;
            for (uint32_t i = 0; i < DIM; i++)
                row[i] = turned(k + from, turn, half, i);
            stk_to_half_ref(row, DIM, want_keys + to);
            stk_to_half_ref(v + from, DIM, want_values + to);
        }
    }
    uint32_t words[8];
    memcpy(words, batch, sizeof words);
    const stk_vk_run_buffer buffers[] = {
        {q, sizeof q, true},          {k, sizeof k, false},           {v, sizeof v, false},
        {words, sizeof words, false}, {angles, sizeof angles, false}, {keys, sizeof keys, true},
        {values, sizeof values, true}};
    const uint32_t constants[] = {DIM, half, ANGLES, HEADS, KV, CAPACITY};
    run(STK_VK_SHADER_rope_append, buffers, 7, constants, 6, HEADS + 2 * KV, ROWS);
    expect_floats("rope_append", q, want_q, ROWS * HEADS * DIM);
    assert_memory_equal(keys, want_keys, sizeof keys);
    assert_memory_equal(values, want_values, sizeof values);
}

static void test_rope_append(void **state)
{
    (void)state;
    check_rope(32);
    check_rope(0);
}

// A few rows of one sequence in a ring, and what each sees.
typedef struct attention {
    uint32_t dim, heads, kv_heads, capacity, window, first, rows;
    size_t q_size, kv_size;
    float *q, *want;
    uint16_t *k, *v; // [2 sequences][kv heads][capacity][dim]; the second one is used
    float scale;
} attention;

static void attend_ref(const attention *a, uint32_t row, uint32_t head)
{
    uint32_t end = a->first + row + 1, dim = a->dim;
    uint32_t begin = a->window != 0 && end > a->window ? end - a->window : 0;
    size_t at = ((size_t)row * a->heads + head) * dim;
    size_t ring = (a->kv_heads + head / (a->heads / a->kv_heads)) * (size_t)a->capacity;
    float *o = test_alloc(dim * 4);
    stk_attend_state total = {.o = a->want + at}, part = {.o = o};
    for (uint32_t s = begin / 256 * 256; s < end; s += 256) {
        bool is_first = s <= begin;
        size_t base = (ring + s % a->capacity) * dim;
        stk_attend_query query = {a->q + at, is_first ? begin - s : 0,
                                  end - s < 256 ? end - s : 256, is_first ? total : part};
        const stk_attend_segment segment = {a->k + base, a->v + base, NULL};
        stk_attend_ref(&query, 1, dim, &segment, a->scale);
        *(is_first ? &total : &part) = query.state;
        if (!is_first)
            stk_attend_merge_ref(&total, &part, dim);
    }
    for (uint32_t i = 0; i < dim; i++)
        total.o[i] /= total.l;
    free(o);
}

static uint32_t segments_of(const attention *a)
{
    return a->capacity / 256 + 1;
}

// got[rows][heads][dim] by one of the ways: tiles of so many rows, or a segment at a time.
static float *attend_by(const attention *a, stk_vk_shader shader, uint32_t queries,
                        uint32_t tile_rows)
{
    bool split = shader == STK_VK_SHADER_attend_split;
    uint32_t batch[2 + 2 * 8] = {a->rows}, tiles[2 * 8], tile_count = 0;
    for (uint32_t r = 0; r < a->rows; r++) {
        batch[2 + 2 * r] = a->first + r;
        batch[3 + 2 * r] = 1;
    }
    for (uint32_t r = 0; r < a->rows; r += tile_rows) {
        tiles[2 * tile_count] = r;
        tiles[2 * tile_count++ + 1] = a->rows - r < tile_rows ? a->rows - r : tile_rows;
    }
    size_t states_bytes = (size_t)a->rows * a->heads * segments_of(a) * (a->dim + 2) * 4;
    float *got = result_alloc(a->q_size), *states = test_alloc(states_bytes);
    uint32_t per_kv = a->heads / a->kv_heads;
    uint32_t units = a->kv_heads * ((per_kv + queries - 1) / queries) * ((a->dim + 127) / 128);
    const stk_vk_run_buffer y = {got, (a->q_size + CANARIES) * 4, true};
    const stk_vk_run_buffer s = {states, states_bytes, true};
    const stk_vk_run_buffer buffers[] = {
        {a->q, a->q_size * 4, false}, {a->k, a->kv_size * 2, false}, {a->v, a->kv_size * 2, false},
        {batch, sizeof batch, false}, {tiles, sizeof tiles, false},  split ? s : y};
    const uint32_t constants[] = {a->dim,        a->heads,  a->kv_heads,
                                  a->capacity,   a->window, stk_float_bits(a->scale),
                                  segments_of(a)};
    const uint32_t groups[3] = {units, tile_count, split ? segments_of(a) : 1};
    assert_int_equal(stk_vk_run(vk, shader, buffers, 6, constants, 7, groups), STK_OK);
    if (split) {
        const stk_vk_run_buffer join[] = {s, y, {batch, sizeof batch, false}};
        const uint32_t join_constants[] = {a->dim, segments_of(a), a->window};
        run(STK_VK_SHADER_attend_join, join, 3, join_constants, 3, a->heads, a->rows);
    }
    expect_canaries(got, a->q_size);
    free(states);
    return got;
}

// Fused or not, and the device's division: 1e-5. But every way gives the same bits.
static void check_attention(uint32_t dim, uint32_t per_kv, uint32_t capacity, uint32_t window,
                            uint32_t first, uint32_t rows)
{
    attention a = {dim, 2 * per_kv, 2,    capacity, window, first, rows,
                   0,   0,          NULL, NULL,     NULL,   NULL,  1.0f / sqrtf((float)dim)};
    a.q_size = (size_t)rows * a.heads * dim;
    a.kv_size = (size_t)2 * a.kv_heads * capacity * dim;
    a.q = test_alloc(a.q_size * 4);
    a.want = test_alloc(a.q_size * 4);
    a.k = test_alloc(a.kv_size * 2);
    a.v = test_alloc(a.kv_size * 2);
    random_x(a.q, a.q_size, STYLE_RANDOM);
    for (size_t i = 0; i < a.kv_size; i++) {
        a.k[i] = stk_half_from_float(test_float(&seed) * 4);
        a.v[i] = stk_half_from_float(test_float(&seed));
    }
    for (uint32_t r = 0; r < rows; r++)
        for (uint32_t h = 0; h < a.heads; h++)
            attend_ref(&a, r, h);
    float *split = attend_by(&a, STK_VK_SHADER_attend_split, 8, 1);
    float *few = attend_by(&a, STK_VK_SHADER_attend_few, 8, per_kv < 8 ? 8 / per_kv : 1);
    expect_near("attention", split, a.want, a.q_size, 1e-5);
    expect_floats("attention in tiles of 8", few, split, a.q_size);
    if (stk_vk_info(vk)->shared_bytes_max >= 32768) {
        float *many = attend_by(&a, STK_VK_SHADER_attend_many, 16, per_kv < 16 ? 16 / per_kv : 1);
        expect_floats("attention in tiles of 16", many, split, a.q_size);
        free(many);
    }
    free(split);
    free(few);
    free(a.q);
    free(a.want);
    free(a.k);
    free(a.v);
}

static void test_attention(void **state)
{
    (void)state;
    check_attention(64, 1, 256, 0, 0, 1);
    check_attention(128, 3, 512, 0, 254, 4);
    check_attention(128, 7, 1024, 0, 700, 2);
    check_attention(80, 3, 768, 700, 1000, 5); // a window over a ring that has wrapped
    check_attention(16, 12, 512, 100, 255, 3); // more heads than a tile of 8 takes
    check_attention(256, 2, 512, 0, 300, 2);
    check_attention(32, 20, 512, 2, 510, 4); // more than one of 16, and a window in two segments
}

static void test_argmax(void **state)
{
    (void)state;
    static const uint32_t sizes[] = {1, 5, 256, 257, 4096, 4097, 9001};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        enum { ROWS = 3 };
        uint32_t n = sizes[i], stride = n + 3, got[ROWS], places[ROWS * 3];
        uint32_t runs = (n + 4095) / 4096;
        float *x = test_alloc(ROWS * stride * 4);
        for (uint32_t j = 0; j < ROWS * stride; j++) // few values, so that many are equal
            x[j] = j % stride < n ? (float)(test_random(&seed) % 11) - 12 : 100;
        const stk_vk_run_buffer part[] = {{x, ROWS * stride * 4, false},
                                          {places, sizeof places, true}};
        const uint32_t part_constants[] = {n, stride};
        run(STK_VK_SHADER_argmax_part, part, 2, part_constants, 2, runs, ROWS);
        const stk_vk_run_buffer join[] = {
            {x, ROWS * stride * 4, false}, {places, sizeof places, false}, {got, sizeof got, true}};
        const uint32_t join_constants[] = {runs, stride};
        run(STK_VK_SHADER_argmax_join, join, 3, join_constants, 2, ROWS, 1);
        for (uint32_t r = 0; r < ROWS; r++) {
            uint32_t best = 0;
            for (uint32_t j = 1; j < n; j++)
                best = x[r * stride + j] > x[r * stride + best] ? j : best;
            assert_int_equal(got[r], best);
        }
        free(x);
    }
}

static int run_round(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_norm),
        cmocka_unit_test(test_rope_append),
        cmocka_unit_test(test_attention),
        cmocka_unit_test(test_argmax),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

int main(int argc, char **argv)
{
    return run_on_devices(argc, argv, run_round);
}
