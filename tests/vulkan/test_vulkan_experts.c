// Experts on a device against docs/arithmetic.md as cpu/ref writes it: equal to the bit, from
// device memory, from host memory in place, in any job.
#include "tests/vulkan/vulkan_test.h"

#include "base/pages.h"
#include "store/expert_layout.h"
#include "vulkan/experts.h"

enum { SLOTS = 5, ROWS = 6, PAIRS = 16, WIDTH_MAX = 1536, FFN_MAX = 768 };

// A model of one layer, enough for the store's layout.
typedef struct fixture {
    stk_model model;
    stk_layer layer;
    stk_gguf_tensor tensor;
    stk_expert_layout layout;
    uint8_t *slots[SLOTS];
    act_rows acts;
} fixture;

static void open_fixture(fixture *f, uint32_t width, uint32_t ffn, bool transposed, style s)
{
    memset(f, 0, sizeof *f);
    f->tensor.type = &stk_type_q4_0;
    f->layer.gate_experts = f->layer.up_experts = f->layer.down_experts = &f->tensor;
    f->model.width = width;
    f->model.ffn_width = ffn;
    f->model.down_layout = transposed ? STK_DOWN_ROWS_ARE_NEURONS : STK_DOWN_ROWS_ARE_OUTPUTS;
    f->layout = stk_expert_layout_of(&f->model, &f->layer);
    for (uint32_t i = 0; i < SLOTS; i++) {
        uint8_t *gate = random_rows(&stk_type_q4_0, 0, ffn, width, s);
        uint8_t *up = random_rows(&stk_type_q4_0, 0, ffn, width, s);
        uint8_t *down = random_rows(&stk_type_q4_0, 0, f->layout.down.rows, f->layout.down.cols, s);
        if (i == 1) // an expert that no row wakes
            for (uint32_t b = 0; b < ffn * (width / 32); b++)
                memset(gate + b * 18, 0, 2);
        f->slots[i] = stk_pages_alloc(f->layout.slot_bytes);
        assert_non_null(f->slots[i]);
        stk_expert_pack_slice(&f->layout, STK_SLICE_GATE, gate, f->slots[i]);
        stk_expert_pack_slice(&f->layout, STK_SLICE_UP, up, f->slots[i]);
        stk_expert_pack_slice(&f->layout, STK_SLICE_DOWN, down, f->slots[i]);
        free(gate);
        free(up);
        free(down);
    }
    f->acts = random_acts(width, ROWS, s);
}

static void close_fixture(fixture *f)
{
    for (uint32_t i = 0; i < SLOTS; i++)
        stk_pages_free(f->slots[i], f->layout.slot_bytes);
    free_acts(&f->acts);
}

// Section 4, word for word.
static void reference(const fixture *f, uint32_t row, uint32_t slot, float *y)
{
    static float gate[FFN_MAX], u[FFN_MAX], h[FFN_MAX], d[FFN_MAX / 32], parts[4][WIDTH_MAX];
    static int8_t q[FFN_MAX];
    static int32_t sum[FFN_MAX / 32];
    static uint32_t active[FFN_MAX], first[FFN_MAX / 32 + 1];
    uint32_t ffn = f->model.ffn_width, groups = ffn / 32, count = 0;
    stk_expert_places places = stk_expert_packed_places(&f->layout);
    stk_expert e = stk_expert_at(&f->layout, &places, f->slots[slot]);
    stk_act act = act_of(&f->acts, row);
    stk_matmul_ref(&e.gate, 0, ffn, &act, 1, gate, ffn);
    for (uint32_t j = 0; j < ffn; j++) {
        if (j % 32 == 0)
            first[j / 32] = count;
        if (gate[j] > 0)
            active[count++] = j;
    }
    first[groups] = count;
    stk_gather_ref(&e.up, active, count, &act, u);
    memset(h, 0, sizeof h);
    for (uint32_t a = 0; a < count; a++)
        h[active[a]] = gate[active[a]] * u[a];
    stk_quantize_ref(h, ffn, q, d, sum);
    stk_neurons n = {h, q, d, sum, active, first};
    memset(parts, 0, sizeof parts);
    for (uint32_t p = 0; p < 4; p++)
        stk_down_ref(&e.down, &n, groups * p / 4, groups * (p + 1) / 4, parts[p]);
    stk_sum_parts_ref(parts[0], WIDTH_MAX, f->model.width, y);
}

static stk_vk_experts *open_experts(const fixture *f, uint32_t resident, uint32_t imported)
{
    stk_vk_experts *e = NULL;
    stk_vk_experts_options options = {.vk = vk,
                                      .bundle = f->layout.bundle,
                                      .bundle_at = f->layout.up_at,
                                      .slot_bytes = f->layout.slot_bytes,
                                      .resident_slots = resident,
                                      .imported_slots = imported,
                                      .rows_max = ROWS,
                                      .pairs_max = PAIRS,
                                      .jobs_max = 2};
    assert_int_equal(stk_vk_experts_open(&options, &e), STK_OK);
    return e;
}

static uint32_t submit(stk_vk_experts *e, const fixture *f, const stk_vk_pair *pairs,
                       uint32_t count)
{
    stk_vk_row rows[ROWS];
    uint32_t job = UINT32_MAX, row_count = 0; // up to four are computed pair by pair
    for (uint32_t p = 0; p < count; p++)
        row_count = pairs[p].row >= row_count ? pairs[p].row + 1 : row_count;
    for (uint32_t r = 0; r < row_count; r++) {
        stk_act act = act_of(&f->acts, r);
        rows[r] = (stk_vk_row){act.q, act.d, act.sum};
    }
    assert_int_equal(stk_vk_experts_submit(e, rows, row_count, pairs, count, &job), STK_OK);
    return job;
}

// slot_of[pair's slot]: which of the fixture's experts that slot holds.
static void expect_job(stk_vk_experts *e, const fixture *f, uint32_t job, const stk_vk_pair *pairs,
                       uint32_t count, const uint32_t *slot_of)
{
    float want[WIDTH_MAX];
    stk_status status = stk_vk_experts_poll(e, job);
    assert_true(status == STK_OK || status == STK_PENDING);
    assert_int_equal(stk_vk_experts_wait(e, job), STK_OK);
    assert_int_equal(stk_vk_experts_poll(e, job), STK_OK);
    for (uint32_t p = 0; p < count; p++) {
        reference(f, pairs[p].row, slot_of[pairs[p].slot], want);
        expect_floats("expert", stk_vk_experts_output(e, job, p), want, f->model.width);
    }
    stk_vk_experts_release(e, job);
}

static void check(uint32_t width, uint32_t ffn, bool transposed, style s)
{
    static const stk_vk_pair pairs[] = {{0, 0}, {1, 1}, {2, 2}, {0, 3}, {5, 2}, {4, 0}, {5, 4}};
    // tiles of 4, 2, 3 and 1
    static const stk_vk_pair tiles[] = {{0, 1}, {1, 1}, {2, 1}, {3, 1}, {4, 1},
                                        {5, 1}, {5, 0}, {0, 0}, {3, 0}, {2, 4}};
    static const uint32_t same[] = {0, 1, 2, 3, 4};
    fixture f;
    open_fixture(&f, width, ffn, transposed, s);
    stk_vk_experts *e = open_experts(&f, SLOTS, 0);
    for (uint32_t i = 0; i < SLOTS; i++)
        assert_int_equal(stk_vk_experts_upload(e, i, f.slots[i]), STK_OK);
    uint32_t first = submit(e, &f, pairs, 7), second = submit(e, &f, pairs + 3, 1);
    expect_job(e, &f, first, pairs, 7, same);
    expect_job(e, &f, second, pairs + 3, 1, same);
    expect_job(e, &f, submit(e, &f, tiles, 10), tiles, 10, same);
    expect_job(e, &f, submit(e, &f, pairs, 4), pairs, 4, same);
    stk_vk_experts_close(&e);
    assert_null(e);
    close_fixture(&f);
}

static void test_equal_reference(void **state)
{
    (void)state;
    static const uint32_t sizes[][2] = {{32, 32},   {96, 64},   {128, 96},  {288, 160},
                                        {416, 608}, {512, 768}, {1536, 768}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (style s = 0; s < STYLE_COUNT; s++) {
            check(sizes[i][0], sizes[i][1], false, s);
            check(sizes[i][0], sizes[i][1], true, s);
        }
}

// Slots change hands while jobs are in flight; every job sees what was there when it was submitted.
static void test_upload_under_way(void **state)
{
    (void)state;
    fixture f;
    open_fixture(&f, 256, 128, false, STYLE_RANDOM);
    stk_vk_experts *e = open_experts(&f, 2, 0);
    uint32_t holds[2][2], jobs[2];
    const stk_vk_pair pairs[2] = {{0, 0}, {3, 1}};
    for (uint32_t step = 0; step < 40; step++) {
        uint32_t now = step % 2;
        if (step >= 2)
            expect_job(e, &f, jobs[now], pairs, 2, holds[now]);
        for (uint32_t slot = 0; slot < 2; slot++) {
            holds[now][slot] = (step + slot * 2) % SLOTS;
            assert_int_equal(stk_vk_experts_upload(e, slot, f.slots[holds[now][slot]]), STK_OK);
        }
        jobs[now] = submit(e, &f, pairs, 2);
    }
    stk_vk_experts_close(&e); // with two jobs nobody waited for
    close_fixture(&f);
}

static void test_import(void **state)
{
    (void)state;
    fixture f;
    open_fixture(&f, 288, 96, false, STYLE_RANDOM);
    stk_vk_experts *e = open_experts(&f, 1, 3);
    size_t align = stk_vk_info(vk)->import_align_bytes, bytes = 3 * f.layout.slot_bytes;
    uint32_t first = UINT32_MAX;
    assert_int_equal(stk_vk_experts_upload(e, 0, f.slots[4]), STK_OK);
    if (align == 0 || align > 4096) {
        assert_int_equal(stk_vk_experts_import(e, f.slots[0], 1, &first), STK_UNSUPPORTED);
        print_message("host memory cannot be used in place here\n");
    } else {
        static const uint32_t holds[] = {4, 0, 1, 2};
        static const stk_vk_pair pairs[] = {{0, 1}, {1, 3}, {2, 0}, {3, 2}};
        uint8_t *host = stk_pages_alloc(bytes);
        assert_non_null(host);
        assert_int_equal(stk_vk_experts_import(e, host + 64, 3, &first), STK_UNSUPPORTED);
        assert_int_equal(stk_vk_experts_import(e, host, 3, &first), STK_OK);
        assert_int_equal(first, 1);
        assert_int_equal(stk_vk_experts_import(e, host, 1, &first), STK_BUSY);
        for (uint32_t i = 0; i < 3; i++) // what the CPU writes now, the device reads
            memcpy(host + i * f.layout.slot_bytes, f.slots[i], f.layout.slot_bytes);
        expect_job(e, &f, submit(e, &f, pairs, 4), pairs, 4, holds);
        stk_vk_experts_close(&e);
        stk_pages_free(host, bytes);
    }
    stk_vk_experts_close(&e);
    close_fixture(&f);
}

static void test_limits(void **state)
{
    (void)state;
    fixture f;
    open_fixture(&f, 128, 32, false, STYLE_RANDOM);
    stk_vk_experts *e = open_experts(&f, 1, 0);
    stk_vk_row row = {f.acts.q, f.acts.d, f.acts.sum};
    const stk_vk_pair bad_slot = {0, 1}, bad_row = {1, 0}, good = {0, 0};
    uint32_t job = 9, jobs[2];
    assert_int_equal(stk_vk_experts_upload(e, 0, f.slots[0]), STK_OK);
    assert_int_equal(stk_vk_experts_submit(e, &row, 1, &bad_slot, 1, &job), STK_INVALID);
    assert_int_equal(stk_vk_experts_submit(e, &row, 1, &bad_row, 1, &job), STK_INVALID);
    assert_int_equal(stk_vk_experts_submit(e, &row, 1, &good, PAIRS + 1, &job), STK_INVALID);
    assert_int_equal(job, 9);
    for (int i = 0; i < 2; i++)
        assert_int_equal(stk_vk_experts_submit(e, &row, 1, &good, 1, &jobs[i]), STK_OK);
    assert_int_equal(stk_vk_experts_submit(e, &row, 1, &good, 1, &job), STK_BUSY);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(stk_vk_experts_wait(e, jobs[i]), STK_OK);
        stk_vk_experts_release(e, jobs[i]);
    }
    stk_vk_experts_close(&e);
    close_fixture(&f);
}

static void test_budget(void **state)
{
    (void)state;
    fixture f;
    open_fixture(&f, 512, 256, false, STYLE_RANDOM);
    stk_vk *small = NULL;
    stk_vk_experts *e = NULL;
    stk_vk_options device = {
        .log = &test_log, .device = stk_vk_info(vk)->name, .memory_bytes_max = 32 << 20};
    assert_int_equal(stk_vk_open(&device, &small), STK_OK);
    assert_int_equal(stk_vk_memory_bytes_max(small), 32 << 20);
    stk_vk_experts_options options = {.vk = small,
                                      .bundle = f.layout.bundle,
                                      .bundle_at = f.layout.up_at,
                                      .slot_bytes = f.layout.slot_bytes,
                                      .rows_max = 1,
                                      .pairs_max = 1,
                                      .jobs_max = 1};
    uint32_t many = (32 << 20) / (uint32_t)options.slot_bytes + 1;
    options.resident_slots = many; // fewer than that fit
    assert_int_equal(stk_vk_experts_open(&options, &e), STK_OK);
    uint32_t fit = stk_vk_experts_resident_slots(e);
    assert_true(fit < many && fit > many / 2);
    uint64_t full = stk_vk_memory_bytes(small);
    stk_vk_experts_shrink(e, 4);
    assert_int_equal(stk_vk_experts_resident_slots(e), 4);
    assert_true(stk_vk_memory_bytes(small) < full / 2);
    assert_int_equal(stk_vk_experts_upload(e, 3, f.slots[0]), STK_OK);
    assert_int_equal(stk_vk_experts_upload_poll(e, 3), STK_OK); // the slots are mapped
    stk_vk_experts_close(&e);
    options.resident_slots = 40;
    uint64_t taken = 0;
    for (int i = 0; i < 5; i++) { // what is given back is taken again
        assert_int_equal(stk_vk_experts_open(&options, &e), STK_OK);
        assert_int_equal(stk_vk_experts_upload(e, 39, f.slots[0]), STK_OK);
        stk_vk_experts_close(&e);
        assert_true(stk_vk_memory_bytes(small) <= 32 << 20);
        assert_true(i == 0 || stk_vk_memory_bytes(small) == taken);
        taken = stk_vk_memory_bytes(small);
    }
    options.slot_bytes *= 4; // what was given back has joined
    options.resident_slots = 10;
    assert_int_equal(stk_vk_experts_open(&options, &e), STK_OK);
    stk_vk_experts_close(&e);
    assert_int_equal(stk_vk_memory_bytes(small), taken);
    options.slot_bytes = 4096; // the bundle does not fit
    assert_int_equal(stk_vk_experts_open(&options, &e), STK_INVALID);
    stk_vk_close(&small);
    close_fixture(&f);
}

static int run_round(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_equal_reference), cmocka_unit_test(test_upload_under_way),
        cmocka_unit_test(test_import),          cmocka_unit_test(test_limits),
        cmocka_unit_test(test_budget),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

int main(int argc, char **argv)
{
    return run_on_devices(argc, argv, run_round);
}
