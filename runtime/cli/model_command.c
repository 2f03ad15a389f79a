#include "cli/model_command.h"

#include "cli/config_tables.h"
#include "cli/interrupt.h"
#include "engine/option_tables.h"
#include <assert.h>

bool stk_model_command_open(stk_model_command *command, int argc, char **argv, int *exit_code)
{
    stk_engine_options *engine = command->engine;
    stk_console_options console = {0};
    stk_option_binding bindings[STK_MODEL_COMMAND_BINDINGS_MAX + 6];
    uint32_t count = 0;
    assert(command->binding_count <= STK_MODEL_COMMAND_BINDINGS_MAX);
    while (count < command->binding_count) {
        bindings[count] = command->bindings[count];
        count++;
    }
    bindings[count++] = (stk_option_binding){&stk_engine_option_table, engine};
    bindings[count++] = (stk_option_binding){&stk_memory_option_table, engine};
    bindings[count++] = (stk_option_binding){&stk_gpu_option_table, engine};
    if (command->has_ranks)
        bindings[count++] = (stk_option_binding){&stk_cluster_option_table, engine};
    if (command->session)
        bindings[count++] = (stk_option_binding){&stk_session_option_table, command->session};
    bindings[count++] = (stk_option_binding){&stk_console_option_table, &console};
    const stk_arguments arguments = {
        .positional_doc = "MODEL",
        .doc = command->doc,
        .bindings = bindings,
        .binding_count = count,
        .positional_min = 1,
        .positional_max = 1,
        .positionals = &engine->model_path,
        .config = &command->config,
        .config_tables = stk_config_tables,
        .origins = command->origins,
    };
    if (!stk_arguments_parse(&arguments, argc, argv, exit_code))
        return false;
    const char *message = command->misused ? command->misused(command->options) : NULL;
    if (message) {
        stk_config_close(&command->config);
        *exit_code = stk_arguments_misused(argv[0], message);
        return false;
    }
    command->is_verbose = console.is_verbose;
    stk_console_open(&console, command->console);
    engine->cancel = stk_interrupt_flag();
    engine->log = &command->console->log;
    return true;
}

void stk_model_command_close(stk_model_command *command)
{
    stk_console_close(command->console);
    stk_config_close(&command->config);
}
