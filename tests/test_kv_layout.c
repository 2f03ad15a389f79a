// Where the KV cache keeps what: nothing overlaps, everything lies in the session's pages, a long
// text is read in long runs and a short one touches little.
#include "engine_test.h"

#include <stdlib.h>

#include "engine/engine_impl.h"

enum { CONTEXT = 40 * STK_SEGMENT_TOKENS + 7, WINDOW = 700, BATCH = 64, SEQUENCES = 2 };

static const uint16_t **places; // of every segment's keys and values
static uint32_t place_count;

static int compare(const void *a, const void *b)
{
    const uint16_t *x = *(const uint16_t *const *)a, *y = *(const uint16_t *const *)b;
    return (x > y) - (x < y);
}

static uint32_t segments_of(const stk_kv_layer *kv)
{
    return kv->capacity_tokens / STK_SEGMENT_TOKENS;
}

static void note_places(stk_session *s, const stk_kv_layer *kv)
{
    for (uint32_t i = 0; i < SEQUENCES * s->engine->model.kv_head_count * segments_of(kv); i++) {
        uint32_t position = i % segments_of(kv) * STK_SEGMENT_TOKENS;
        uint32_t head = i / segments_of(kv) % s->engine->model.kv_head_count;
        uint32_t sequence = i / segments_of(kv) / s->engine->model.kv_head_count;
        const uint16_t *k = stk_session_kv_at(s, kv, kv->k, sequence, head, position);
        places[place_count++] = k;
        places[place_count++] = stk_session_kv_at(s, kv, kv->v, sequence, head, position);
        // Within a segment, and around the ring.
        assert_ptr_equal(stk_session_kv_at(s, kv, kv->k, sequence, head, position + 5),
                         k + 5 * s->engine->model.head_dim);
        assert_ptr_equal(
            stk_session_kv_at(s, kv, kv->k, sequence, head, position + kv->capacity_tokens), k);
    }
}

static void check_places(const stk_session *s)
{
    size_t block = (size_t)STK_SEGMENT_TOKENS * s->engine->model.head_dim;
    const uint16_t *first = s->kv_pages.start;
    qsort(places, place_count, sizeof *places, compare);
    for (uint32_t i = 0; i < place_count; i++) // they fill the pages without a gap
        assert_ptr_equal(places[i], first + i * block);
    assert_int_equal(s->kv_pages.bytes, place_count * block * sizeof *first);
}

// How often reading the keys and values of the first positions of a head goes on elsewhere.
static uint32_t jumps(stk_session *s, const stk_kv_layer *kv, uint32_t head, uint32_t positions)
{
    size_t block = (size_t)STK_SEGMENT_TOKENS * s->engine->model.head_dim;
    const uint16_t *at = NULL;
    uint32_t count = 0;
    for (uint32_t p = 0; p < positions; p += STK_SEGMENT_TOKENS) {
        const uint16_t *k = stk_session_kv_at(s, kv, kv->k, 1, head, p);
        count += k != at;
        assert_ptr_equal(stk_session_kv_at(s, kv, kv->v, 1, head, p), k + block);
        at = k + 2 * block;
    }
    return count;
}

// Values up to the last that the first positions of any layer of the first sequence have.
static size_t reach(stk_session *s, uint32_t positions)
{
    const uint16_t *last = s->kv_pages.start;
    for (uint32_t i = 0; i < s->engine->model.layer_count; i++)
        for (uint32_t h = 0; h < s->engine->model.kv_head_count; h++)
            for (uint32_t p = 0; p < positions; p += STK_SEGMENT_TOKENS) {
                const stk_kv_layer *kv = &s->kv[i];
                const uint16_t *v = stk_session_kv_at(s, kv, kv->v, 0, h, p);
                last = v > last ? v : last;
            }
    return (size_t)(last - (const uint16_t *)s->kv_pages.start) +
           (size_t)STK_SEGMENT_TOKENS * s->engine->model.head_dim;
}

static stk_session *open_session(stk_engine *engine, bool full_kv)
{
    const stk_session_options options = {.context_tokens = CONTEXT,
                                         .batch_rows_max = BATCH,
                                         .sequence_count = SEQUENCES,
                                         .full_kv = full_kv};
    stk_session *s = test_session(engine, &options);
    uint32_t segments = 0;
    for (uint32_t i = 0; i < engine->model.layer_count; i++)
        segments += segments_of(&s->kv[i]);
    places = calloc((size_t)2 * SEQUENCES * engine->model.kv_head_count * segments, sizeof *places);
    assert_non_null(places);
    place_count = 0;
    return s;
}

static void test_runs(void **state)
{
    (void)state;
    stk_engine *engine = test_engine(TEST_STORIES, NULL, 1);
    stk_session *s = open_session(engine, true);
    const stk_model *m = &engine->model;
    for (uint32_t i = 0; i < m->layer_count; i++) {
        note_places(s, &s->kv[i]);
        for (uint32_t h = 0; h < m->kv_head_count; h++) {
            // Runs of 1, 1, 2, 4, 8, 8 and so on; the last one is cut.
            assert_int_equal(jumps(s, &s->kv[i], h, STK_SEGMENT_TOKENS), 1);
            assert_int_equal(jumps(s, &s->kv[i], h, 16 * STK_SEGMENT_TOKENS), 5);
            assert_int_equal(jumps(s, &s->kv[i], h, CONTEXT), 9);
        }
    }
    check_places(s);
    size_t segment = (size_t)m->layer_count * m->kv_head_count * 2 * STK_SEGMENT_TOKENS *
                     m->head_dim;
    assert_int_equal(reach(s, 1), segment);
    for (uint32_t count = 2; count <= 40; count++)
        assert_true(reach(s, count * STK_SEGMENT_TOKENS) <=
                    (count - 1 + (count < 8 ? count : 8)) * segment);
    free(places);
    stk_session_close(&s);
    stk_engine_close(&engine);
}

// Layers with a window have a smaller ring, and come behind the others.
static void test_windows(void **state)
{
    (void)state;
    const char *path = test_path("window.gguf");
    stk_synth_options options = test_tiny(path, WINDOW);
    assert_int_equal(stk_synth_write(&options, &test_log), STK_OK);
    stk_engine *engine = test_engine(path, NULL, 1);
    stk_session *s = open_session(engine, false);
    uint32_t least = UINT32_MAX, most = 0;
    for (uint32_t i = 0; i < engine->model.layer_count; i++) {
        uint32_t count = segments_of(&s->kv[i]);
        least = count < least ? count : least;
        most = count > most ? count : most;
        note_places(s, &s->kv[i]);
    }
    assert_int_equal(least, 3);
    assert_int_equal(most, 41);
    check_places(s);
    free(places);
    stk_session_close(&s);
    stk_engine_close(&engine);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_runs), cmocka_unit_test(test_windows)};
    return cmocka_run_group_tests(tests, test_make_folder, test_remove_folder);
}
