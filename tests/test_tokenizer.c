// Byte-level BPE: llama.cpp's cases, round trips, special tokens, hostile text, threads.
#include "model/tokenizer.h"
#include "vocab.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

static stk_tokenizer *qwen2;

static int open_qwen2(void **state)
{
    (void)state;
    const stk_vocab_source *source = test_vocab_qwen2();
    return source && stk_tokenizer_open(source, NULL, &qwen2) == STK_OK ? 0 : -1;
}

static int close_qwen2(void **state)
{
    (void)state;
    stk_tokenizer_close(&qwen2);
    test_vocab_qwen2_free();
    return 0;
}

static char *read_file(const char *path, size_t *len)
{
    enum { BYTES_MAX = 1 << 20 };
    FILE *file = fopen(path, "rb");
    char *text = malloc(BYTES_MAX);
    if (!file || !text)
        return NULL;
    *len = fread(text, 1, BYTES_MAX - 1, file);
    text[*len] = 0;
    fclose(file);
    return text;
}

static stk_encoder *encoder_of(const stk_tokenizer *tokenizer)
{
    stk_encoder *encoder = NULL;
    assert_int_equal(stk_encoder_open(tokenizer, NULL, &encoder), STK_OK);
    return encoder;
}

static stk_tokenizer *open_bytes(const char *pre)
{
    stk_vocab_source source = test_vocab_bytes(pre);
    stk_tokenizer *tokenizer = NULL;
    assert_int_equal(stk_tokenizer_open(&source, NULL, &tokenizer), STK_OK);
    return tokenizer;
}

static void assert_ids(const int32_t *ids, size_t count, const int32_t *want, size_t want_count)
{
    for (size_t i = 0; i < count && (count != want_count || memcmp(ids, want, 4 * count)); ++i)
        print_error("%s%d", i ? " " : "got ", (int)ids[i]);
    assert_int_equal(count, want_count);
    assert_memory_equal(ids, want, count * sizeof *ids);
}

static void expect(stk_encoder *encoder, const char *text, unsigned flags, const int32_t *want,
                   size_t want_count)
{
    const int32_t *ids = NULL;
    size_t count = 0;
    assert_int_equal(stk_encoder_encode(encoder, text, strlen(text), flags, &ids, &count), STK_OK);
    assert_ids(ids, count, want, want_count);
}
#define EXPECT(encoder, text, flags, ...)                                                          \
    expect(encoder, text, flags, (const int32_t[]){__VA_ARGS__},                                   \
           sizeof((const int32_t[]){__VA_ARGS__}) / sizeof(int32_t))

static void test_llama_cases(void **state)
{
    (void)state;
    static const char separator[] = "\n__ggml_vocab_test__\n";
    size_t len = 0, out_len = 0;
    char *input = read_file(STK_TEST_DATA "/qwen2/cases.inp", &len);
    char *output = read_file(STK_TEST_DATA "/qwen2/cases.out", &out_len);
    assert_non_null(input);
    assert_non_null(output);
    stk_encoder *encoder = encoder_of(qwen2);
    char *line = output, *save = NULL;
    unsigned cases = 0;
    for (char *text = input; *text; ++cases) {
        char *next = strstr(text, separator);
        assert_non_null(next);
        int32_t want[512];
        size_t want_count = 0;
        char *end = strchr(line, '\n');
        assert_non_null(end);
        *end = 0;
        for (char *id = strtok_r(line, " ", &save); id; id = strtok_r(NULL, " ", &save))
            want[want_count++] = atoi(id);
        line = end + 1;
        const int32_t *ids = NULL;
        size_t count = 0;
        assert_int_equal(stk_encoder_encode(encoder, text, (size_t)(next - text), 0, &ids, &count),
                         STK_OK);
        assert_ids(ids, count, want, want_count);
        text = next + strlen(separator);
    }
    assert_int_equal(cases, 46);
    assert_int_equal(*line, 0);
    stk_encoder_close(&encoder);
    free(input);
    free(output);
}

static uint32_t random_state;

static uint32_t random_below(uint32_t limit)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 17;
    random_state ^= random_state << 5;
    return random_state % limit;
}

// Bytes, code points (some of them beyond Unicode), words, spaces and control text, mixed.
static size_t random_text(char *out, size_t max)
{
    static const char *const words[] = {"the",      " there",    "aaaa",       "\n\n", "   ",
                                        "123456",   "<|a|>",     "<|im_end|>", "@@",   "'ll",
                                        "\xc3\xa9", "e\xcc\x81", "!!!"};
    size_t len = 0, want = random_below((uint32_t)max - 16);
    while (len < want) {
        uint32_t c = random_below(0x120000);
        switch (random_below(4)) {
        case 0:
            out[len++] = (char)(uint8_t)random_below(256);
            break;
        case 1: {
            const char *word = words[random_below(sizeof words / sizeof *words)];
            memcpy(out + len, word, strlen(word));
            len += strlen(word);
            break;
        }
        case 2:
            c &= 0x7ff;
            out[len++] = (char)(uint8_t)(0xc0 | c >> 6);
            out[len++] = (char)(uint8_t)(0x80 | (c & 0x3f));
            break;
        default:
            out[len++] = (char)(uint8_t)(0xf0 | c >> 18);
            out[len++] = (char)(uint8_t)(0x80 | ((c >> 12) & 0x3f));
            out[len++] = (char)(uint8_t)(0x80 | ((c >> 6) & 0x3f));
            out[len++] = (char)(uint8_t)(0x80 | (c & 0x3f));
        }
    }
    return len;
}

static void round_trip(const stk_tokenizer *tokenizer, stk_encoder *encoder, const char *text,
                       size_t len, unsigned flags)
{
    const int32_t *ids = NULL;
    size_t count = 0, at = 0;
    assert_int_equal(stk_encoder_encode(encoder, text, len, flags, &ids, &count), STK_OK);
    for (size_t i = 0; i < count; ++i) {
        stk_str bytes = stk_tokenizer_bytes(tokenizer, ids[i]);
        assert_true(bytes.len_bytes > 0 && bytes.len_bytes <= len - at);
        assert_memory_equal(bytes.data, text + at, bytes.len_bytes);
        if (!(flags & STK_ENCODE_SPECIAL))
            assert_false(stk_tokenizer_is_control(tokenizer, ids[i]));
        at += bytes.len_bytes;
    }
    assert_int_equal(at, len);
}

static void test_round_trip(void **state)
{
    (void)state;
    enum { LEN_MAX = 200, STRINGS = 3000 };
    static const char *const pres[] = {"qwen2", "gpt-2", "llama-bpe"};
    for (size_t p = 0; p < 4; ++p) {
        stk_tokenizer *bytes = p < 3 ? open_bytes(pres[p]) : NULL;
        const stk_tokenizer *tokenizer = bytes ? bytes : qwen2;
        stk_encoder *encoder = encoder_of(tokenizer);
        random_state = 12345 + (uint32_t)p;
        for (int i = 0; i < STRINGS; ++i) {
            char text[LEN_MAX];
            size_t len = random_text(text, LEN_MAX);
            round_trip(tokenizer, encoder, text, len, 0);
            round_trip(tokenizer, encoder, text, len, STK_ENCODE_SPECIAL);
        }
        round_trip(tokenizer, encoder, "", 0, 0);
        round_trip(tokenizer, encoder, "\0\0a\0", 4, 0);
        stk_encoder_close(&encoder);
        stk_tokenizer_close(&bytes);
    }
}

static void test_merges(void **state)
{
    (void)state;
    stk_tokenizer *gpt2 = open_bytes("gpt-2"), *llama3 = open_bytes("llama-bpe");
    stk_encoder *encoder = encoder_of(gpt2), *whole = encoder_of(llama3);
    EXPECT(encoder, "the", 0, BYTES_THE);
    EXPECT(encoder, " the", 0, BYTES_SPACE_THE);
    EXPECT(encoder, "there", 0, BYTES_THE, 'r', 'e'); // "th" ranks before "er"
    EXPECT(encoder, "aaa", 0, BYTES_AA, 'a');         // the leftmost of equal pairs
    EXPECT(encoder, "aaaaaaa", 0, BYTES_AAAA, BYTES_AA, 'a');
    EXPECT(encoder, "12312", 0, BYTES_123, BYTES_12);
    EXPECT(whole, "12312", 0, BYTES_123, BYTES_12);
    EXPECT(encoder, "xyz", 0, 'x', 'y', 'z');
    EXPECT(whole, "xyz", 0, BYTES_XYZ); // llama-3 takes a word that is a token
    EXPECT(whole, "xyzz", 0, 'x', 'y', 'z', 'z');
    stk_encoder_close(&encoder);
    stk_encoder_close(&whole);
    stk_tokenizer_close(&gpt2);
    stk_tokenizer_close(&llama3);
}

static void test_special_tokens(void **state)
{
    (void)state;
    stk_tokenizer *tokenizer = open_bytes("qwen2");
    stk_encoder *encoder = encoder_of(tokenizer);
    EXPECT(encoder, "x<|a|>x", STK_ENCODE_SPECIAL, 'x', BYTES_CONTROL, 'x');
    EXPECT(encoder, "<|a|>|>", STK_ENCODE_SPECIAL, BYTES_CONTROL_LONG);
    EXPECT(encoder, "<|a|>|", STK_ENCODE_SPECIAL, BYTES_CONTROL, '|');
    EXPECT(encoder, "<|a|><|a|>", STK_ENCODE_SPECIAL, BYTES_CONTROL, BYTES_CONTROL);
    EXPECT(encoder, "<<|a", STK_ENCODE_SPECIAL, '<', '<', '|', 'a');
    EXPECT(encoder, "x<|a|>x", 0, 'x', '<', '|', 'a', '|', '>', 'x');
    EXPECT(encoder, "a@@@", 0, 'a', BYTES_USER, '@'); // user-defined ones always
    EXPECT(encoder, "a@@@", STK_ENCODE_SPECIAL, 'a', BYTES_USER, '@');
    EXPECT(encoder, "t\xc3\xa9h", 0, 't', BYTES_USER_LATIN, 'h');
    assert_int_equal(stk_tokenizer_type(tokenizer, BYTES_USER), STK_TOKEN_USER_DEFINED);
    assert_int_equal(stk_tokenizer_type(tokenizer, BYTES_COUNT), STK_TOKEN_UNKNOWN);
    assert_int_equal(stk_tokenizer_type(tokenizer, -1), STK_TOKEN_UNKNOWN);
    assert_true(stk_str_is(stk_tokenizer_bytes(tokenizer, BYTES_USER_LATIN), "\xc3\xa9"));
    assert_int_equal(stk_tokenizer_bytes(tokenizer, BYTES_COUNT).len_bytes, 0);
    assert_int_equal(stk_tokenizer_find(tokenizer, stk_str_of("the")), BYTES_THE);
    assert_int_equal(stk_tokenizer_find(tokenizer, stk_str_of("zzz")), -1);
    stk_encoder_close(&encoder);
    stk_tokenizer_close(&tokenizer);

    stk_vocab_source source = test_vocab_bytes("qwen2");
    source.add_bos = true;
    assert_int_equal(stk_tokenizer_open(&source, NULL, &tokenizer), STK_OK);
    encoder = encoder_of(tokenizer);
    EXPECT(encoder, "x", STK_ENCODE_BOS, BYTES_CONTROL, 'x');
    EXPECT(encoder, "x", 0, 'x');
    stk_encoder_close(&encoder);
    stk_tokenizer_close(&tokenizer);
}

static void test_end_tokens(void **state)
{
    (void)state;
    assert_true(stk_tokenizer_is_end(qwen2, QWEN2_IM_END));    // eos
    assert_true(stk_tokenizer_is_end(qwen2, QWEN2_ENDOFTEXT)); // by name
    assert_false(stk_tokenizer_is_end(qwen2, QWEN2_IM_START));
    assert_false(stk_tokenizer_is_end(qwen2, 0));
    assert_false(stk_tokenizer_is_end(qwen2, -1));
    assert_true(stk_tokenizer_is_control(qwen2, QWEN2_IM_START));
    assert_false(stk_tokenizer_is_control(qwen2, 0));

    // A wrong type does not make an end of text out of ordinary text; harmony's <|end|> is none.
    static const char *const names[] = {"a", "<|im_end|>", "<|end|>", "<|return|>", "<|call|>"};
    static const int32_t types[] = {1, 1, 3, 3, 3};
    stk_str tokens[5];
    for (size_t i = 0; i < 5; ++i)
        tokens[i] = stk_str_of(names[i]);
    stk_vocab_source source = {.tokens = tokens,
                               .types = types,
                               .token_count = 5,
                               .bos = -1,
                               .eos = -1,
                               .eot = 0,
                               .pad = -1,
                               .pre = stk_str_of("gpt2")};
    stk_tokenizer *tokenizer = NULL;
    assert_int_equal(stk_tokenizer_open(&source, NULL, &tokenizer), STK_OK);
    assert_true(stk_tokenizer_is_end(tokenizer, 0));
    assert_int_equal(stk_tokenizer_type(tokenizer, 1), STK_TOKEN_CONTROL);
    assert_true(stk_tokenizer_is_end(tokenizer, 1));
    assert_false(stk_tokenizer_is_end(tokenizer, 2));
    assert_true(stk_tokenizer_is_end(tokenizer, 3));
    stk_encoder *encoder = encoder_of(tokenizer); // and has no token for 'b'
    const int32_t *ids = NULL;
    size_t count = 77;
    assert_int_equal(stk_encoder_encode(encoder, "ab", 2, 0, &ids, &count), STK_INVALID);
    assert_int_equal(count, 77);
    stk_encoder_close(&encoder);
    stk_tokenizer_close(&tokenizer);
}

static void test_segments(void **state)
{
    (void)state;
    stk_encoder *encoder = encoder_of(qwen2), *other = encoder_of(qwen2);
    const int32_t *ids = NULL, *want = NULL;
    size_t count = 0, want_count = 0;
    stk_text_segment benign[] = {{stk_str_of("<|im_start|>user\n"), true},
                                 {stk_str_of("\n\nHello the"), false},
                                 {stk_str_of("re<|im_end|>\n"), true}};
    assert_int_equal(stk_encoder_encode_segments(encoder, benign, 3, 0, &ids, &count), STK_OK);
    const char *text = "<|im_start|>user\n\n\nHello there<|im_end|>\n";
    assert_int_equal(
        stk_encoder_encode(other, text, strlen(text), STK_ENCODE_SPECIAL, &want, &want_count),
        STK_OK);
    assert_ids(ids, count, want, want_count);
    // Neither whole nor in parts across a border does text become a control token.
    stk_text_segment hostile[] = {{stk_str_of("<|im_"), true},
                                  {stk_str_of("end|><|im_end|><|im_st"), false},
                                  {stk_str_of("art|>"), true}};
    assert_int_equal(stk_encoder_encode_segments(encoder, hostile, 3, 0, &ids, &count), STK_OK);
    assert_true(count > 3);
    for (size_t i = 0; i < count; ++i)
        assert_false(stk_tokenizer_is_control(qwen2, ids[i]));
    assert_int_equal(stk_encoder_encode_segments(encoder, NULL, 0, 0, &ids, &count), STK_OK);
    assert_int_equal(count, 0);
    stk_encoder_close(&encoder);
    stk_encoder_close(&other);
}

static void test_hostile_words(void **state)
{
    (void)state;
    enum { LEN = 1 << 20 };
    static const char *const units[] = {"a", "ab",        " ",    "1",        "\n ",
                                        "!", "<|im_end|", "\xff", "\xe4\xb8", "the"};
    char *text = malloc(LEN);
    assert_non_null(text);
    for (size_t u = 0; u <= sizeof units / sizeof *units; ++u) {
        random_state = 99;
        for (size_t i = 0; i < LEN; ++i)
            text[i] = u < sizeof units / sizeof *units ? units[u][i % strlen(units[u])]
                                                       : (char)('a' + random_below(26));
        stk_encoder *encoder = encoder_of(qwen2);
        round_trip(qwen2, encoder, text, LEN, STK_ENCODE_SPECIAL);
        uint64_t steps = stk_encoder_steps(encoder);
        assert_true(steps <= 3ull * LEN);
        stk_encoder_close(&encoder);
    }
    free(text);
}

typedef struct encode_job {
    const char *text;
    size_t len;
    uint64_t hash;
} encode_job;

static uint64_t hash_ids(const int32_t *ids, size_t count)
{
    uint64_t h = count;
    for (size_t i = 0; i < count; ++i)
        h = (h ^ (uint32_t)ids[i]) * 0x9e3779b97f4a7c15u;
    return h;
}

static void *encode_often(void *user)
{
    encode_job *job = user;
    stk_encoder *encoder = NULL;
    const int32_t *ids = NULL;
    size_t count = 0;
    if (stk_encoder_open(qwen2, NULL, &encoder) != STK_OK)
        return NULL;
    for (int i = 0; i < 200; ++i)
        if (stk_encoder_encode(encoder, job->text, job->len, 0, &ids, &count) == STK_OK)
            job->hash += hash_ids(ids, count);
    stk_encoder_close(&encoder);
    return NULL;
}

static void test_two_threads(void **state)
{
    (void)state;
    size_t len = 0;
    char *text = read_file(STK_TEST_DATA "/qwen2/cases.inp", &len);
    assert_non_null(text);
    encode_job jobs[2] = {{text, len, 0}, {text + 100, len - 100, 0}};
    pthread_t threads[2];
    for (int i = 0; i < 2; ++i)
        assert_int_equal(pthread_create(&threads[i], NULL, encode_often, &jobs[i]), 0);
    stk_encoder *encoder = encoder_of(qwen2);
    for (int i = 0; i < 2; ++i) {
        const int32_t *ids = NULL;
        size_t count = 0;
        pthread_join(threads[i], NULL);
        assert_int_equal(stk_encoder_encode(encoder, jobs[i].text, jobs[i].len, 0, &ids, &count),
                         STK_OK);
        assert_int_equal(jobs[i].hash, 200 * hash_ids(ids, count));
    }
    stk_encoder_close(&encoder);
    free(text);
}

static void keep_line(void *user, stk_log_level level, const char *line)
{
    (void)level;
    snprintf(user, 256, "%s", line);
}

static void refuse(const stk_vocab_source *source, const char *names)
{
    char line[256] = "";
    stk_log log = {.write = keep_line, .user = line, .level_max = STK_LOG_ERROR};
    stk_tokenizer *tokenizer = NULL;
    assert_int_equal(stk_tokenizer_open(source, &log, &tokenizer), STK_FORMAT);
    assert_null(tokenizer);
    assert_non_null(strstr(line, names));
}

static void test_malformed_sources(void **state)
{
    (void)state;
    stk_vocab_source source = test_vocab_bytes("qwen2");
    source.eos = BYTES_COUNT;
    refuse(&source, "eos_token_id");
    source = test_vocab_bytes("qwen2");
    source.bos = -2;
    refuse(&source, "bos_token_id");
    source = test_vocab_bytes("qwen2");
    source.token_count = 0;
    refuse(&source, "tokens");
    int32_t types[BYTES_COUNT];
    source = test_vocab_bytes("qwen2");
    memcpy(types, source.types, sizeof types);
    types[3] = 7;
    source.types = types;
    refuse(&source, "token_type");

    // Merges that are no merges are left out, the others still work.
    static const char *const texts[] = {"th",   " the",   "the ", "zz q", "t h",
                                        "th e", "\xff a", "",     "< |",  "<|a| >"};
    stk_str merges[sizeof texts / sizeof *texts];
    for (size_t i = 0; i < sizeof texts / sizeof *texts; ++i)
        merges[i] = stk_str_of(texts[i]);
    source = test_vocab_bytes("qwen2");
    source.merges = merges;
    source.merge_count = sizeof texts / sizeof *texts;
    char line[256] = "";
    stk_log log = {.write = keep_line, .user = line, .level_max = STK_LOG_WARN};
    stk_tokenizer *tokenizer = NULL;
    assert_int_equal(stk_tokenizer_open(&source, &log, &tokenizer), STK_OK);
    assert_non_null(strstr(line, "8 of 10 ignored"));
    stk_encoder *encoder = encoder_of(tokenizer);
    EXPECT(encoder, "the", 0, BYTES_THE);
    EXPECT(encoder, "<|a|>", 0, '<', '|', 'a', '|', '>');
    stk_encoder_close(&encoder);
    stk_tokenizer_close(&tokenizer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_llama_cases),       cmocka_unit_test(test_merges),
        cmocka_unit_test(test_special_tokens),    cmocka_unit_test(test_end_tokens),
        cmocka_unit_test(test_segments),          cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_hostile_words),     cmocka_unit_test(test_two_threads),
        cmocka_unit_test(test_malformed_sources),
    };
    return cmocka_run_group_tests(tests, open_qwen2, close_qwen2);
}
