// The parts of the bench that need no model: medians, speeds found in other programs' output,
// skew, and pictures that are well-formed whatever the names in them are.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "cli/bench.h"
#include "cli/svg.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

static void test_median(void **state)
{
    (void)state;
    stk_bench_samples s = {0};
    assert_true(stk_bench_samples_median(&s) == 0 && stk_bench_samples_max(&s) == 0);
    stk_bench_samples_add(&s, 5);
    stk_bench_samples_add(&s, 1);
    assert_true(stk_bench_samples_median(&s) == 3);
    stk_bench_samples_add(&s, 100);
    assert_true(stk_bench_samples_median(&s) == 5);
    assert_true(stk_bench_samples_min(&s) == 1 && stk_bench_samples_max(&s) == 100);
    for (int i = 0; i < 1000; i++)
        stk_bench_samples_add(&s, 7); // what does not fit is dropped
    assert_true(s.count == sizeof s.values / sizeof *s.values);
}

static void test_find_speed(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        double decode, prompt; // 0: none
    } cases[] = {
        {"", 0, 0},
        {"no number here tok/s", 0, 0},
        {"31.2 tok/s", 31.2, 31.2},
        {"prompt: 100 tokens/s\ndecode: 12.5 tokens/s\n", 12.5, 12.5}, // the last one
        {"eval time = 5 ms / 3 runs (1.5 ms per token, 42.25 tokens per second)", 42.25, 42.25},
        {"speed 17 t/s, done", 17, 17},
        {"17 tokens/second", 17, 17},
        {"0.0 tok/s", 0, 0},
        {"| test | t/s |\n| pp512 | 107.5 ± 3.10 |\n| tg64 | 31.27 ± 0.23 |\n\nbuild: 5 tok/s\n",
         31.27, 107.5},
        {"| model | 2.1 GiB | CPU | 2 | tg64 @ d512 | 9.75 ± 0.23 |\r\n", 9.75, 0},
        {"| tg64 | n/a |\n", 0, 0},
        {"|", 0, 0},
        {"||", 0, 0},
        {"|tg|", 0, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        for (int is_prompt = 0; is_prompt < 2; is_prompt++) {
            double expected = is_prompt ? cases[i].prompt : cases[i].decode, speed = -1;
            bool found = stk_bench_find_speed(cases[i].text, is_prompt, &speed);
            if (found != (expected != 0) || (found && fabs(speed - expected) > 1e-9))
                fail_msg("case %zu, prompt %d: %s %f", i, is_prompt, found ? "found" : "none",
                         speed);
        }
    }
}

static void test_skew(void **state)
{
    (void)state;
    uint64_t use[2][4] = {{10, 10, 10, 10}, {1, 20, 18, 1}};
    stk_bench_result r = {.layer_count = 2,
                          .expert_count = 4,
                          .expert_used_count = 2,
                          .expert_tokens = 20,
                          .expert_use = &use[0][0]};
    double rates[4];
    stk_bench_rates(&r, 1, rates);
    assert_true(rates[0] == 1 && rates[1] == 0.9 && rates[2] == 0.05 && rates[3] == 0.05);
    stk_bench_skew skew = stk_bench_skew_of(&r);
    assert_true(fabs(skew.hottest_rate - 0.75) < 1e-9);
    assert_true(fabs(skew.rare_fraction - 2 / 8.0) < 1e-9);
    assert_true(fabs(skew.half_fraction - 3 / 8.0) <
                1e-9); // two of the even layer, one of the other
}

static void test_escape(void **state)
{
    (void)state;
    char *text;
    size_t length;
    FILE *stream = open_memstream(&text, &length);
    assert_non_null(stream);
    stk_svg svg = {.to = stream,
                   .width = 100,
                   .height = 50,
                   .right = 100,
                   .bottom = 50,
                   .x_max = 10,
                   .y_max = 5};
    stk_svg_begin(&svg, "a \"quoted\" <title>");
    stk_svg_bar(&svg, 0, 5, 0, 5, "s0", 0.5, "<script> & 'x'\x01");
    stk_svg_end(&svg);
    fclose(stream);
    assert_null(strstr(text, "<script>"));
    assert_null(strchr(text, 1));
    assert_non_null(strstr(text, "aria-label=\"a &quot;quoted&quot; &lt;title&gt;\""));
    assert_non_null(strstr(text, "<title>&lt;script&gt; &amp; &#39;x&#39; </title>"));
    assert_non_null(strstr(text, "x=\"0.00\" y=\"0.00\" width=\"50.00\" height=\"50.00\""));
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_median),
        cmocka_unit_test(test_find_speed),
        cmocka_unit_test(test_skew),
        cmocka_unit_test(test_escape),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
