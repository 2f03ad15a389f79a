// The splitting patterns against splits worked out by hand.
#include "model/tokenizer_internal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

typedef struct split_case {
    const char *pre;
    const char *text;
    const char *words; // separated by '|'
} split_case;

static const split_case cases[] = {
    {"qwen2", "Hello world", "Hello| world"},
    {"qwen2", "I'm DON'T we'Ll", "I|'m| DON|'T| we|'Ll"},
    {"qwen2", "12345 6", "1|2|3|4|5| |6"},
    {"qwen2", "a  b", "a| | b"},
    {"qwen2", "x = (y);\n\n  z", "x| =| (|y|);\n\n| | z"},
    {"qwen2", "tail   ", "tail|   "},
    {"qwen2", "a \n \n b", "a| \n \n| b"},
    {"qwen2", "a\r\nb", "a|\r\n|b"},
    {"qwen2", "\ttab", "\ttab"},
    {"qwen2", "#include", "#include"},
    {"qwen2", "##include", "##|include"},
    {"qwen2", "na\xc3\xafve \xd0\xb4\xd0\xb0", "na\xc3\xafve| \xd0\xb4\xd0\xb0"},
    {"qwen2", "\xc2\xa0x", "\xc2\xa0x"}, // a no-break space is one prefix character
    {"qwen2", "\xe3\x80\x80\xe3\x80\x80x", "\xe3\x80\x80|\xe3\x80\x80x"}, // ideographic spaces
    {"qwen2", "!\xe1\xa0\x8e!", "!\xe1\xa0\x8e!"},                        // U+180E is not a space
    {"qwen2", "x\xc5\xbf 'Hi'\xc5\xbf", "x\xc5\xbf| '|Hi|'\xc5\xbf"}, // long s is no contraction
    {"llama-bpe", "12345 6789", "123|45| |678|9"},
    {"llama-bpe", "It'S 3333!", "It|'S| |333|3|!"},
    {"llama3", "a  b\n\n\nc", "a| | b|\n\n\n|c"},
    {"llama-v3", "1\xd9\xa1\xc2\xbd\xe2\x85\xa7", "1\xd9\xa1\xc2\xbd|\xe2\x85\xa7"}, // \p{N}
    {"gpt-2", "Hello world", "Hello| world"},
    {"gpt-2", "I'm DON'T", "I|'m| DON|'|T"},
    {"gpt-2", "12345 678a", "12345| 678|a"},
    {"gpt2", "a  b", "a| | b"},
    {"gpt2", "x\n\ny", "x|\n|\n|y"},
    {"gpt2", "x\n\n", "x|\n\n"},
    {"gpt2", "(a).\n", "(|a|).|\n"},
    {"default", "ab 12", "ab| 12"},
    {"gpt2", "#include", "#|include"},
};

static void split(const split_case *c, char *out, size_t out_max)
{
    stk_pre *pre = NULL;
    stk_pre_scratch *scratch = NULL;
    bool whole_words = false;
    assert_int_equal(stk_pre_open(stk_str_of(c->pre), NULL, &pre, &whole_words), STK_OK);
    assert_int_equal(stk_pre_scratch_open(pre, &scratch), STK_OK);
    size_t len = strlen(c->text), filled = 0, word = 0;
    for (size_t at = 0; at < len; at += word) {
        assert_int_equal(stk_pre_next(pre, scratch, c->text, len, at, &word), STK_OK);
        assert_true(word > 0 && word <= len - at);
        filled += (size_t)snprintf(out + filled, out_max - filled, "%s%.*s", at ? "|" : "",
                                   (int)word, c->text + at);
    }
    stk_pre_scratch_close(&scratch);
    stk_pre_close(&pre);
}

static void test_splits(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; ++i) {
        char out[256] = "";
        split(&cases[i], out, sizeof out);
        if (strcmp(out, cases[i].words))
            print_error("%s: \"%s\" gives \"%s\"\n", cases[i].pre, cases[i].text, out);
        assert_string_equal(out, cases[i].words);
    }
}

static void count_warning(void *user, stk_log_level level, const char *line)
{
    assert_non_null(strstr(line, "tokenizer.ggml.pre"));
    *(int *)user += level == STK_LOG_WARN;
}

static void test_unknown_name_warns(void **state)
{
    (void)state;
    const struct {
        const char *name;
        int warnings;
        bool whole_words;
    } names[] = {{"qwen2", 0, false}, {"llama-bpe", 0, true}, {"no-such-pattern", 1, false}};
    for (size_t i = 0; i < sizeof names / sizeof *names; ++i) {
        int warnings = 0;
        stk_log log = {.write = count_warning, .user = &warnings, .level_max = STK_LOG_WARN};
        stk_pre *pre = NULL;
        bool whole_words = !names[i].whole_words;
        assert_int_equal(stk_pre_open(stk_str_of(names[i].name), &log, &pre, &whole_words), STK_OK);
        assert_int_equal(warnings, names[i].warnings);
        assert_int_equal(whole_words, names[i].whole_words);
        stk_pre_close(&pre);
        assert_null(pre);
    }
    split_case unknown = {"no-such-pattern", "DON'T 12 34", NULL};
    char out[64] = "";
    split(&unknown, out, sizeof out);
    assert_string_equal(out, "DON|'|T| 12| 34");
}

// A run of spaces as long as PCRE2's default match limit would be refused by it.
static void test_long_runs(void **state)
{
    (void)state;
    enum { LEN = 12 << 20 };
    static const char *const pres[] = {"qwen2", "gpt2", "llama3"};
    char *text = malloc(LEN);
    assert_non_null(text);
    memset(text, ' ', LEN);
    text[LEN - 1] = 'x';
    for (size_t i = 0; i < 3; ++i) {
        stk_pre *pre = NULL;
        stk_pre_scratch *scratch = NULL;
        bool whole_words;
        size_t word = 0;
        assert_int_equal(stk_pre_open(stk_str_of(pres[i]), NULL, &pre, &whole_words), STK_OK);
        assert_int_equal(stk_pre_scratch_open(pre, &scratch), STK_OK);
        assert_int_equal(stk_pre_next(pre, scratch, text, LEN, 0, &word), STK_OK);
        assert_int_equal(word, LEN - 2);
        assert_int_equal(stk_pre_next(pre, scratch, text, LEN, LEN - 2, &word), STK_OK);
        assert_int_equal(word, 2);
        stk_pre_scratch_close(&scratch);
        stk_pre_close(&pre);
    }
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_splits),
        cmocka_unit_test(test_unknown_name_warns),
        cmocka_unit_test(test_long_runs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
