// cli/commands.h: the sub-commands, one file each, listed in commands.def.
#ifndef STK_CLI_COMMANDS_H
#define STK_CLI_COMMANDS_H

enum { STK_EXIT_DONE = 0, STK_EXIT_FAILED = 1, STK_EXIT_USAGE = 2, STK_EXIT_INTERRUPTED = 130 };

// Each gets argv[0] = "stoker NAME" and returns the exit code.
#define STK_COMMAND(name, line) int stk_cmd_##name(int argc, char **argv);
#include "cli/commands.def"
#undef STK_COMMAND

#endif
