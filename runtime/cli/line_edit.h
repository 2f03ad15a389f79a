// cli/line_edit.h: lines a person types, with editing and history, or lines from a pipe.
//
// The only place that knows libedit. On a terminal Ctrl-C drops the line and Ctrl-D on an empty
// one ends the input; anywhere else lines are read as they come and no prompt is shown.
#ifndef STK_CLI_LINE_EDIT_H
#define STK_CLI_LINE_EDIT_H

#include "base/status.h"
#include "base/str.h"
#include <stdbool.h>

// Thread-safety: none; one per process, it owns standard input.
typedef struct stk_line_edit stk_line_edit;

typedef enum stk_line_result {
    STK_LINE_READ,
    STK_LINE_END,    // Ctrl-D, end of the pipe, or Ctrl-C where no terminal is
    STK_LINE_FAILED, // not a terminal and it cannot be read; errno says why
} stk_line_result;

// prompt ("> ") is borrowed and must outlive *out. STK_NO_MEMORY.
STK_CHECKED stk_status stk_line_edit_open(const char *prompt, stk_line_edit **out);
void stk_line_edit_close(stk_line_edit **edit); // sets it to NULL; NULL is allowed

bool stk_line_edit_is_terminal(const stk_line_edit *edit);

// *line, without its newline, is valid until the next call; written only on STK_LINE_READ.
stk_line_result stk_line_edit_read(stk_line_edit *edit, stk_str *line);

#endif
