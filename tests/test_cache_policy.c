// Cache policies: small cases worked out by hand, and what must hold on any trace.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "cli/replay.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define STORIES STK_TEST_DATA "/stories.trace"

enum { TRACE_MAX = 4096 };

// A trace of one layer and one expert per token, unless said otherwise.
static stk_trace_data trace_of(const char *ids, uint32_t *layers, uint32_t *experts, float *weights)
{
    stk_trace_data t = {.layer_count = 1,
                        .expert_count = 8,
                        .used = 1,
                        .use_count = strlen(ids),
                        .layers = layers,
                        .experts = experts,
                        .weights = weights};
    for (uint64_t i = 0; i < t.use_count; i++) {
        layers[i] = 0;
        experts[i] = (uint32_t)(ids[i] - 'a');
        weights[i] = 1;
    }
    return t;
}

static uint64_t hits_of(const stk_trace_data *t, const char *policy, uint32_t slots)
{
    stk_replay *replay;
    assert_int_equal(stk_replay_open(t, &replay), STK_OK);
    const stk_cache_policy *p = policy ? stk_cache_policy_find(policy) : NULL;
    assert_true(p || !policy);
    stk_replay_result r = stk_replay_run(replay, p, slots, 0);
    assert_int_equal(r.uses, t->use_count * t->used);
    stk_replay_close(&replay);
    return r.hits;
}

static void by_hand(void **state)
{
    (void)state;
    uint32_t layers[64], experts[64];
    float weights[64];
    // lru with two slots: a b, a hits, c for b, b for a, a for c, b hits
    stk_trace_data t = trace_of("abacbab", layers, experts, weights);
    assert_int_equal(hits_of(&t, "lru", 2), 2);
    // Belady: a b, a hits, c for a (b is nearer), b hits, a for c, b hits
    assert_int_equal(hits_of(&t, NULL, 2), 3);
    // a cycle one longer than the cache: lru never hits, Belady misses every other turn
    t = trace_of("abcabcabcabc", layers, experts, weights);
    assert_int_equal(hits_of(&t, "lru", 2), 0);
    assert_int_equal(hits_of(&t, NULL, 2), 5);
    // one expert used often survives others that pass by once: 5 early hits, then the two last
    t = trace_of("aaaaaabcdefaga", layers, experts, weights);
    assert_int_equal(hits_of(&t, "lru", 2), 5 + 1);
    assert_int_equal(hits_of(&t, "lfu", 2), 5 + 2);
    assert_int_equal(hits_of(&t, "cycle", 2), 5 + 2);
    assert_int_equal(hits_of(&t, NULL, 2), 5 + 2);
    // scores: b was chosen oftener, with next to no weight; so b goes for c, and a hits
    t = trace_of("abababbbca", layers, experts, weights);
    for (uint64_t i = 0; i < t.use_count; i++)
        weights[i] = experts[i] == 1 ? 0.01f : 0.9f;
    assert_int_equal(hits_of(&t, "scores", 2), 6 + 1);
    assert_int_equal(hits_of(&t, "cycle", 2), 6 + 0);
}

// The default knows which layer comes next: of two experts used alike, the one of the layer just
// passed goes.
static void knows_the_cycle(void **state)
{
    (void)state;
    const stk_cache_policy *p = stk_cache_policy_find("cycle");
    stk_usage usage = {0};
    stk_policy_clock now = {.token = 4, .use = 9, .layer = 3, .layer_count = 8};
    p->touch(&usage, &now, 1);
    for (uint32_t layer = 0; layer < 8; layer++)
        if (layer != 4)
            assert_true(p->worth(&usage, &now, 4) > p->worth(&usage, &now, layer));
    for (uint32_t layer = 0; layer < 8; layer++)
        if (layer != 3)
            assert_true(p->worth(&usage, &now, 3) < p->worth(&usage, &now, layer));
    // uses fade
    double fresh = p->worth(&usage, &now, 4);
    now.token += 100;
    assert_true(p->worth(&usage, &now, 4) < fresh);
    assert_ptr_equal(stk_cache_policy_find(NULL), p);
    assert_null(stk_cache_policy_find("no such"));
}

// Belady's is never beaten, more slots never hurt it, and all slots miss each expert once.
static void check_trace(const stk_trace_data *t)
{
    uint32_t entries = t->layer_count * t->expert_count, distinct = 0;
    uint8_t *seen = calloc(entries, 1);
    for (uint64_t i = 0; i < t->use_count; i++)
        for (uint32_t k = 0; k < t->used; k++)
            seen[t->layers[i] * t->expert_count + t->experts[i * t->used + k]] = 1;
    for (uint32_t e = 0; e < entries; e++)
        distinct += seen[e];
    free(seen);
    uint64_t before = 0, all = t->use_count * t->used - distinct;
    for (uint32_t slots = t->used + 1; slots <= entries; slots += (entries - slots) / 3 + 1) {
        uint64_t best = hits_of(t, NULL, slots);
        assert_true(best >= before && best <= all);
        before = best;
        for (size_t i = 0; stk_cache_policy_at(i); i++)
            assert_true(hits_of(t, stk_cache_policy_at(i)->name, slots) <= best);
    }
    for (size_t i = 0; stk_cache_policy_at(i); i++)
        assert_int_equal(hits_of(t, stk_cache_policy_at(i)->name, entries), all);
    assert_int_equal(hits_of(t, NULL, entries), all);
}

static void random_traces(void **state)
{
    (void)state;
    static uint32_t layers[TRACE_MAX], experts[2 * TRACE_MAX];
    static float weights[2 * TRACE_MAX];
    uint64_t seed = 5;
    for (int round = 0; round < 20; round++) {
        stk_trace_data t = {.layer_count = 4,
                            .expert_count = 6,
                            .used = 2,
                            .use_count = 400,
                            .layers = layers,
                            .experts = experts,
                            .weights = weights};
        for (uint64_t i = 0; i < t.use_count; i++) {
            seed = seed * 6364136223846793005u + 1442695040888963407u;
            uint32_t first = (uint32_t)(seed >> 33) % 6, other = (uint32_t)(seed >> 40) % 5 + 1;
            layers[i] = (uint32_t)i % 4;
            experts[2 * i] = round % 2 ? first * first / 6 : first; // even, and skewed
            experts[2 * i + 1] = (experts[2 * i] + other) % 6;
            weights[2 * i] = 0.7f;
            weights[2 * i + 1] = 0.3f;
        }
        check_trace(&t);
    }
}

static void recorded(void **state)
{
    (void)state;
    stk_trace_data t;
    assert_int_equal(stk_trace_read(STORIES, NULL, &t), STK_OK);
    assert_true(t.has_weights && t.layer_count == 8 && t.expert_count == 32 && t.used == 4);
    assert_true(t.use_count >= 200 * t.layer_count);
    for (uint64_t i = 0; i < t.use_count; i++) {
        float sum = 0;
        for (uint32_t k = 0; k < t.used; k++)
            sum += t.weights[i * t.used + k];
        assert_true(sum > 0.99f && sum < 1.01f);
    }
    check_trace(&t);
    for (uint32_t slots = 32; slots <= 192; slots += 32)
        assert_true(hits_of(&t, "cycle", slots) >= hits_of(&t, "lru", slots));
    stk_trace_data_free(&t);
}

static stk_status read_text(const char *text, stk_trace_data *out)
{
    char path[] = "trace-test-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    close(fd);
    stk_status status = stk_trace_read(path, NULL, out);
    unlink(path);
    return status;
}

static void format(void **state)
{
    (void)state;
    stk_trace_data t = {0};
    assert_int_equal(read_text("stoker-trace 2 2 8 2\n0 1:750 2:250\n1 7:500 0:500\n", &t), STK_OK);
    assert_int_equal(t.use_count, 2);
    assert_int_equal(t.experts[2], 7);
    assert_true(t.weights[0] == 0.75f && t.weights[3] == 0.5f && t.has_weights);
    stk_trace_data_free(&t);
    assert_int_equal(read_text("stoker-trace 1 2 8 2\n0 1 2\n", &t), STK_OK); // as it was
    assert_true(t.use_count == 1 && !t.has_weights && t.weights[1] == 1);
    stk_trace_data_free(&t);
    static const char *const wrong[] = {
        "",
        "stoker-trace 3 2 8 2\n",
        "stoker-trace 0 2 8 2\n",
        "stoker-trace 2 2 8 0\n",
        "stoker-trace 2 2 8 2\n0 1 2\n",
        "stoker-trace 2 2 8 2\n0 1:1 8:1\n",
        "stoker-trace 2 2 8 2\n2 1:1 7:1\n",
        "stoker-trace 2 2 8 2\n0 1:1001 7:1\n",
        "stoker-trace 2 2 8 2\n0 1:1\n",
        "stoker-trace 2 2 8 2\nx\n",
        "stoker-trace 1 2 8 2\n0 1:1 2:1\n",
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        assert_int_equal(read_text(wrong[i], &t), STK_FORMAT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(by_hand),       cmocka_unit_test(knows_the_cycle),
        cmocka_unit_test(random_traces), cmocka_unit_test(recorded),
        cmocka_unit_test(format),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
