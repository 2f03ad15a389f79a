// Every file of configs/ is planned for on an invented machine of the kind it is written for.
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
#include "engine/session.h"
#include "plan_shapes.h"

typedef struct device {
    const char *file;
    stk_plan_machine machine;
    uint32_t ranks;
} device;

static uint32_t devices(device *out)
{
    uint32_t n = 0;
    out[n++] = (device){"laptop-8gb.yaml", plan_machine(1, 8, 8 * GIB, 40), 1};
    out[n] = (device){"mini-pc-igpu.yaml", plan_machine(1, 8, 16 * GIB, 50), 1};
    plan_add_gpu(&out[n++].machine, 8 * GIB, true, 50);
    out[n] = (device){"workstation-dgpu.yaml", plan_machine(1, 16, 64 * GIB, 60), 1};
    plan_add_gpu(&out[n++].machine, 12 * GIB, false, 500);
    out[n++] = (device){"two-socket-server.yaml", plan_machine(2, 32, 128 * GIB, 200), 1};
    out[n++] = (device){"four-node-cluster.yaml", plan_machine(1, 16, 32 * GIB, 60), 4};
    out[n++] = (device){"raspberry-pi-5.yaml", plan_machine(1, 4, 8 * GIB, 12), 1};
    return n;
}

static void print_line(void *user, stk_log_level level, const char *line)
{
    (void)user;
    (void)level;
    print_message("%s\n", line);
}

// The configuration's values as wishes, the defaults where it has none.
static stk_plan_wishes load(const char *file, stk_config **config)
{
    static stk_engine_options engine;
    static stk_session_options session;
    char path[1024];
    const stk_log log = {.write = print_line, .level_max = STK_LOG_DEBUG};
    const stk_option_binding bindings[] = {{&stk_engine_option_table, &engine},
                                           {&stk_memory_option_table, &engine},
                                           {&stk_gpu_option_table, &engine},
                                           {&stk_session_option_table, &session}};
    const stk_config_options options = {
        .bindings = bindings, .binding_count = 4, .known = stk_config_tables};
    for (uint32_t i = 0; i < 4; i++)
        stk_options_set_defaults(bindings[i].table, bindings[i].target);
    snprintf(path, sizeof path, "%s/%s", STK_CONFIGS, file);
    assert_int_equal(stk_config_open(path, &options, &log, config), STK_OK);
    stk_plan_wishes w = plan_open_wishes();
    w.memory_bytes = engine.memory_bytes;
    w.worker_count = engine.thread_count ? engine.thread_count : STK_PLAN_OPEN;
    w.batch_rows = session.batch_rows_max ? session.batch_rows_max : STK_PLAN_OPEN;
    w.guess_layers = engine.guess_layers;
    w.reads_inflight = engine.reads_inflight_max ? engine.reads_inflight_max : STK_PLAN_OPEN;
    w.gpu_count = strcmp(engine.device, "cpu") != 0;
    if (engine.gpu_experts_percent != STK_GPU_EXPERTS_AUTO)
        w.gpu_percent = engine.gpu_experts_percent;
    return w;
}

static void check(const device *d, const stk_plan_model *model)
{
    stk_config *config = NULL;
    stk_plan_wishes w = load(d->file, &config);
    stk_plan p;
    w.rank_count = d->ranks;
    assert_int_equal(stk_plan_make(&d->machine, model, &w, &p), STK_OK);
    assert_true(p.total_bytes <= d->machine.memory_hard_bytes);
    if (w.memory_bytes)
        assert_true(p.total_bytes <= w.memory_bytes);
    assert_true(p.choices.worker_count <= d->machine.worker_max);
    if (w.worker_count != STK_PLAN_OPEN)
        assert_int_equal(p.choices.worker_count, w.worker_count);
    if (w.batch_rows != STK_PLAN_OPEN)
        assert_int_equal(p.choices.batch_rows, w.batch_rows);
    if (w.guess_layers != STK_PLAN_OPEN)
        assert_int_equal(p.choices.guess_layers, w.guess_layers);
    for (uint32_t g = 0; g < p.gpu_count; g++)
        assert_true(p.gpu_bytes[g] <= d->machine.gpus[g].memory_bytes &&
                    (w.gpu_percent == STK_PLAN_OPEN ||
                     p.choices.gpu_experts[g] <= p.experts * (uint64_t)w.gpu_percent / 100));
    assert_int_equal(p.rank_count, d->ranks);
    assert_true(p.decode.tokens_per_s > 0);
    stk_config_close(&config);
}

static void every_example_is_planned(void **state)
{
    (void)state;
    device all[8];
    uint32_t count = devices(all), files = 0;
    const stk_plan_model small = plan_model_4b(), large = plan_model_21b();
    for (uint32_t i = 0; i < count; i++) {
        check(&all[i], &small);
        check(&all[i], &large);
    }
    DIR *folder = opendir(STK_CONFIGS);
    assert_non_null(folder);
    for (struct dirent *entry; (entry = readdir(folder));)
        files += strstr(entry->d_name, ".yaml") != NULL;
    closedir(folder);
    assert_int_equal(files, count); // a new example needs its machine above
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_example_is_planned)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
