// cli/interrupt.h: Ctrl-C and requests to end ask once, then kill; a closed pipe or a file-size
// limit is an error code, not a signal.
#ifndef STK_CLI_INTERRUPT_H
#define STK_CLI_INTERRUPT_H

#include <stdatomic.h>

// Handles SIGINT, SIGTERM and SIGHUP (unless ignored, as nohup does) and ignores SIGPIPE and
// SIGXFSZ from here on.
void stk_interrupt_install(void);

// Non-zero after the first of these; the second one ends the process as if it were not handled.
const atomic_int *stk_interrupt_flag(void);

// For commands that never look at the flag and leave nothing half done: the first of these
// ends the process.
void stk_interrupt_end_at_once(void);

// For what may wait where only Ctrl-C is looked for: SIGTERM and SIGHUP end the process again.
void stk_interrupt_only_from_keyboard(void);

// Forgets a SIGINT, when what it stopped has ended.
void stk_interrupt_clear(void);

// The exit code instead of one that says interrupted: which signal it was. Others are returned.
int stk_interrupt_exit_code(int exit_code);

#endif
