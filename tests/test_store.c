// Residency changes time, never values: the logits of a prompt and its continuation are the same to
// the bit with every expert in memory and with any number of slots, source, way of reading, policy,
// guess, batch and team. And the store's own counts add up.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "store_run.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "store/store_impl.h"

#define STORIES STK_MODELS "/stories-q4_0.gguf"

typedef struct variant {
    const char *sidecar; // NULL: the GGUF
    stk_io_kind io;
    bool buffered;
    uint32_t turn; // picks guess, policy, workers and batch, so that each meets several others
} variant;

static stk_engine *open_variant(const char *model, const variant *v, const stk_log *log)
{
    static const uint32_t guesses[] = {0, 1, 3};
    const stk_engine_options options = {
        .model_path = model,
        .log = log,
        .thread_count = 1 + v->turn % 3,
        .guess_layers = guesses[(v->turn / 2 + 1) % 3],
        .cache_policy = stk_cache_policy_at(v->turn % 4)->name,
        .io = v->io,
        .buffered_reads = v->buffered,
        .sidecar_path = v->sidecar,
        .ignores_sidecar = v->sidecar == NULL,
        .ignores_usage = true,
    };
    return store_open_limited(&options);
}

// Bytes that reading one expert takes, as the layout and the alignment of reads say. Slices in
// the GGUF start anywhere, so with direct reads their ends decide.
static uint64_t bytes_of(const stk_model *m, uint32_t layer, uint32_t expert, const variant *v)
{
    const stk_layer *l = &m->layers[layer];
    if (v->sidecar)
        return stk_expert_layout_of(m, l).slot_bytes;
    const stk_gguf_tensor *tensors[3] = {l->gate_experts, l->up_experts, l->down_experts};
    uint64_t sum = 0, unit = v->buffered ? 1 : 4096;
    for (int i = 0; i < 3; i++) {
        uint64_t bytes = tensors[i]->size_bytes / m->expert_count;
        uint64_t from = tensors[i]->offset_bytes + expert * bytes;
        sum += (from + bytes + unit - 1) / unit * unit - from / unit * unit;
    }
    return sum;
}

// Guesses may be on their way when the counts are reset, and when they are looked at.
enum { LOADS = STK_STAGING_COUNT };

static void check_stats(stk_engine *engine, const variant *v)
{
    const stk_model *m = stk_engine_model(engine);
    stk_expert_store_stats s = stk_expert_store_get_stats(stk_engine_store(engine));
    uint64_t least = UINT64_MAX, most = 0;
    for (uint32_t layer = 0; layer < m->layer_count; layer++)
        for (uint32_t e = 0; e < m->expert_count; e++) {
            uint64_t bytes = bytes_of(m, layer, e, v);
            least = bytes < least ? bytes : least;
            most = bytes > most ? bytes : most;
        }
    assert_true(s.wanted > 0);
    assert_true(s.hits + s.speculative_used <= s.wanted);
    assert_true(s.speculative_used <= s.speculative);
    // Every expert wanted was resident, guessed, or read for this; guesses may be unread.
    assert_true(s.reads >= s.wanted - s.hits - s.speculative_used);
    assert_true(s.reads <= s.wanted - s.hits - s.speculative_used + s.speculative + LOADS);
    assert_true(s.read_bytes + LOADS * most >= s.reads * least);
    assert_true(s.read_bytes <= (s.reads + LOADS) * most);
    assert_true(s.slots_used <= s.slot_count);
    assert_true(s.evictions <= s.reads + LOADS);
    assert_true(s.inflight_peak >= 1 && s.inflight_peak <= 16);
    assert_true(s.busy_ns > 0 && s.bursts > 0);
    assert_true(s.flight_ns >= s.busy_ns && s.flight_ns <= 16 * s.busy_ns);
    stk_expert_layout layout = stk_expert_layout_of(m, &m->layers[0]);
    assert_true((s.pack_ns > 0) == (!v->sidecar && stk_expert_packs(&layout)));
    stk_expert_store_stats none = stk_expert_store_stats_between(&s, &s);
    assert_int_equal(none.wanted + none.reads + none.read_bytes + none.busy_ns + none.flight_ns, 0);
}

static void compare(const char *model, const store_result *want, variant v, bool all_sizes)
{
    static const uint32_t batches[] = {64, 7, 1};
    static const uint32_t percents[] = {50, 25, 0};
    stk_engine *engine = open_variant(model, &v, NULL);
    stk_session *session = store_session(engine);
    for (uint32_t i = all_sizes ? 0 : 1; i < 3; i++) {
        char what[160];
        snprintf(what, sizeof what, "%s: %s, io %d, %s, turn %u, %u %% of the slots", model,
                 v.sidecar ? "sidecar" : "gguf", v.io, v.buffered ? "buffered" : "direct", v.turn,
                 percents[i]);
        store_slots(engine, percents[i]);
        stk_expert_store_reset_stats(stk_engine_store(engine));
        uint32_t decode = want->rows * STORE_DECODE / (STORE_PROMPT + STORE_DECODE);
        store_result got = store_run(session, batches[(i + v.turn) % 3], want->rows - decode,
                                     decode, NULL);
        store_assert_same(&got, want, what);
        store_result_free(&got);
        check_stats(engine, &v);
    }
    stk_session_close(&session);
    stk_engine_close(&engine);
}

static void every_way(void **state)
{
    (void)state;
    const char *model = store_path("tiny.gguf"), *sidecar = store_path("tiny.packed");
    store_result want = store_reference(model, STORE_PROMPT, STORE_DECODE);
    uint32_t turn = 0;
    for (int from_sidecar = 0; from_sidecar < 2; from_sidecar++)
        for (int io = STK_IO_URING; io <= STK_IO_THREADS; io++)
            for (int buffered = 0; buffered < 2; buffered++)
                compare(model, &want,
                        (variant){from_sidecar ? sidecar : NULL, (stk_io_kind)io, buffered, turn++},
                        true);
    // what eight turns of four policies, three teams and three guesses have not met
    for (; turn < 12; turn++)
        compare(model, &want, (variant){turn % 2 ? sidecar : NULL, STK_IO_AUTO, true, turn}, false);
    store_result_free(&want);
}

static void other_models(void **state)
{
    (void)state;
    char tiny[256];
    snprintf(tiny, sizeof tiny, "%s", store_path("tiny.gguf"));
    store_write_tiny(store_path("turned.gguf"), true, 3);
    const stk_type *q8 = stk_type_by_name("Q8_0"), *f16 = stk_type_by_name("F16");
    char models[6][256];
    snprintf(models[0], sizeof models[0], "%s", store_path("turned.gguf"));
    snprintf(models[1], sizeof models[1], "%s", store_convert(tiny, "wide", q8, q8, f16, 1));
    snprintf(models[2], sizeof models[2], "%s", store_convert(tiny, "split", NULL, NULL, NULL, 3));
    snprintf(models[3], sizeof models[3], "%s",
             store_convert(models[0], "turned-wide", NULL, q8, q8, 1));
    // nothing to pack
    snprintf(models[4], sizeof models[4], "%s", store_convert(tiny, "plain", f16, q8, f16, 2));
    snprintf(models[5], sizeof models[5], "%s", STORIES);
    for (uint32_t i = 0; i < 6; i++) {
        char sidecar[256];
        snprintf(sidecar, sizeof sidecar, "%s/other%u.packed", store_folder(), i);
        if (access(models[i], R_OK) != 0)
            continue;
        store_pack(models[i], sidecar);
        // Half of it: some of these types run on cpu/ref.
        store_result want = store_reference(models[i], STORE_PROMPT / 2, STORE_DECODE / 2);
        compare(models[i], &want, (variant){NULL, STK_IO_AUTO, false, 2 * i}, false);
        compare(models[i], &want, (variant){sidecar, STK_IO_THREADS, i % 2, 2 * i + 1}, false);
        store_result_free(&want);
    }
}

// The split and the plain file hold the same numbers, so they say the same.
static void split_says_the_same(void **state)
{
    (void)state;
    store_result a = store_reference(store_path("tiny.gguf"), 8, 2);
    store_result b = store_reference(
        store_convert(store_path("tiny.gguf"), "again", NULL, NULL, NULL, 2), 8, 2);
    store_assert_same(&a, &b, "split");
    store_result_free(&a);
    store_result_free(&b);
}

// A chunk of a prompt reads no expert twice, even at the minimum.
static void prefill_reads_once(void **state)
{
    (void)state;
    store_result want = store_reference(store_path("tiny.gguf"), STORE_PROMPT, 0);
    for (int io = STK_IO_URING; io <= STK_IO_THREADS; io++) {
        variant v = {NULL, (stk_io_kind)io, false, 7};
        stk_engine *engine = open_variant(store_path("tiny.gguf"), &v, NULL);
        const stk_model *m = stk_engine_model(engine);
        stk_session *session = store_session(engine);
        store_slots(engine, 0);
        stk_expert_store_reset_stats(stk_engine_store(engine));
        store_result got = store_run(session, 64, STORE_PROMPT, 0, NULL);
        stk_expert_store_stats s = stk_expert_store_get_stats(stk_engine_store(engine));
        assert_true(s.reads <= (uint64_t)m->layer_count * m->expert_count);
        assert_true(s.reads >= s.wanted - s.hits - s.speculative_used);
        assert_true(s.reads <= s.wanted - s.hits - s.speculative_used + s.speculative);
        store_assert_same(&got, &want, "prefill");
        store_result_free(&got);
        stk_session_close(&session);
        stk_engine_close(&engine);
    }
    store_result_free(&want);
}

// Without guesses every number is exact.
static void exact_counts(void **state)
{
    (void)state;
    const stk_engine_options options = {.model_path = store_path("tiny.gguf"),
                                        .thread_count = 2,
                                        .sidecar_path = store_path("tiny.packed"),
                                        .ignores_usage = true};
    stk_engine *engine = store_open_limited(&options);
    const stk_model *m = stk_engine_model(engine);
    stk_session *session = store_session(engine);
    stk_expert_store *store = stk_engine_store(engine);
    store_slots(engine, 25);
    stk_expert_store_reset_stats(store);
    store_result got = store_run(session, 1, STORE_PROMPT, STORE_DECODE, NULL);
    stk_expert_store_stats s = stk_expert_store_get_stats(store);
    uint32_t slots = stk_engine_memory(engine)->experts / 4;
    assert_int_equal(s.wanted, (uint64_t)(STORE_PROMPT + STORE_DECODE) * m->layer_count *
                                   m->expert_used_count);
    assert_int_equal(s.reads, s.wanted - s.hits);
    assert_int_equal(s.read_bytes, s.reads * stk_expert_store_slot_bytes(m));
    assert_int_equal(s.evictions, s.reads - slots);
    assert_int_equal(s.slots_used, slots);
    assert_int_equal(s.speculative + s.speculative_used, 0);
    assert_true(s.hits > 0);
    store_result_free(&got);
    stk_session_close(&session);
    stk_engine_close(&engine);
}

static int set_up(void **state)
{
    (void)state;
    store_write_tiny(store_path("tiny.gguf"), false, 1);
    store_pack(store_path("tiny.gguf"), store_path("tiny.packed"));
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    store_folder_remove();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_way),           cmocka_unit_test(other_models),
        cmocka_unit_test(split_says_the_same), cmocka_unit_test(prefill_reads_once),
        cmocka_unit_test(exact_counts),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
