// Mistakes in configuration files: each is found at its line and column, in words that help.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "base/config.h"
#include "cli/config_tables.h"
#include "engine/engine.h"
#include "engine/option_tables.h"

static void keep_line(void *user, stk_log_level level, const char *line)
{
    (void)level;
    snprintf(user, 1024, "%s", line);
}

typedef struct mistake {
    const char *text, *message;
} mistake;

static const mistake mistakes[] = {
#include "config_mistakes.def"
};

static void every_mistake_is_placed(void **state)
{
    (void)state;
    uint32_t count = sizeof mistakes / sizeof *mistakes;
    for (uint32_t i = 0; i < count; i++) {
        char line[1024] = "";
        const stk_log log = {.write = keep_line, .user = line, .level_max = STK_LOG_DEBUG};
        stk_engine_options engine = {0};
        const stk_option_binding bindings[] = {{&stk_engine_option_table, &engine},
                                               {&stk_memory_option_table, &engine}};
        const stk_config_options options = {
            .bindings = bindings, .binding_count = 2, .known = stk_config_tables};
        stk_config *config = NULL;
        stk_status status = stk_config_parse("x.yaml", mistakes[i].text, strlen(mistakes[i].text),
                                             &options, &log, &config);
        if (status == STK_OK || strcmp(line, mistakes[i].message) != 0)
            fail_msg("mistake %u:\n%s\nsays: %s\nnot:  %s", i, mistakes[i].text, line,
                     mistakes[i].message);
    }
    assert_true(count >= 40);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_mistake_is_placed)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
