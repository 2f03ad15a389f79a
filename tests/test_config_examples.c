// Every file of configs/ loads into the real tables, and says something.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>
#include <dirent.h>

#include "base/config.h"
#include "cli/config_tables.h"
#include "engine/engine.h"
#include "engine/option_tables.h"
#include "engine/sampler.h"
#include "engine/session.h"

static void print_line(void *user, stk_log_level level, const char *line)
{
    (void)user;
    (void)level;
    print_message("%s\n", line);
}

typedef struct everything {
    stk_engine_options engine;
    stk_session_options session;
    stk_sampler_options sampler;
} everything;

static void load(const char *path, everything *e, stk_config **config)
{
    const stk_log log = {.write = print_line, .level_max = STK_LOG_DEBUG};
    const stk_option_binding bindings[] = {{&stk_engine_option_table, &e->engine},
                                           {&stk_memory_option_table, &e->engine},
                                           {&stk_session_option_table, &e->session},
                                           {&stk_sampler_option_table, &e->sampler}};
    const stk_config_options options = {
        .bindings = bindings, .binding_count = 4, .known = stk_config_tables};
    for (uint32_t i = 0; i < 4; i++)
        stk_options_set_defaults(bindings[i].table, bindings[i].target);
    assert_int_equal(stk_config_open(path, &options, &log, config), STK_OK);
}

static void examples_load(void **state)
{
    (void)state;
    DIR *folder = opendir(STK_CONFIGS);
    assert_non_null(folder);
    uint32_t count = 0;
    for (struct dirent *entry; (entry = readdir(folder));) {
        const char *dot = strrchr(entry->d_name, '.');
        if (!dot || strcmp(dot, ".yaml") != 0)
            continue;
        char path[1024];
        snprintf(path, sizeof path, "%s/%s", STK_CONFIGS, entry->d_name);
        everything e = {0};
        stk_config *config = NULL;
        load(path, &e, &config);
        stk_config_close(&config);
        count++;
    }
    closedir(folder);
    assert_true(count >= 6);
}

static void example_takes_effect(void **state)
{
    (void)state;
    everything e = {0};
    stk_config *config = NULL;
    load(STK_CONFIGS "/raspberry-pi-5.yaml", &e, &config);
    assert_int_equal(e.engine.thread_count, 3);
    assert_int_equal(e.engine.memory_bytes, UINT64_C(6) << 30);
    assert_int_equal(e.session.context_tokens, 2048);
    assert_int_equal(e.sampler.top_k, 40); // a default
    stk_config_close(&config);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(examples_load),
        cmocka_unit_test(example_takes_effect),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
