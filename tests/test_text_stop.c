// Stop strings against a search in the whole text, cut into pieces in every way.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/random.h"
#include "cli/text_stop.h"

enum { TEXT_BYTES = 24 };

static const char *const stops[] = {"aab", "<|end|>", "bcb"};
enum { STOP_COUNT = sizeof stops / sizeof *stops };

// Feeds text cut after each set bit of `cuts`; returns whether it was stopped, shown in out.
static bool feed(const char *text, size_t length, uint32_t cuts, char *out)
{
    stk_text_stop stop;
    stk_text_stop_begin(&stop, stops, STOP_COUNT);
    size_t from = 0, used = 0;
    bool goes_on = true;
    for (size_t i = 0; i < length && goes_on; i++) {
        if (i + 1 < length && !(cuts >> i & 1))
            continue;
        stk_text_shown shown;
        goes_on = stk_text_stop_feed(&stop, (stk_str){text + from, i + 1 - from}, &shown);
        memcpy(out + used, shown.before, shown.before_bytes);
        used += shown.before_bytes;
        if (shown.text.len_bytes)
            memcpy(out + used, shown.text.data, shown.text.len_bytes);
        used += shown.text.len_bytes;
        from = i + 1;
        // Nothing is lost, and a beginning of a stop at the end of what came is not shown.
        assert_true(!goes_on || used + stop.held_bytes == from);
        for (size_t s = 0; s < STOP_COUNT; s++)
            for (size_t n = strlen(stops[s]) - 1; n > 0 && goes_on; n--)
                if (from >= n && memcmp(text + from - n, stops[s], n) == 0)
                    assert_true(stop.held_bytes >= n);
    }
    stk_str rest = stk_text_stop_end(&stop);
    memcpy(out + used, rest.data, rest.len_bytes);
    out[used + rest.len_bytes] = '\0';
    return !goes_on;
}

static void random_texts(void **state)
{
    (void)state;
    stk_random random = stk_random_seeded(11);
    uint32_t stopped = 0;
    for (int round = 0; round < 20000; round++) {
        char text[TEXT_BYTES + 1], out[TEXT_BYTES + 1];
        size_t length = 1 + stk_random_u64(&random) % TEXT_BYTES;
        for (size_t i = 0; i < length; i++)
            text[i] = "abc"[stk_random_u64(&random) % 3];
        text[length] = '\0';
        const char *first = NULL;
        for (size_t s = 0; s < STOP_COUNT; s++) {
            const char *found = strstr(text, stops[s]);
            if (found && (!first || found < first))
                first = found;
        }
        bool is_stopped = feed(text, length, (uint32_t)stk_random_u64(&random), out);
        assert_int_equal(is_stopped, first != NULL);
        if (first)
            text[first - text] = '\0';
        assert_string_equal(out, text);
        stopped += is_stopped;
    }
    assert_in_range(stopped, 2000, 18000); // both cases were met
}

static void pieces(void **state)
{
    (void)state;
    char out[64];
    assert_true(feed("Yes.<|end|> No.", 15, 0, out));
    assert_string_equal(out, "Yes.");
    assert_true(feed("Yes.<|end|> No.", 15, UINT32_MAX, out));
    assert_string_equal(out, "Yes.");
    assert_false(feed("a <|en <|end|", 13, UINT32_MAX, out));
    assert_string_equal(out, "a <|en <|end|");
    assert_true(feed("<|end|>", 7, 8, out));
    assert_string_equal(out, "");
}

// A stop inside the beginning of a longer one.
static void nested(void **state)
{
    (void)state;
    static const char *const nest[] = {"abcd", "bc"};
    stk_text_stop stop;
    stk_text_shown shown;
    stk_text_stop_begin(&stop, nest, 2);
    assert_true(stk_text_stop_feed(&stop, stk_str_of("xabc"), &shown)); // "abcd" may still come
    assert_true(stk_str_is(shown.text, "x"));
    assert_true(stk_str_is(stk_text_stop_end(&stop), "a"));
    stk_text_stop_begin(&stop, nest, 2);
    assert_true(stk_text_stop_feed(&stop, stk_str_of("abc"), &shown));
    assert_false(stk_text_stop_feed(&stop, stk_str_of("e"), &shown));
    assert_int_equal(stop.found, 1);
    assert_int_equal(shown.before_bytes, 1);
    assert_int_equal(shown.text.len_bytes, 0);
}

static void no_stops(void **state)
{
    (void)state;
    stk_text_stop stop;
    stk_text_shown shown;
    stk_text_stop_begin(&stop, NULL, 0);
    assert_true(stk_text_stop_feed(&stop, stk_str_of("aab"), &shown));
    assert_int_equal(shown.before_bytes, 0);
    assert_true(stk_str_is(shown.text, "aab"));
    assert_true(stk_text_stop_feed(&stop, (stk_str){NULL, 0}, &shown));
    assert_int_equal(stk_text_stop_end(&stop).len_bytes, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_texts),
        cmocka_unit_test(pieces),
        cmocka_unit_test(nested),
        cmocka_unit_test(no_stops),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
