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
#include <unistd.h>

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

static uint64_t busy_ticks(const char *text, const cpu_set_t *cpus)
{
    uint64_t ticks;
    FILE *stat = fmemopen((char *)text, strlen(text), "r");
    assert_non_null(stat);
    bool found = stk_bench_cpu_busy(stat, cpus, &ticks);
    fclose(stat);
    return found ? ticks : UINT64_MAX;
}

static void test_others(void **state)
{
    (void)state;
    static const char text[] = "cpu  9 9 9 9 9 9 9 9 9 9\n"
                               "cpu0 1 20 300 5000 5000 4000 50000 600000 7 7\n"
                               "cpu2 1 1 1 9 9 1 1\n" // Linux before 2.6.11 told of nothing stolen
                               "cpu11 2 2 2 9 9 2 2 2\n"
                               "intr 5 5 5 5 5 5 5 5 5 5\n";
    cpu_set_t cpus;
    CPU_ZERO(&cpus);
    assert_true(busy_ticks(text, &cpus) == UINT64_MAX);
    CPU_SET(1, &cpus);
    assert_true(busy_ticks(text, &cpus) == UINT64_MAX);
    CPU_SET(0, &cpus);
    assert_int_equal(busy_ticks(text, &cpus), 654321);
    CPU_SET(2, &cpus);
    CPU_SET(11, &cpus);
    assert_int_equal(busy_ticks(text, &cpus), 654321 + 5 + 12);

    // Two passes of 10 s on two CPUs, of which this process used 36 s and others 3 s.
    const stk_bench_cpu_times times[] = {
        {true, 100, 50, 1000}, {true, 119, 68, 1010}, {true, 140, 70, 1020}, {true, 160, 88, 1030}};
    stk_bench_report report = {.machine = {.cores = 2, .threads = 2, .load_average = 0}};
    stk_bench_result r = {.bandwidth.all = {{10, 11}, 2}};
    assert_false(stk_bench_is_noisy(&report, &r)); // nothing known, no load
    report.machine.load_average = 1.5;
    assert_true(stk_bench_is_noisy(&report, &r));
    stk_bench_others_add(&r.others, &times[0], &times[1]);
    double tick = 1.0 / (double)sysconf(_SC_CLK_TCK);
    assert_true(fabs(stk_bench_others_fraction(&r.others, 2) - (1 - 2 * tick) / 20) < 1e-9);
    assert_false(stk_bench_is_noisy(&report, &r)); // whatever the load
    stk_bench_others_add(&r.others, &times[2], &times[3]);
    assert_true(fabs(stk_bench_others_fraction(&r.others, 2) - (3 - 4 * tick) / 40) < 1e-9);
    assert_true(stk_bench_is_noisy(&report, &r));
    r.others.seconds = 3 * tick; // may be the clock's
    assert_true(stk_bench_others_fraction(&r.others, 2) == 0);
    assert_false(stk_bench_is_noisy(&report, &r));
    r.bandwidth.all.values[1] = 13;
    assert_true(stk_bench_is_noisy(&report, &r));
}

// This process's own work is not somebody else's: read from the system, on whatever CPUs there are.
static void test_others_here(void **state)
{
    (void)state;
    stk_bench_machine machine = {0};
    assert_int_equal(sched_getaffinity(0, sizeof machine.cpus, &machine.cpus), 0);
    stk_bench_cpu_times before = stk_bench_cpu_times_now(&machine);
    if (!before.is_known)
        skip();
    volatile double x = 1;
    stk_bench_cpu_times now = before;
    while (now.own_s < before.own_s + 0.3) {
        for (int i = 0; i < 100000; i++)
            x = x * 1.0000001;
        now = stk_bench_cpu_times_now(&machine);
    }
    stk_bench_others others = {0};
    stk_bench_others_add(&others, &before, &now);
    assert_true(others.is_known && others.elapsed_s > 0);
    assert_true(now.all_s - before.all_s >= 0.1); // the system counted it too, by its coarser clock
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
        cmocka_unit_test(test_median),      cmocka_unit_test(test_find_speed),
        cmocka_unit_test(test_skew),        cmocka_unit_test(test_others),
        cmocka_unit_test(test_others_here), cmocka_unit_test(test_escape),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
