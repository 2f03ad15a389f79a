// cli/arguments.h: a sub-command's flags from its option tables, by argp.
//
// The only place that knows argp. Prints --help to standard output and every mistake to standard
// error, with what is allowed or the nearest flag.
#ifndef STK_CLI_ARGUMENTS_H
#define STK_CLI_ARGUMENTS_H

#include "base/config.h"
#include "base/options.h"

// Who gave an option its value: neither is its default.
typedef struct stk_argument_origin {
    const stk_option *option;
    bool is_flag;
    size_t config_line; // 0: not in the file, or a flag won
} stk_argument_origin;

enum { STK_ARGUMENT_ORIGINS_MAX = 64 };

typedef struct stk_argument_origins {
    const char *config_path; // NULL: no file
    stk_argument_origin items[STK_ARGUMENT_ORIGINS_MAX];
    uint32_t count;
} stk_argument_origins;

// NULL: the option has its default. `flag` is its name.
const stk_argument_origin *stk_argument_origin_of(const stk_argument_origins *origins,
                                                  const char *flag);

typedef struct stk_arguments {
    const char *positional_doc; // "MODEL [TEXT]"
    const char *doc;            // first paragraph of --help
    const stk_option_binding *bindings;
    uint32_t binding_count;
    uint32_t positional_min, positional_max;
    const char **positionals; // [positional_max], filled in order, the rest NULL; borrowed argv
    // NULL: no --config. Else it receives the file, or NULL when none is named; string options may
    // point into it, so the command closes it last.
    stk_config **config;
    const stk_option_table *const *config_tables; // all that a file may hold: stk_config_tables
    stk_argument_origins *origins;                // filled with what was given; NULL: nobody asks
} stk_arguments;

// Sets the defaults, then the values of --config FILE, then those of argv, where argv[0] is the
// name shown ("stoker run"). True: go on. False: --help was printed or a mistake reported; return
// *exit_code.
bool stk_arguments_parse(const stk_arguments *arguments, int argc, char **argv, int *exit_code);

// Reports a combination of options that makes no sense, in the same words, and returns the exit
// code. message is a phrase: "-p and -f exclude each other".
int stk_arguments_misused(const char *name, const char *message);

#endif
