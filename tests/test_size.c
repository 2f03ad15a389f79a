// Sizes as text: every unit, the limits of 64 bits, and what must be refused.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "base/size.h"

static void parses(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint64_t bytes;
    } cases[] = {
        {"0", 0},
        {"1000000", 1000000},
        {"1b", 1},
        {"512MiB", UINT64_C(512) << 20},
        {"1.5GiB", UINT64_C(3) << 29},
        {"8G", UINT64_C(8) << 30},
        {"8 gib", UINT64_C(8) << 30},
        {"2T", UINT64_C(2) << 40},
        {"1K", 1024},
        {"1KB", 1000},
        {"2.5MB", 2500000},
        {"0.1KiB", 102},
        {"1.9", 1},
        {"0.9999999999999GiB", 1073740750}, // six digits of the fraction count
        {"18446744073709551615", UINT64_MAX},
        {"16383P", UINT64_C(16383) << 50},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint64_t bytes = 7;
        assert_int_equal(stk_size_parse(cases[i].text, &bytes, NULL), STK_OK);
        assert_int_equal(bytes, cases[i].bytes);
    }
}

static void refuses(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"", "digit"},
        {"auto", "digit"},
        {"-1", "negative"},
        {"+1", "digit"},
        {" 1", "digit"},
        {"1.", "point"},
        {"1.G", "point"},
        {".5G", "digit"},
        {"8Q", "unit"},
        {"8GiBs", "unit"},
        {"8Gi", "unit"},
        {"1e9", "unit"},
        {"1 2", "unit"},
        {"16384P", "too large"},
        {"1,5G", "unit"},
        {"GiB", "digit"},
        {"nan", "digit"},
        {"1G ", "unit"},
        {"18446744073709551616", "too large"},
        {"0x10", "unit"},
        {"16777216T", "too large"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint64_t bytes = 7;
        const char *why = "";
        assert_int_equal(stk_size_parse(cases[i][0], &bytes, &why), STK_INVALID);
        assert_int_equal(bytes, 7);
        if (!strstr(why, cases[i][1]))
            fail_msg("'%s': \"%s\" does not speak of \"%s\"", cases[i][0], why, cases[i][1]);
    }
}

static void formats(void **state)
{
    (void)state;
    static const struct {
        uint64_t bytes;
        const char *text;
    } cases[] = {
        {0, "0 B"},
        {1023, "1023 B"},
        {1024, "1 KiB"},
        {1536, "1.5 KiB"},
        {(UINT64_C(1) << 30) - 1, "1023.9 MiB"},
        {UINT64_C(8) << 30, "8 GiB"},
        {UINT64_MAX, "15.9 EiB"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[STK_SIZE_TEXT_BYTES];
        assert_string_equal(stk_size_format(cases[i].bytes, text), cases[i].text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parses),
        cmocka_unit_test(refuses),
        cmocka_unit_test(formats),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
