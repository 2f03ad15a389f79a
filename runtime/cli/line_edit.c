#include "cli/line_edit.h"

#include <errno.h>
#include <histedit.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { HISTORY_LINES = 1000 };

struct stk_line_edit {
    EditLine *el; // NULL: not a terminal
    History *history;
    const char *prompt;
    char *line; // of getline
    size_t line_capacity;
};

static char *show_prompt(EditLine *el)
{
    stk_line_edit *edit;
    el_get(el, EL_CLIENTDATA, &edit);
    return (char *)edit->prompt;
}

static stk_status open_terminal(stk_line_edit *edit)
{
    FILE *out = isatty(STDOUT_FILENO) ? stdout : stderr;
    HistEvent event;
    edit->history = history_init();
    edit->el = el_init("stoker", stdin, out, stderr);
    if (!edit->history || !edit->el)
        return STK_NO_MEMORY;
    history(edit->history, &event, H_SETSIZE, HISTORY_LINES);
    history(edit->history, &event, H_SETUNIQUE, 1);
    el_set(edit->el, EL_CLIENTDATA, edit);
    el_set(edit->el, EL_PROMPT, show_prompt);
    el_set(edit->el, EL_EDITOR, "emacs");
    el_set(edit->el, EL_HIST, history, edit->history);
    // While a line is edited Ctrl-C is a key: a signal would leave the terminal half way. (libedit
    // forgets "intr=" when it reads the terminal's settings again, and keeps this.)
    el_set(edit->el, EL_SETTY, "-d", "-isig", NULL);
    // Not a function of our own: libedit never frees the names that EL_ADDFN copies.
    el_set(edit->el, EL_BIND, "^C", "ed-start-over", NULL);
    el_set(edit->el, EL_BIND, "^R", "em-inc-search-prev", NULL);
    return STK_OK;
}

stk_status stk_line_edit_open(const char *prompt, stk_line_edit **out)
{
    stk_line_edit *edit = calloc(1, sizeof *edit);
    if (!edit)
        return STK_NO_MEMORY;
    edit->prompt = prompt;
    stk_status status = isatty(STDIN_FILENO) ? open_terminal(edit) : STK_OK;
    if (status == STK_OK)
        *out = edit;
    else
        stk_line_edit_close(&edit);
    return status;
}

void stk_line_edit_close(stk_line_edit **edit)
{
    if (!*edit)
        return;
    if ((*edit)->el)
        el_end((*edit)->el);
    if ((*edit)->history)
        history_end((*edit)->history);
    free((*edit)->line);
    free(*edit);
    *edit = NULL;
}

bool stk_line_edit_is_terminal(const stk_line_edit *edit)
{
    return edit->el != NULL;
}

static stk_str without_newline(const char *data, size_t length)
{
    while (length && (data[length - 1] == '\n' || data[length - 1] == '\r'))
        length--;
    return (stk_str){data, length};
}

stk_line_result stk_line_edit_read(stk_line_edit *edit, stk_str *line)
{
    if (!edit->el) {
        errno = 0;
        ssize_t length = getline(&edit->line, &edit->line_capacity, stdin);
        if (length < 0)
            return errno && errno != EINTR ? STK_LINE_FAILED : STK_LINE_END;
        *line = without_newline(edit->line, (size_t)length);
        return STK_LINE_READ;
    }
    int length = 0;
    const char *data = el_gets(edit->el, &length);
    if (!data || length <= 0)
        return STK_LINE_END;
    *line = without_newline(data, (size_t)length);
    HistEvent event;
    if (line->len_bytes)
        history(edit->history, &event, H_ENTER, data);
    return STK_LINE_READ;
}
