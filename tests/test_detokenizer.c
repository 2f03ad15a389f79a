// Streaming text: characters split over tokens, invalid bytes, control tokens.
#include "base/utf8.h"
#include "model/detokenizer.h"
#include "vocab.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

static stk_tokenizer *tokenizer;

static int open_vocab(void **state)
{
    (void)state;
    stk_vocab_source source = test_vocab_bytes("qwen2");
    return stk_tokenizer_open(&source, NULL, &tokenizer) == STK_OK ? 0 : -1;
}

static int close_vocab(void **state)
{
    (void)state;
    stk_tokenizer_close(&tokenizer);
    return 0;
}

static stk_detokenizer *open_detokenizer(bool shows_control)
{
    stk_detokenizer_options options = {.tokenizer = tokenizer, .shows_control = shows_control};
    stk_detokenizer *d = NULL;
    assert_int_equal(stk_detokenizer_open(&options, &d), STK_OK);
    return d;
}

// A step feeds one id, or flushes, and must give exactly this text.
enum { FLUSH = -100, END = -101 };
typedef struct step {
    int32_t id;
    const char *text;
} step;

static void run(const step *steps, bool shows_control)
{
    stk_detokenizer *d = open_detokenizer(shows_control);
    for (int i = 0; steps[i].id != END; ++i) {
        stk_str got = steps[i].id == FLUSH ? stk_detokenizer_flush(d)
                                           : stk_detokenizer_feed(d, steps[i].id);
        if (!stk_str_is(got, steps[i].text))
            print_error("step %d: \"%.*s\"\n", i, (int)got.len_bytes, got.data);
        assert_true(stk_str_is(got, steps[i].text));
    }
    stk_detokenizer_close(&d);
    assert_null(d);
}

#define REPLACED "\xef\xbf\xbd"

static void test_characters_are_whole(void **state)
{
    (void)state;
    run((step[]){{'a', "a"}, {0xc3, ""}, {0xa9, "\xc3\xa9"}, {FLUSH, ""}, {END, NULL}}, false);
    run((step[]){{0xf0, ""}, {0x9f, ""}, {0x98, ""}, {0x80, "\xf0\x9f\x98\x80"}, {END, NULL}},
        false);
    run((step[]){{BYTES_THE, "the"}, {0xe2, ""}, {0x82, ""}, {0xac, "\xe2\x82\xac"}, {END, NULL}},
        false);
}

static void test_invalid_bytes(void **state)
{
    (void)state;
    // Certain at once: no character begins so.
    run((step[]){{0x80, REPLACED}, {0xc0, REPLACED}, {0xf5, REPLACED}, {0xff, REPLACED}, {END, 0}},
        false);
    // Certain with the byte that does not continue.
    run((step[]){{0xe2, ""}, {'a', REPLACED "a"}, {END, 0}}, false);
    run((step[]){{0xe2, ""}, {0x82, ""}, {BYTES_THE, REPLACED "the"}, {END, 0}}, false);
    run((step[]){{0xf0, ""}, {0xf0, REPLACED}, {0x9f, ""}, {FLUSH, REPLACED}, {END, 0}}, false);
    // Surrogates and overlong forms: the second byte already cannot be.
    run((step[]){{0xed, ""}, {0xa0, REPLACED REPLACED}, {0x80, REPLACED}, {END, 0}}, false);
    run((step[]){{0xe0, ""}, {0x80, REPLACED REPLACED}, {END, 0}}, false);
    run((step[]){{0xf4, ""}, {0x90, REPLACED REPLACED}, {END, 0}}, false);
    // Only known at the end; then a new text begins.
    run((step[]){{0xc3, ""}, {FLUSH, REPLACED}, {FLUSH, ""}, {0xa9, REPLACED}, {END, 0}}, false);
}

static void test_control_tokens(void **state)
{
    (void)state;
    const step hidden[] = {{BYTES_CONTROL, ""}, {BYTES_USER, "@@"}, {'x', "x"}, {END, NULL}};
    const step shown[] = {{BYTES_CONTROL, BYTES_CONTROL_TEXT}, {BYTES_USER, "@@"}, {END, NULL}};
    run(hidden, false);
    run(shown, true);
    // One between the halves of a character, and ids that are none.
    run((step[]){{0xc3, ""}, {BYTES_CONTROL, ""}, {0xa9, "\xc3\xa9"}, {END, NULL}}, false);
    run((step[]){{-1, ""}, {BYTES_COUNT, ""}, {INT32_MAX, ""}, {'x', "x"}, {END, NULL}}, false);
    run((step[]){{-1, ""}, {BYTES_COUNT, ""}, {INT32_MAX, ""}, {'x', "x"}, {END, NULL}}, true);
}

// Whatever the ids: each piece is valid by itself, and valid text comes out unchanged.
static void test_random_ids(void **state)
{
    (void)state;
    stk_detokenizer *d = open_detokenizer(true);
    uint32_t random = 7;
    for (int i = 0; i < 200000; ++i) {
        random = random * 1664525u + 1013904223u;
        int32_t id = (int32_t)((random >> 8) % (BYTES_COUNT + 1));
        if (random >> 31) // more of the bytes that begin or continue a character
            id = 0x80 + (int32_t)((random >> 8) % 0x78);
        stk_str got = id == BYTES_COUNT ? stk_detokenizer_flush(d) : stk_detokenizer_feed(d, id);
        for (size_t at = 0, len = 0; at < got.len_bytes; at += len)
            assert_int_equal(stk_utf8_step(got.data + at, got.len_bytes - at, &len),
                             STK_UTF8_VALID);
    }
    stk_detokenizer_flush(d);
    static const char text[] = "the \xe2\x82\xac \xf0\x9f\x98\x80 \xc3\xa9";
    size_t at = 0;
    for (size_t i = 0; i < sizeof text; ++i) { // the NUL too
        stk_str got = stk_detokenizer_feed(d, (uint8_t)text[i]);
        assert_memory_equal(got.data, text + at, got.len_bytes);
        at += got.len_bytes;
    }
    assert_int_equal(at, sizeof text);
    stk_detokenizer_close(&d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_characters_are_whole),
        cmocka_unit_test(test_invalid_bytes),
        cmocka_unit_test(test_control_tokens),
        cmocka_unit_test(test_random_ids),
    };
    return cmocka_run_group_tests(tests, open_vocab, close_vocab);
}
