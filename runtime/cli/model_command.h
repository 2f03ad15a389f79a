// cli/model_command.h: what the commands that open one model, `stoker NAME MODEL`, have in common:
// the flags of the engine, --config, the console, Ctrl-C.
#ifndef STK_CLI_MODEL_COMMAND_H
#define STK_CLI_MODEL_COMMAND_H

#include "base/options.h"
#include "cli/arguments.h"
#include "cli/console.h"
#include "engine/engine.h"
#include <stdbool.h>

struct stk_session_options;

typedef struct stk_model_command {
    const char *doc;                     // first paragraph of --help
    const stk_option_binding *bindings;  // the command's own tables, first in --help
    uint32_t binding_count;              // at most STK_MODEL_COMMAND_BINDINGS_MAX
    bool has_ranks;                      // takes the flags of a cluster too
    struct stk_session_options *session; // filled from its table's flags; NULL: not offered
    stk_argument_origins *origins;       // NULL: nobody asks
    // Says what makes no sense in the options, or NULL; called when they are read. NULL: not asked.
    const char *(*misused)(const void *options);
    const void *options;
    // What is opened: model_path, cancel and log are set beside the flags.
    stk_engine_options *engine;
    stk_console *console;
    bool is_verbose;

    stk_config *config; // private
} stk_model_command;

enum { STK_MODEL_COMMAND_BINDINGS_MAX = 4 };

// True: go on, and close at the end. False: --help was printed or a mistake reported, nothing is
// open; return *exit_code.
bool stk_model_command_open(stk_model_command *command, int argc, char **argv, int *exit_code);
// Last of all: options may point into the config, and all that logs uses the console.
void stk_model_command_close(stk_model_command *command);

#endif
