// cli/console.h: the log and the progress bars of a command, on standard error.
//
// Invariant: a bar is drawn only on a terminal and only for what takes more than a second, and it
// is gone before anything else is printed.
#ifndef STK_CLI_CONSOLE_H
#define STK_CLI_CONSOLE_H

#include "base/log.h"
#include "base/options.h"
#include <pthread.h>
#include <stdbool.h>

typedef struct stk_console_options {
    bool is_verbose; // info lines too
    bool is_quiet;   // errors only, no bars
} stk_console_options;

extern const stk_option_table stk_console_option_table; // --verbose, --quiet

// Thread-safety: the log may be used from any thread. The fields are for console.c.
typedef struct stk_console {
    stk_log log; // pass &console.log to what logs; not after stk_console_close
    pthread_mutex_t mutex;
    bool has_bars, is_drawn;
    char rank[96]; // "rank 1 on HOST: ", or empty
    char what[64];
    uint64_t done, start_ns, drawn_ns;
} stk_console;

void stk_console_open(const stk_console_options *options, stk_console *console);
void stk_console_close(stk_console *console); // erases a bar that is still there

#endif
