// How rows come to the engine never changes a logit: threads, batch sizes, other sequences, what
// was cut off, and how much of the past the KV cache keeps.
#include "engine_test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "engine/engine_impl.h"

enum {
    VOCAB = TEST_TINY_VOCAB,
    WINDOW = 16,
    // More than two segments of attention and than two rings of 256.
    LONG = 600,
    WIDE_WINDOW = 300,
    STORIES_VOCAB = 4096,
    STORIES_COUNT = 300,
};

static const char *small_window(void)
{
    return test_path("window16.gguf");
}

static const char *wide_window(void)
{
    return test_path("window300.gguf");
}

static int make_models(void **state)
{
    if (test_make_folder(state) != 0)
        return -1;
    stk_synth_options options = test_tiny(small_window(), WINDOW);
    if (stk_synth_write(&options, &test_log) != STK_OK)
        return -1;
    options.path = wide_window();
    options.window = WIDE_WINDOW;
    options.gating = STK_SYNTH_SOFTMAX;
    options.transpose_down = true;
    options.seed = 5;
    return stk_synth_write(&options, &test_log) == STK_OK ? 0 : -1;
}

// What a run depends on besides the tokens.
typedef struct setup {
    const char *path;
    uint32_t threads, chunk, batch_rows_max;
    bool full_kv;
} setup;

static float *run(const setup *u, const int32_t *ids, uint32_t count, uint32_t vocab)
{
    stk_engine *engine = test_engine(u->path, NULL, u->threads);
    const stk_session_options options = {
        .context_tokens = count, .batch_rows_max = u->batch_rows_max, .full_kv = u->full_kv};
    stk_session *session = test_session(engine, &options);
    float *out = test_floats((size_t)count * vocab);
    test_feed(session, vocab, 0, ids, count, u->chunk, out);
    stk_session_close(&session);
    stk_engine_close(&engine);
    return out;
}

static void check_threads_and_chunks(const char *path, uint32_t count, uint32_t vocab)
{
    static const struct {
        uint32_t threads, chunk; // a chunk of 0: all rows
    } others[] = {{2, 7}, {1, 7}, {3, 7}, {2, 1}, {1, 64}, {3, 64}, {2, 0}};
    int32_t ids[LONG];
    test_random_ids(3, vocab, ids, count);
    const setup base = {path, 1, TEST_FEWER ? 100 : 1, count, false};
    float *want = run(&base, ids, count, vocab);
    for (size_t i = 0; i < sizeof others / sizeof *others; i += TEST_FEWER ? 5 : 1) {
        char what[64];
        snprintf(what, sizeof what, "%u threads, batches of %u", others[i].threads,
                 others[i].chunk);
        const setup other = {path, others[i].threads, others[i].chunk, count, false};
        float *got = run(&other, ids, count, vocab);
        test_same_bits(what, got, want, count, vocab);
        free(got);
    }
    free(want);
}

static void test_threads_and_chunks(void **state)
{
    (void)state;
    if (!TEST_FEWER)
        check_threads_and_chunks(TEST_STORIES, STORIES_COUNT, STORIES_VOCAB);
    check_threads_and_chunks(small_window(), LONG, VOCAB);
}

// A few rows at the ends of segments, where workers that do not fit the KV heads share each of
// them.
static void check_shared_heads(const char *path, uint32_t vocab)
{
    static const struct {
        uint32_t from, to, chunk;
    } stretches[] = {{254, 259, 1}, {510, 514, 1}, {514, 517, 3}, {597, 600, 1}};
    int32_t ids[LONG];
    test_random_ids(12, vocab, ids, LONG);
    const setup base = {path, 1, 60, LONG, false};
    float *want = run(&base, ids, LONG, vocab), *got = test_floats((size_t)LONG * vocab);
    for (uint32_t threads = 3; threads <= 5; threads += 2) {
        stk_engine *engine = test_engine(path, NULL, threads);
        const stk_session_options options = {.context_tokens = LONG, .batch_rows_max = 60};
        stk_session *session = test_session(engine, &options);
        assert_int_not_equal(stk_engine_model(engine)->kv_head_count % threads, 0);
        for (size_t i = 0; i < sizeof stretches / sizeof *stretches; i++) {
            uint32_t from = stretches[i].from, count = stretches[i].to - from;
            uint32_t length = stk_session_length(session, 0);
            if (length < from)
                test_feed(session, vocab, 0, ids + length, from - length, 60, NULL);
            test_feed(session, vocab, 0, ids + from, count, stretches[i].chunk, got);
            test_same_bits("shared heads", got, want + (size_t)from * vocab, count, vocab);
        }
        stk_session_close(&session);
        stk_engine_close(&engine);
    }
    free(want);
    free(got);
}

static void test_shared_heads(void **state)
{
    (void)state;
    check_shared_heads(small_window(), VOCAB); // and full attention on some layers
    if (!TEST_FEWER)
        check_shared_heads(wide_window(), VOCAB);
}

// Rows of three and of two segments in one batch, shared by workers that do not fit the KV heads.
static void check_unequal_lengths(const char *path, uint32_t vocab)
{
    static const uint32_t lengths[2] = {LONG - 1, 300};
    float *alone[2];
    stk_row rows[2];
    stk_engine *engine = test_engine(path, NULL, 3);
    // Room for both rows' segments: a longer context has more.
    const stk_session_options options = {
        .context_tokens = 2048, .sequence_count = 2, .batch_rows_max = 60};
    stk_session *session = test_session(engine, &options);
    for (uint32_t s = 0; s < 2; s++) {
        int32_t ids[LONG];
        const setup u = {path, 1, 60, 60, false};
        test_random_ids(20 + s, vocab, ids, LONG);
        alone[s] = run(&u, ids, lengths[s] + 1, vocab);
        test_feed(session, vocab, s, ids, lengths[s], 60, NULL);
        rows[s] = (stk_row){s, lengths[s], ids[lengths[s]], true};
    }
    assert_int_equal(stk_session_forward(session, rows, 2), STK_OK);
    for (uint32_t s = 0; s < 2; s++) {
        test_same_bits("beside a row of another length", stk_session_logits(session, s),
                       alone[s] + (size_t)lengths[s] * vocab, 1, vocab);
        free(alone[s]);
    }
    stk_session_close(&session);
    stk_engine_close(&engine);
}

static void test_unequal_lengths(void **state)
{
    (void)state;
    check_unequal_lengths(small_window(), VOCAB); // and full attention on some layers
}

// Two sequences in one batch, their rows taking turns unevenly.
static void check_interleaved(const char *path, uint32_t count, uint32_t vocab)
{
    int32_t ids[2][LONG];
    float *alone[2], *out[2];
    stk_row rows[64];
    uint32_t fed[2] = {0, 0};
    for (uint32_t s = 0; s < 2; s++) {
        test_random_ids(10 + s, vocab, ids[s], count);
        const setup u = {path, 2, 64, 64, false};
        alone[s] = run(&u, ids[s], count, vocab);
        out[s] = test_floats((size_t)count * vocab);
    }
    stk_engine *engine = test_engine(path, NULL, 2);
    const stk_session_options options = {
        .context_tokens = count, .sequence_count = 2, .batch_rows_max = 64};
    stk_session *session = test_session(engine, &options);
    for (uint32_t batch = 0; fed[0] < count || fed[1] < count; batch++) {
        uint32_t n = 0;
        for (uint32_t i = 0; n < 64 && i < 64; i++) {
            uint32_t s = (i + batch) % 3 == 0; // one row of the second to two of the first
            if (fed[s] < count) {
                rows[n++] = (stk_row){s, fed[s], ids[s][fed[s]], true};
                fed[s]++;
            }
        }
        if (n == 0)
            continue;
        assert_int_equal(stk_session_forward(session, rows, n), STK_OK);
        for (uint32_t i = 0; i < n; i++)
            memcpy(out[rows[i].sequence] + (size_t)rows[i].position * vocab,
                   stk_session_logits(session, i), vocab * sizeof(float));
    }
    for (uint32_t s = 0; s < 2; s++) {
        test_same_bits("beside another sequence", out[s], alone[s], count, vocab);
        free(out[s]);
        free(alone[s]);
    }
    stk_session_close(&session);
    stk_engine_close(&engine);
}

static void test_interleaved(void **state)
{
    (void)state;
    check_interleaved(TEST_STORIES, 40, STORIES_VOCAB);
    check_interleaved(small_window(), TEST_FEWER ? 100 : LONG, VOCAB);
}

// Logits are computed for the rows that ask, in the same way whoever else asks.
static void test_some_logits(void **state)
{
    (void)state;
    enum { COUNT = 50 };
    int32_t ids[COUNT];
    stk_row rows[COUNT];
    test_random_ids(4, VOCAB, ids, COUNT);
    const setup u = {small_window(), 2, 0, COUNT, false};
    float *want = run(&u, ids, COUNT, VOCAB);
    stk_engine *engine = test_engine(u.path, NULL, 2);
    stk_session *session = test_session(engine, &(stk_session_options){.context_tokens = COUNT});
    for (uint32_t i = 0; i < COUNT; i++)
        rows[i] = (stk_row){0, i, ids[i], i % 7 == 3 || i + 1 == COUNT};
    assert_int_equal(stk_session_forward(session, rows, COUNT), STK_OK);
    for (uint32_t i = 0; i < COUNT; i++) {
        const float *logits = stk_session_logits(session, i);
        assert_true((logits != NULL) == rows[i].logits);
        if (logits)
            test_same_bits("one of few", logits, want + (size_t)i * VOCAB, 1, VOCAB);
    }
    assert_null(stk_session_logits(session, COUNT));
    stk_session_close(&session);
    stk_engine_close(&engine);
    free(want);
}

// A ring that has been overwritten several times holds what a cache of everything would show.
static void check_ring(const char *path, uint32_t window, uint32_t batch)
{
    int32_t ids[2 * LONG];
    uint32_t count = TEST_FEWER ? LONG : 2 * LONG;
    test_random_ids(6, VOCAB, ids, count);
    const setup ring = {path, 2, batch, batch, false}, full = {path, 2, batch, batch, true};
    float *got = run(&ring, ids, count, VOCAB), *want = run(&full, ids, count, VOCAB);
    test_same_bits("ring", got, want, count, VOCAB);
    free(got);
    free(want);

    stk_engine *engine = test_engine(path, NULL, 1);
    stk_session_options options = {.context_tokens = count, .batch_rows_max = batch};
    stk_session *session = test_session(engine, &options);
    uint64_t ring_bytes = stk_session_kv_bytes(session);
    stk_session_close(&session);
    options.full_kv = true;
    session = test_session(engine, &options);
    assert_true(ring_bytes < stk_session_kv_bytes(session)); // or nothing was tested
    assert_int_equal(stk_engine_model(engine)->layers[1].window_tokens, window);
    stk_session_close(&session);
    stk_engine_close(&engine);
}

static void test_ring(void **state)
{
    (void)state;
    check_ring(wide_window(), WIDE_WINDOW, 64);
    if (TEST_FEWER)
        return;
    check_ring(small_window(), WINDOW, 64);
    check_ring(small_window(), WINDOW, 240); // a window and a batch fill a ring of 256
    check_ring(wide_window(), WIDE_WINDOW, 1);
}

static void test_truncate(void **state)
{
    (void)state;
    enum { COUNT = 120, CUT = 70 };
    int32_t ids[COUNT], other[COUNT];
    test_random_ids(7, VOCAB, ids, COUNT);
    test_random_ids(8, VOCAB, other, COUNT);
    const setup u = {small_window(), 2, 7, 64, false};
    float *want = run(&u, ids, COUNT, VOCAB), *got = test_floats((size_t)COUNT * VOCAB);
    stk_engine *engine = test_engine(u.path, NULL, 2);
    stk_session *session = test_session(
        engine, &(stk_session_options){.context_tokens = COUNT, .batch_rows_max = 64});
    test_feed(session, VOCAB, 0, ids, CUT, 64, NULL);
    test_feed(session, VOCAB, 0, other, COUNT - CUT, 64, NULL); // a wrong turn
    assert_int_equal(stk_session_length(session, 0), COUNT);
    assert_int_equal(stk_session_truncate(session, 0, CUT), STK_OK);
    assert_int_equal(stk_session_length(session, 0), CUT);
    test_feed(session, VOCAB, 0, ids + CUT, COUNT - CUT, 64, got);
    test_same_bits("after a cut", got, want + (size_t)CUT * VOCAB, COUNT - CUT, VOCAB);

    assert_int_equal(stk_session_truncate(session, 0, 0), STK_OK); // start again
    test_feed(session, VOCAB, 0, ids, COUNT, 64, got);
    test_same_bits("after clearing", got, want, COUNT, VOCAB);
    assert_int_equal(stk_session_truncate(session, 0, COUNT + 1), STK_INVALID);
    assert_int_equal(stk_session_truncate(session, 1, 0), STK_INVALID);
    assert_int_equal(stk_session_length(session, 0), COUNT);
    stk_session_close(&session);
    stk_engine_close(&engine);
    free(want);
    free(got);
}

// A ring of 256 positions that has seen 600 holds 344 and later; a window of 16 needs 15 before the
// next row.
static void test_truncate_past_ring(void **state)
{
    (void)state;
    enum { OLDEST = LONG - 256 + WINDOW - 1 };
    int32_t ids[LONG];
    test_random_ids(9, VOCAB, ids, LONG);
    const setup u = {small_window(), 2, 60, 60, true};
    float *want = run(&u, ids, LONG, VOCAB), *got = test_floats((size_t)LONG * VOCAB);
    stk_engine *engine = test_engine(u.path, NULL, 2);
    stk_session *session = test_session(
        engine, &(stk_session_options){.context_tokens = LONG, .batch_rows_max = 60});
    test_feed(session, VOCAB, 0, ids, LONG, 60, NULL);
    assert_int_equal(stk_session_truncate(session, 0, OLDEST - 1), STK_INVALID);
    assert_non_null(strstr(test_last_error, "layer 1"));
    assert_int_equal(stk_session_length(session, 0), LONG);
    assert_int_equal(stk_session_truncate(session, 0, OLDEST), STK_OK);
    // What is lost stays lost, though the sequence is shorter now.
    assert_int_equal(stk_session_truncate(session, 0, OLDEST - 1), STK_INVALID);
    test_feed(session, VOCAB, 0, ids + OLDEST, LONG - OLDEST, 60, got);
    test_same_bits("after the deepest cut", got, want + (size_t)OLDEST * VOCAB, LONG - OLDEST,
                   VOCAB);
    assert_int_equal(stk_session_truncate(session, 0, 0), STK_OK);
    stk_session_close(&session);
    stk_engine_close(&engine);
    free(want);
    free(got);
}

// Refused batches name the row and leave everything as it was, the last logits too.
static void test_row_errors(void **state)
{
    (void)state;
    enum { CONTEXT = 20, BATCH = 8, HELD = 5 };
    static const struct {
        stk_row bad; // the third of three rows
        const char *says;
    } cases[] = {
        {{0, HELD + 3, 1, true}, "row 2: position 8"}, // a gap
        {{0, HELD + 1, 1, true}, "row 2: position 6"}, // the one before again
        {{1, 1, 1, true}, "row 2: position 1"},        // the other sequence is empty
        {{2, 0, 1, true}, "row 2: sequence 2"},
        {{0, HELD + 2, VOCAB, true}, "row 2: token 512"},
        {{0, HELD + 2, -1, true}, "row 2: token -1"},
        {{0, CONTEXT, 1, true}, "row 2: position 20"},
        {{0, UINT32_MAX, 1, true}, "row 2: position 4294967295"},
    };
    int32_t ids[CONTEXT + 1];
    test_random_ids(11, VOCAB, ids, CONTEXT + 1);
    const setup u = {small_window(), 1, BATCH, BATCH, false};
    float *want = run(&u, ids, CONTEXT, VOCAB), *got = test_floats((size_t)CONTEXT * VOCAB);
    stk_engine *engine = test_engine(u.path, NULL, 1);
    const stk_session_options options = {.context_tokens = CONTEXT,
                                         .sequence_count = 2,
                                         .batch_rows_max = BATCH,
                                         .logit_rows_max = HELD};
    stk_session *session = test_session(engine, &options);
    test_feed(session, VOCAB, 0, ids, HELD, 0, got);
    stk_row rows[CONTEXT] = {{0, HELD, 2, true}, {0, HELD + 1, 2, true}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        rows[2] = cases[i].bad;
        assert_int_equal(stk_session_forward(session, rows, 3), STK_INVALID);
        if (!strstr(test_last_error, cases[i].says))
            fail_msg("'%s' lacks '%s'", test_last_error, cases[i].says);
        assert_int_equal(stk_session_length(session, 0), HELD);
        assert_int_equal(stk_session_length(session, 1), 0);
        test_same_bits("last logits", stk_session_logits(session, HELD - 1),
                       want + (size_t)(HELD - 1) * VOCAB, 1, VOCAB);
    }
    for (uint32_t i = 0; i < CONTEXT - HELD; i++)
        rows[i] = (stk_row){0, HELD + i, ids[HELD + i], true};
    assert_int_equal(stk_session_forward(session, rows, BATCH + 1), STK_INVALID);
    assert_int_equal(stk_session_forward(session, rows, 0), STK_INVALID);
    assert_int_equal(stk_session_forward(session, rows, HELD + 1), STK_INVALID);
    assert_non_null(strstr(test_last_error, "row 5: the session computes the logits of 5"));
    assert_int_equal(stk_session_length(session, 0), HELD);
    test_feed(session, VOCAB, 0, ids + HELD, CONTEXT - HELD, HELD, got + (size_t)HELD * VOCAB);
    test_same_bits("after refusals", got, want, CONTEXT, VOCAB);
    const stk_row over = {0, CONTEXT, ids[CONTEXT], true};
    assert_int_equal(stk_session_forward(session, &over, 1), STK_INVALID); // full
    assert_int_equal(stk_session_length(session, 0), CONTEXT);
    assert_int_equal(stk_session_length(session, 7), 0);
    stk_session_close(&session);
    stk_engine_close(&engine);
    free(want);
    free(got);
}

// Few tokens touch few pages of a large context's KV cache, whatever the size of a page.
static void test_short_text_touches_little(void **state)
{
    (void)state;
    enum { CONTEXT = 65536, PAGE_BYTES = 4096, HUGE_BYTES = 2 << 20 };
    stk_engine *engine = test_engine(TEST_STORIES, NULL, 2);
    const stk_session_options options = {.context_tokens = CONTEXT, .batch_rows_max = 32};
    stk_session *session = test_session(engine, &options);
    int32_t ids[20];
    test_random_ids(9, STORIES_VOCAB, ids, 20);
    test_feed(session, STORIES_VOCAB, 0, ids, 20, 20, NULL);
    size_t pages = session->kv_pages.bytes / PAGE_BYTES, touched = 0;
    uint8_t *is_there = malloc(pages);
    assert_non_null(is_there);
    assert_true(session->kv_pages.bytes >= 32 * HUGE_BYTES);
    assert_int_equal(mincore(session->kv_pages.start, session->kv_pages.bytes, is_there), 0);
    for (size_t i = 0; i < pages; i++)
        touched += is_there[i] & 1;
    assert_in_range(touched * PAGE_BYTES, 1, 2 * HUGE_BYTES);
    free(is_there);
    stk_session_close(&session);
    stk_engine_close(&engine);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_threads_and_chunks), cmocka_unit_test(test_shared_heads),
        cmocka_unit_test(test_unequal_lengths),    cmocka_unit_test(test_interleaved),
        cmocka_unit_test(test_some_logits),        cmocka_unit_test(test_ring),
        cmocka_unit_test(test_truncate),           cmocka_unit_test(test_truncate_past_ring),
        cmocka_unit_test(test_row_errors),         cmocka_unit_test(test_short_text_touches_little),
    };
    return cmocka_run_group_tests(tests, make_models, test_remove_folder);
}
