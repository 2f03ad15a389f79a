// cli/cmd_plan.c: stoker plan MODEL: how it would be run, and how fast that should be.
#include "cli/arguments.h"
#include "cli/commands.h"
#include "cli/config_tables.h"
#include "cli/console.h"
#include "cli/plan_show.h"
#include "engine/engine.h"
#include "engine/option_tables.h"
#include "engine/session.h"
#include <string.h>

typedef struct plan_options {
    const char *topology;
    bool explains, is_refreshed, is_json;
} plan_options;

#define FIELD(name) .offset = offsetof(plan_options, name)
static const stk_option plan_table_options[] = {
    {.flag = "topology",
     .type = STK_OPTION_STRING,
     .unit = "FILE|TEXT",
     .doc = "another machine: an hwloc XML file, or 'pack:2 numa:2 core:16 pu:2'",
     FIELD(topology)},
    {.flag = "explain",
     .type = STK_OPTION_BOOL,
     .doc = "say where every value came from",
     FIELD(explains)},
    {.flag = "refresh",
     .type = STK_OPTION_BOOL,
     .doc = "measure this machine again, quickly",
     FIELD(is_refreshed)},
    {.flag = "json", .type = STK_OPTION_BOOL, .doc = "print one JSON object", FIELD(is_json)},
};
static const stk_option_table plan_table = {"Plan", plan_table_options,
                                            sizeof plan_table_options / sizeof *plan_table_options};

typedef struct planning {
    plan_options options;
    stk_engine_options engine;
    stk_session_options session;
    stk_argument_origins origins;
} planning;

static stk_status plan(planning *p, const stk_log *log)
{
    static stk_plan_facts facts; // large for a stack
    static stk_plan made;
    static stk_plan_model model;
    const stk_plan_facts_options options = {
        .topology = p->options.topology,
        .path = p->engine.model_path,
        .device = p->engine.device,
        .measures = true,
        .is_refreshed = p->options.is_refreshed,
    };
    stk_status status = stk_plan_facts_find(&options, log, &facts);
    if (status != STK_OK)
        return status;
    p->engine.machine = &facts.machine;
    p->engine.planned_session = &p->session;
    p->engine.log = log;
    status = stk_engine_plan(&p->engine, &made, &model);
    if (status != STK_OK)
        return status;
    const char *slash = strrchr(p->engine.model_path, '/');
    const stk_plan_shown shown = {
        .plan = &made,
        .model = &model,
        .facts = &facts,
        .origins = &p->origins,
        .model_name = slash ? slash + 1 : p->engine.model_path,
        .config_path = p->origins.config_path,
    };
    if (!p->options.is_json)
        stk_plan_print_text(&shown, p->options.explains);
    return p->options.is_json && stk_plan_print_json(&shown) != 0 ? STK_NO_MEMORY : STK_OK;
}

int stk_cmd_plan(int argc, char **argv)
{
    planning p = {0};
    stk_console_options console_options = {0};
    stk_console console;
    stk_config *config = NULL;
    const stk_option_binding bindings[] = {
        {&plan_table, &p.options},
        {&stk_engine_option_table, &p.engine},
        {&stk_memory_option_table, &p.engine},
        {&stk_gpu_option_table, &p.engine},
        {&stk_session_option_table, &p.session},
        {&stk_console_option_table, &console_options},
    };
    const stk_arguments arguments = {
        .positional_doc = "MODEL",
        .doc =
            "Shows how a model would be run: threads, memory, batches, and the time that each "
            "stage should take.\vSpeeds of this machine are measured once, in a few seconds, and "
            "remembered.",
        .bindings = bindings,
        .binding_count = sizeof bindings / sizeof *bindings,
        .positional_min = 1,
        .positional_max = 1,
        .positionals = &p.engine.model_path,
        .config = &config,
        .config_tables = stk_config_tables,
        .origins = &p.origins,
    };
    int exit_code;
    if (!stk_arguments_parse(&arguments, argc, argv, &exit_code))
        return exit_code;
    if (p.options.topology && p.options.is_refreshed) {
        stk_config_close(&config);
        return stk_arguments_misused(argv[0], "--refresh measures this machine, not a --topology");
    }
    stk_console_open(&console_options, &console);
    stk_status status = plan(&p, &console.log);
    stk_console_close(&console);
    stk_config_close(&config);
    return stk_exit_code(status);
}
