// Option tables: text to fields, limits, defaults, wording of errors, nearest names.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "base/nearest.h"
#include "base/options.h"

typedef struct sample {
    bool verbose;
    uint32_t threads;
    uint64_t seed;
    uint64_t memory_bytes;
    float temperature;
    const char *name;
    uint32_t io;
    uint32_t guard;
} sample;

static const char *const io_choices[] = {"io_uring", "pread", NULL};
static const stk_option sample_options[] = {
    {.flag = "verbose",
     .letter = 'v',
     .type = STK_OPTION_BOOL,
     .doc = "say more",
     .offset = offsetof(sample, verbose)},
    {.key = "cpu.threads",
     .flag = "threads",
     .type = STK_OPTION_U32,
     .has_auto = true,
     .min = 1,
     .max = 64,
     .fallback = "auto",
     .doc = "worker threads",
     .offset = offsetof(sample, threads)},
    {.flag = "seed",
     .type = STK_OPTION_U64,
     .fallback = "42",
     .doc = "seed",
     .offset = offsetof(sample, seed)},
    {.key = "memory",
     .flag = "memory",
     .type = STK_OPTION_SIZE,
     .min = 1048576,
     .fallback = "8GiB",
     .doc = "limit",
     .offset = offsetof(sample, memory_bytes)},
    {.flag = "temp",
     .type = STK_OPTION_F32,
     .max = 100,
     .fallback = "0.8",
     .doc = "temperature",
     .offset = offsetof(sample, temperature)},
    {.flag = "name", .type = STK_OPTION_STRING, .doc = "a name", .offset = offsetof(sample, name)},
    {.key = "store.io",
     .flag = "io",
     .type = STK_OPTION_ENUM,
     .choices = io_choices,
     .fallback = "pread",
     .doc = "how to read",
     .offset = offsetof(sample, io)},
};
enum { VERBOSE, THREADS, SEED, MEMORY, TEMP, NAME, IO, COUNT };
static const stk_option_table table = {"Sample", sample_options, COUNT};

static void defaults(void **state)
{
    (void)state;
    sample s = {.threads = 9, .guard = 0xfeed};
    stk_options_set_defaults(&table, &s);
    assert_false(s.verbose);
    assert_int_equal(s.threads, 0);
    assert_int_equal(s.seed, 42);
    assert_int_equal(s.memory_bytes, UINT64_C(8) << 30);
    assert_true(s.temperature == 0.8f);
    assert_null(s.name);
    assert_int_equal(s.io, 1);
    assert_int_equal(s.guard, 0xfeed);
}

static void accepts(void **state)
{
    (void)state;
    sample s = {0};
    char error[STK_OPTION_ERROR_BYTES];
#define ACCEPT(index, text)                                                                        \
    assert_int_equal(stk_option_parse(&sample_options[index], text, &s, error), STK_OK)
    ACCEPT(VERBOSE, "true");
    assert_true(s.verbose);
    ACCEPT(VERBOSE, "off");
    assert_false(s.verbose);
    ACCEPT(THREADS, "64");
    assert_int_equal(s.threads, 64);
    ACCEPT(THREADS, "auto");
    assert_int_equal(s.threads, 0);
    ACCEPT(SEED, "18446744073709551615");
    assert_true(s.seed == UINT64_MAX);
    ACCEPT(MEMORY, "1MiB");
    assert_int_equal(s.memory_bytes, 1048576);
    ACCEPT(TEMP, "1e-2");
    assert_true(s.temperature == 0.01f);
    ACCEPT(NAME, "auto");
    assert_string_equal(s.name, "auto");
    ACCEPT(IO, "io_uring");
    assert_int_equal(s.io, 0);
}

static void refuses(void **state)
{
    (void)state;
    static const struct {
        int index;
        const char *text, *error;
    } cases[] = {
        {VERBOSE, "maybe", "'maybe' is neither true nor false"},
        {THREADS, "0", "'0' is not a whole number from 1 to 64 or auto"},
        {THREADS, "65", "'65' is not a whole number from 1 to 64 or auto"},
        {THREADS, "4294967298", "'4294967298' is not a whole number from 1 to 64 or auto"},
        {THREADS, "", "'' is not a whole number from 1 to 64 or auto"},
        {THREADS, "4x", "'4x' is not a whole number from 1 to 64 or auto"},
        {SEED, "-1", "'-1' is not a whole number"},
        {SEED, "18446744073709551616", "'18446744073709551616' is not a whole number"},
        {SEED, "auto", "'auto' is not a whole number"},
        {MEMORY, "1KiB", "'1KiB' is not a size of at least 1 MiB"},
        {MEMORY, "8Q",
         "'8Q' is not a size of at least 1 MiB: unknown unit, use KiB, MiB, GiB or TiB"},
        {TEMP, "hot", "'hot' is not a number from 0 to 100"},
        {TEMP, "nan", "'nan' is not a number from 0 to 100"},
        {TEMP, "inf", "'inf' is not a number from 0 to 100"},
        {TEMP, "1e99", "'1e99' is not a number from 0 to 100"},
        {TEMP, "-0.1", "'-0.1' is not a number from 0 to 100"},
        {TEMP, "100.1", "'100.1' is not a number from 0 to 100"},
        {TEMP, "1 ", "'1 ' is not a number from 0 to 100"},
        {IO, "mmap", "'mmap' is not one of io_uring, pread"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        sample s, before;
        memset(&s, 0x5a, sizeof s);
        before = s;
        char error[STK_OPTION_ERROR_BYTES] = "";
        assert_int_equal(
            stk_option_parse(&sample_options[cases[i].index], cases[i].text, &s, error),
            STK_INVALID);
        assert_string_equal(error, cases[i].error);
        assert_memory_equal(&s, &before, sizeof s);
    }
    char longest[4096], error[STK_OPTION_ERROR_BYTES];
    memset(longest, 'x', sizeof longest - 1);
    longest[sizeof longest - 1] = '\0';
    sample s;
    assert_int_equal(stk_option_parse(&sample_options[IO], longest, &s, error), STK_INVALID);
    assert_true(strlen(error) < sizeof error);
}

static void describes(void **state)
{
    (void)state;
    char text[128];
    stk_option_describe(&sample_options[TEMP], text, sizeof text);
    assert_string_equal(text, "temperature (0 to 100, default 0.8)");
    stk_option_describe(&sample_options[MEMORY], text, sizeof text);
    assert_string_equal(text, "limit (default 8GiB)");
    stk_option_describe(&sample_options[NAME], text, sizeof text);
    assert_string_equal(text, "a name");
    assert_int_equal(stk_option_describe(&sample_options[NAME], text, 3), 6);
    assert_string_equal(text, "a ");
}

static void finds(void **state)
{
    (void)state;
    const stk_option_binding binding = {&table, NULL};
    assert_ptr_equal(stk_options_find_key(&table, "store.io"), &sample_options[IO]);
    assert_null(stk_options_find_key(&table, "store"));
    assert_string_equal(stk_options_nearest(&binding, 1, "thread", false), "threads");
    assert_string_equal(stk_options_nearest(&binding, 1, "tmep", false), "temp");
    assert_string_equal(stk_options_nearest(&binding, 1, "cpu.thraeds", true), "cpu.threads");
    assert_null(stk_options_nearest(&binding, 1, "colour", false));
    assert_null(stk_options_nearest(&binding, 1, "", false));
    assert_null(stk_options_nearest(&binding, 1, "x", false));
}

static void distances(void **state)
{
    (void)state;
    assert_int_equal(stk_name_distance("", ""), 0);
    assert_int_equal(stk_name_distance("", "abc"), 3);
    assert_int_equal(stk_name_distance("kitten", "sitting"), 3);
    assert_int_equal(stk_name_distance("temp", "tmep"), 1);
    assert_int_equal(stk_name_distance("run", "rnu"), 1);
    char longest[100];
    memset(longest, 'x', sizeof longest - 1);
    longest[99] = '\0';
    assert_int_equal(stk_name_distance(longest, "x"), UINT32_MAX);
    longest[63] = '\0';
    assert_int_equal(stk_name_distance(longest, "x"), 62);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults),  cmocka_unit_test(accepts), cmocka_unit_test(refuses),
        cmocka_unit_test(describes), cmocka_unit_test(finds),   cmocka_unit_test(distances),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
