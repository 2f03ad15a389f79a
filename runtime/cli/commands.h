// cli/commands.h: the sub-commands, one file each, listed in commands.def.
#ifndef STK_CLI_COMMANDS_H
#define STK_CLI_COMMANDS_H

#include "base/status.h"

enum { STK_EXIT_DONE = 0, STK_EXIT_FAILED = 1, STK_EXIT_USAGE = 2, STK_EXIT_INTERRUPTED = 130 };

// The exit code for what ended with `status`.
static inline int stk_exit_code(stk_status status)
{
    return status == STK_OK          ? STK_EXIT_DONE
           : status == STK_CANCELLED ? STK_EXIT_INTERRUPTED
                                     : STK_EXIT_FAILED;
}

// Each gets argv[0] = "stoker NAME" and returns the exit code.
#define STK_COMMAND(name, line) int stk_cmd_##name(int argc, char **argv);
#include "cli/commands.def"
#undef STK_COMMAND

#endif
