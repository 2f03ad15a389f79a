// cli/cmd_plan.c: stoker plan MODEL: how it would be run, and how fast that should be.
#include "cli/commands.h"
#include "cli/console.h"
#include "cli/interrupt.h"
#include "cli/model_command.h"
#include "cli/plan_show.h"
#include "engine/engine.h"
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

static const char *misused(const void *options)
{
    const plan_options *o = options;
    return o->topology && o->is_refreshed ? "--refresh measures this machine, not a --topology"
                                          : NULL;
}

int stk_cmd_plan(int argc, char **argv)
{
    planning p = {0};
    stk_console console;
    const stk_option_binding bindings[] = {{&plan_table, &p.options}};
    stk_model_command command = {
        .doc =
            "Shows how a model would be run: threads, memory, batches, and the time that each "
            "stage should take.\vSpeeds of this machine are measured once, in a few seconds, and "
            "remembered.",
        .bindings = bindings,
        .binding_count = sizeof bindings / sizeof *bindings,
        .session = &p.session,
        .origins = &p.origins,
        .misused = misused,
        .options = &p.options,
        .engine = &p.engine,
        .console = &console,
    };
    int exit_code;
    if (!stk_model_command_open(&command, argc, argv, &exit_code))
        return exit_code;
    stk_interrupt_end_at_once(); // measuring takes seconds
    stk_status status = plan(&p, &console.log);
    stk_model_command_close(&command);
    return stk_exit_code(status);
}
