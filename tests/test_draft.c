// The matcher against a search through the whole text; then real forward passes: the same tokens
// with drafts and without, on the bundled model and where sliding windows move on.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/random.h"
#include "engine/generate.h"
#include "model/synth.h"
#include "model/tokenizer.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define STORIES STK_MODELS "/stories-q4_0.gguf"

static stk_draft *open_draft(stk_draft_options options)
{
    stk_draft *draft = NULL;
    assert_int_equal(stk_draft_open(&options, &draft), STK_OK);
    return draft;
}

// What stk_draft_match promises, found by looking everywhere.
static uint32_t search(const int32_t *text, uint32_t length, uint32_t ngram_max, uint32_t *position)
{
    for (uint32_t n = ngram_max; n > 0; n--)
        for (uint32_t end = length; n < length && end-- > n;)
            if (memcmp(text + end - n, text + length - n, n * sizeof *text) == 0) {
                *position = end;
                return n;
            }
    return 0;
}

static void matches(void **state)
{
    (void)state;
    enum { TOKENS = 700, HISTORY = 500 };
    static const uint64_t alphabets[] = {1, 2, 3, 6, 40, 1000};
    stk_random random = stk_random_seeded(1);
    uint32_t by_length[6] = {0};
    for (uint32_t round = 0; round < 60; round++) {
        uint32_t ngram_max = 1 + round % 5, start = 0;
        stk_draft *draft = open_draft(
            (stk_draft_options){.tokens_max = 4, .ngram_max = ngram_max, .history_max = HISTORY});
        int32_t text[TOKENS];
        for (uint32_t i = 0; i < TOKENS; i++) {
            text[i] = (int32_t)(stk_random_u64(&random) % alphabets[round % 6] * 12345);
            stk_draft_accept(draft, text[i]);
            if (i == HISTORY)
                start = HISTORY; // it has begun anew
            uint32_t at = 0, wanted_at = 0, length = stk_draft_match(draft, &at);
            uint32_t wanted = search(text + start, i + 1 - start, ngram_max, &wanted_at);
            assert_int_equal(length, wanted);
            if (wanted)
                assert_int_equal(at, wanted_at);
            by_length[length]++;
        }
        stk_draft_close(&draft);
        assert_null(draft);
    }
    for (uint32_t i = 0; i < 6; i++)
        assert_true(by_length[i] > 50); // each case was met
}

static void accept_all(stk_draft *draft, const int32_t *tokens, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        stk_draft_accept(draft, tokens[i]);
}

static void proposals(void **state)
{
    (void)state;
    int32_t tokens[STK_DRAFT_TOKENS_MAX];
    stk_draft *draft = open_draft((stk_draft_options){.tokens_max = 6, .history_max = 100});
    assert_int_equal(stk_draft_propose(draft, 6, tokens), 0);
    accept_all(draft, (int32_t[]){1, 2, 3, 4, 5, 9, 2, 3}, 8);
    assert_int_equal(stk_draft_propose(draft, 2, tokens), 2);
    assert_memory_equal(tokens, ((int32_t[]){4, 5}), 8);
    assert_int_equal(stk_draft_propose(draft, 99, tokens), 6);
    assert_memory_equal(tokens, ((int32_t[]){4, 5, 9, 2, 3, 4}), 24); // on into the guess itself
    accept_all(draft, (int32_t[]){7, 7}, 2);
    assert_int_equal(stk_draft_propose(draft, 4, tokens), 4);
    assert_memory_equal(tokens, ((int32_t[]){7, 7, 7, 7}), 16);
    assert_int_equal(stk_draft_propose(draft, 0, tokens), 0);
    stk_draft_accept(draft, 8);
    assert_int_equal(stk_draft_propose(draft, 4, tokens), 0); // never seen
    stk_draft_reset(draft);
    stk_draft_accept(draft, 7);
    assert_int_equal(stk_draft_propose(draft, 4, tokens), 0);
    stk_draft_close(&draft);
    stk_draft_close(&draft);
}

// Drafts grow where guesses come true, shrink to nothing where they do not, and come back.
static void adapts(void **state)
{
    (void)state;
    int32_t tokens[STK_DRAFT_TOKENS_MAX];
    stk_random random = stk_random_seeded(2);
    stk_draft *draft = open_draft(
        (stk_draft_options){.tokens_max = 8, .history_max = 10000, .worth = 0.4f});
    stk_draft_accept(draft, 1);
    stk_draft_accept(draft, 1);
    assert_int_equal(stk_draft_propose(draft, 8, tokens), 1); // one half is worth one token
    for (int32_t i = 0; i < 500; i++)
        stk_draft_accept(draft, i % 7);
    assert_int_equal(stk_draft_propose(draft, 8, tokens), 8);
    uint32_t drafted = 0;
    for (int32_t i = 0; i < 500; i++) {
        stk_draft_accept(draft, (int32_t)(stk_random_u64(&random) % 30));
        drafted += i >= 250 ? stk_draft_propose(draft, 8, tokens) : 0;
    }
    assert_in_range(drafted, 0, 25);
    for (int32_t i = 0; i < 500; i++)
        stk_draft_accept(draft, i % 7);
    assert_int_equal(stk_draft_propose(draft, 8, tokens), 8);
    stk_draft_close(&draft);
}

static void options(void **state)
{
    (void)state;
    stk_draft *draft = NULL;
    const stk_draft_options wrong[] = {
        {.tokens_max = 0, .history_max = 10},
        {.tokens_max = STK_DRAFT_TOKENS_MAX + 1, .history_max = 10},
        {.tokens_max = 1, .history_max = 0},
        {.tokens_max = 1, .history_max = STK_DRAFT_HISTORY_MAX + 1},
        {.tokens_max = 1, .history_max = 10, .ngram_max = STK_DRAFT_NGRAM_MAX + 1},
        {.tokens_max = 1, .history_max = 10, .worth = 1.5f},
        {.tokens_max = 1, .history_max = 10, .worth = 0.0f / 0.0f},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        assert_int_equal(stk_draft_open(&wrong[i], &draft), STK_INVALID);
    assert_null(draft);
    draft = open_draft((stk_draft_options){.tokens_max = 1, .history_max = 1});
    accept_all(draft, (int32_t[]){5, 5, 5, 5}, 4);
    stk_draft_close(&draft);
}

typedef struct tokens {
    int32_t ids[2000];
    uint32_t count;
} tokens;

static bool keep(void *user, int32_t token)
{
    tokens *t = user;
    t->ids[t->count++] = token;
    return true;
}

// Generates `count` tokens in a session of its own; draft_tokens 0: without a draft.
static stk_generate_stats generate(stk_engine *engine, stk_session_options session_options,
                                   const stk_sampler_options *sampling, const tokens *prompt,
                                   uint32_t draft_tokens, uint32_t count, tokens *out)
{
    stk_session *session;
    stk_sampler *sampler;
    stk_draft *draft = NULL;
    stk_generate_stats stats;
    assert_int_equal(stk_session_open(engine, &session_options, &session), STK_OK);
    assert_int_equal(stk_sampler_open(sampling, stk_engine_model(engine)->vocab_size, &sampler),
                     STK_OK);
    if (draft_tokens)
        draft = open_draft((stk_draft_options){.tokens_max = draft_tokens, .history_max = 4096});
    out->count = 0;
    const stk_generate_options generation = {.session = session,
                                             .sampler = sampler,
                                             .draft = draft,
                                             .prompt = prompt->ids,
                                             .prompt_count = prompt->count,
                                             .tokens_max = count,
                                             .on_token = keep,
                                             .user = out};
    assert_int_equal(stk_generate(&generation, &stats), STK_OK);
    assert_int_equal(out->count, count);
    assert_int_equal(stk_session_length(session, 0), prompt->count + count - 1);
    stk_draft_close(&draft);
    stk_sampler_close(&sampler);
    stk_session_close(&session);
    return stats;
}

static const stk_sampler_options greedy = {.top_p = 1, .repeat_penalty = 1};
static const stk_sampler_options penalised = {
    .top_p = 1, .repeat_penalty = 1.2f, .repeat_last = 16};
static const stk_sampler_options sampled = {
    .temperature = 0.8f, .top_k = 40, .top_p = 0.95f, .repeat_penalty = 1, .seed = 3};
static const stk_sampler_options both = {.temperature = 0.8f,
                                         .top_p = 1,
                                         .min_p = 0.05f,
                                         .repeat_penalty = 1.1f,
                                         .repeat_last = 64,
                                         .seed = 4};
static const stk_sampler_options *const samplings[] = {&greedy, &penalised, &sampled, &both};

static void encode(stk_engine *engine, const char *text, tokens *out)
{
    stk_vocab_source source;
    stk_tokenizer *tokenizer;
    stk_encoder *encoder;
    const int32_t *ids;
    size_t count;
    assert_int_equal(stk_vocab_source_from_gguf(stk_engine_gguf(engine), NULL, &source), STK_OK);
    assert_int_equal(stk_tokenizer_open(&source, NULL, &tokenizer), STK_OK);
    assert_int_equal(stk_encoder_open(tokenizer, NULL, &encoder), STK_OK);
    assert_int_equal(stk_encoder_encode(encoder, text, strlen(text), 0, &ids, &count), STK_OK);
    memcpy(out->ids, ids, count * sizeof *ids);
    out->count = (uint32_t)count;
    stk_encoder_close(&encoder);
    stk_tokenizer_close(&tokenizer);
    stk_vocab_source_free(&source);
}

static void bundled_model(void **state)
{
    (void)state;
    static const char *const prompts[] = {
        "The cat sat on the mat. The dog sat on the log. The cat sat on the mat. The dog sat",
        "Once upon a time there was a king who had three daughters.",
        "one two three one two three one two three one two",
    };
    static tokens prompt, without, with;
    if (access(STORIES, R_OK) != 0)
        skip();
    stk_engine *engine;
    assert_int_equal(
        stk_engine_open(&(stk_engine_options){.model_path = STORIES, .thread_count = 1}, &engine),
        STK_OK);
    const stk_session_options session = {
        .context_tokens = 400, .batch_rows_max = 64, .logit_rows_max = 9};
    uint32_t accepted = 0, rejected = 0;
    for (uint32_t p = 0; p < 3; p++) {
        encode(engine, prompts[p], &prompt);
        for (uint32_t s = 0; s < 4; s++) {
            uint32_t count = s == 0 ? 300 : 100;
            generate(engine, session, samplings[s], &prompt, 0, count, &without);
            stk_generate_stats stats = generate(engine, session, samplings[s], &prompt,
                                                3 + 5 * (p % 2), count, &with);
            assert_memory_equal(with.ids, without.ids, count * sizeof *with.ids);
            assert_int_equal(stats.decode_passes + stats.accepted_tokens, count - 1);
            accepted += stats.accepted_tokens;
            rejected += stats.drafted_tokens - stats.accepted_tokens;
        }
    }
    assert_true(accepted > 300);
    assert_true(rejected > 300);
    stk_engine_close(&engine);
}

enum { BATCH = 9 };

// Drafts where a window moves on, in rings that go round twice, against sessions that keep all.
static void compare_in_window(uint32_t wanted_window)
{
    enum { COUNT = 600 };
    static tokens without, with;
    char path[] = "/tmp/stoker-draft-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    stk_synth_options synth = stk_synth_defaults();
    synth.shape = "tiny";
    synth.path = path;
    synth.overwrite = true;
    synth.vocab_count = 300;
    synth.window = wanted_window;
    assert_int_equal(stk_synth_write(&synth, NULL), STK_OK);
    stk_engine *engine;
    assert_int_equal(
        stk_engine_open(&(stk_engine_options){.model_path = path, .thread_count = 1}, &engine),
        STK_OK);
    uint32_t window = 0;
    for (uint32_t i = 0; i < stk_engine_model(engine)->layer_count; i++)
        if (stk_engine_model(engine)->layers[i].window_tokens > window)
            window = stk_engine_model(engine)->layers[i].window_tokens;
    assert_int_equal(window, wanted_window);
    const tokens prompt = {{5, 6, 7, 8, 5, 6, 7}, 7};
    stk_session_options session = {.context_tokens = 2000, .batch_rows_max = BATCH};
    uint32_t rejected = 0;
    for (uint32_t s = 0; s < 4; s += 3) { // greedy, and sampled with a penalty
        session.full_kv = true;
        generate(engine, session, samplings[s], &prompt, 0, COUNT, &without);
        session.full_kv = false;
        stk_generate_stats stats = generate(engine, session, samplings[s], &prompt, BATCH - 1,
                                            COUNT, &with);
        assert_memory_equal(with.ids, without.ids, COUNT * sizeof *with.ids);
        rejected += stats.drafted_tokens - stats.accepted_tokens;
    }
    assert_true(rejected > 100);
    stk_engine_close(&engine);
    unlink(path);
}

static void windows(void **state)
{
    (void)state;
    compare_in_window(256 - BATCH); // the ring, a multiple of 256, holds a batch and no more
    compare_in_window(256);         // without room for a batch it would be as short
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(matches), cmocka_unit_test(proposals),     cmocka_unit_test(adapts),
        cmocka_unit_test(options), cmocka_unit_test(bundled_model), cmocka_unit_test(windows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
