// cli/interrupt.h: Ctrl-C asks once, then kills; a closed pipe or a file-size limit is an error
// code, not a signal.
#ifndef STK_CLI_INTERRUPT_H
#define STK_CLI_INTERRUPT_H

#include <stdatomic.h>

// Handles SIGINT and ignores SIGPIPE and SIGXFSZ from here on.
void stk_interrupt_install(void);

// Non-zero after the first SIGINT; the second one ends the process as if it were not handled.
const atomic_int *stk_interrupt_flag(void);

// For commands that never look at the flag and leave nothing half done: the first SIGINT ends the
// process.
void stk_interrupt_end_at_once(void);

// Forgets a SIGINT, when what it stopped has ended.
void stk_interrupt_clear(void);

#endif
