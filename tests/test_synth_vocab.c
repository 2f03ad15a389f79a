// vocab.json and merges.txt of `stoker synth --vocab-dir`, as they should be and damaged.
#include "cli/synth_vocab.h"
#include "gguf_make.h"

static void put(const char *name, const char *text)
{
    FILE *file = fopen(in_folder(name), "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(text, 1, strlen(text), file), strlen(text));
    fclose(file);
}

static void test_read(void **unused)
{
    (void)unused;
    stk_synth_vocab vocab;
    put("vocab.json", "{\"b\": 1, \"\\u0120\": 2, \"a\": 0}");
    put("merges.txt", "#version: 0.2\na b\n\n# a\nlast one");
    assert_int_equal(stk_synth_vocab_read(folder, &test_log, &vocab), STK_OK);
    assert_int_equal(vocab.token_count, 3);
    assert_true(stk_str_is(vocab.tokens[0], "a"));
    assert_true(stk_str_is(vocab.tokens[1], "b"));
    assert_true(stk_str_is(vocab.tokens[2], "\xc4\xa0"));
    assert_int_equal(vocab.merge_count, 3);
    assert_true(stk_str_is(vocab.merges[0], "a b"));
    assert_true(stk_str_is(vocab.merges[1], "# a"));
    assert_true(stk_str_is(vocab.merges[2], "last one"));
    stk_synth_vocab_free(&vocab);
}

static void refused(const char *json, stk_status expected, const char *part)
{
    stk_synth_vocab vocab;
    put("vocab.json", json);
    stk_status status = stk_synth_vocab_read(folder, &test_log, &vocab);
    if (status != expected || !strstr(last_line, part) || !strstr(last_line, "/vocab.json"))
        fail_msg("%s: %s, '%s' lacks '%s'", json, stk_status_name(status), last_line, part);
}

static void test_refusals(void **unused)
{
    (void)unused;
    stk_synth_vocab vocab;
    put("merges.txt", "");
    refused("{\"a\": 0,\n ?}", STK_FORMAT, "vocab.json:2:");
    refused("[1]", STK_FORMAT, "not an object");
    refused("{}", STK_FORMAT, "not an object");
    refused("{\"a\": 1}", STK_FORMAT, "'a': its id is not in 0..0");
    refused("{\"a\": -1}", STK_FORMAT, "'a': its id");
    refused("{\"a\": \"x\"}", STK_FORMAT, "'a': its id");
    refused("{\"a\": 0, \"b\": 0}", STK_FORMAT, "same id");
    unlink(in_folder("merges.txt"));
    put("vocab.json", "{\"a\": 0}");
    assert_int_equal(stk_synth_vocab_read(folder, &test_log, &vocab), STK_IO);
    assert_non_null(strstr(last_line, "/merges.txt: cannot open"));
    unlink(in_folder("vocab.json"));
    assert_int_equal(stk_synth_vocab_read(folder, &test_log, &vocab), STK_IO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_read),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
