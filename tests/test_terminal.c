// stoker on a pseudo terminal: chat with line editing, Ctrl-C at each moment, the progress bar.
//
// test_terminal STOKER. Every wait is for a text to appear, with a limit that only a hang reaches.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "cli/console.h"
#include <errno.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#define STORIES STK_MODELS "/stories-q4_0.gguf"

enum { SEEN_BYTES = 1 << 16, HANG_MS = 120000 };

static char *stoker;

typedef struct terminal {
    int fd;
    pid_t child;
    char seen[SEEN_BYTES]; // everything that was shown, NUL-terminated
    size_t length, mark;   // mark: behind what was last waited for
} terminal;

// Reads what the terminal shows. False: the other side is closed.
static bool pull(terminal *t)
{
    struct pollfd fd = {.fd = t->fd, .events = POLLIN};
    assert_true(t->length + 1 < SEEN_BYTES);
    if (poll(&fd, 1, HANG_MS) != 1)
        fail_msg("nothing came after: %s", t->seen);
    ssize_t got = read(t->fd, t->seen + t->length, SEEN_BYTES - 1 - t->length);
    if (got <= 0) // EIO: nobody has the terminal open any more
        return false;
    for (ssize_t i = 0; i < got; i++) // strings end at NUL
        if (t->seen[t->length + (size_t)i] == '\0')
            t->seen[t->length + (size_t)i] = '?';
    t->length += (size_t)got;
    t->seen[t->length] = '\0';
    return true;
}

// Waits until text is shown behind the mark, and moves the mark behind it.
static void await(terminal *t, const char *text)
{
    char *found;
    while (!(found = strstr(t->seen + t->mark, text)))
        if (!pull(t))
            fail_msg("ended without '%s': %s", text, t->seen + t->mark);
    t->mark = (size_t)(found - t->seen) + strlen(text);
}

// Waits until keys are the line editor's, or the terminal's: a key pressed before may be lost.
static void await_mode(terminal *t, bool is_editing)
{
    struct termios now;
    for (int tries = 0; tcgetattr(t->fd, &now) == 0 && !(now.c_lflag & ISIG) != is_editing;
         tries++) {
        assert_true(tries < HANG_MS / 10);
        poll(NULL, 0, 10);
    }
}

static void await_prompt(terminal *t)
{
    await(t, "> ");
    await_mode(t, true);
}

static void type(terminal *t, const char *keys)
{
    assert_int_equal(write(t->fd, keys, strlen(keys)), strlen(keys));
}

static terminal *start(char **argv)
{
    terminal *t = calloc(1, sizeof *t);
    assert_non_null(t);
    const struct winsize size = {.ws_row = 25, .ws_col = 200};
    t->child = forkpty(&t->fd, NULL, NULL, &size);
    assert_true(t->child >= 0);
    if (t->child == 0) {
        setenv("TERM", "xterm", 1);
        execv(stoker, argv);
        _exit(99);
    }
    return t;
}

// Waits for the end, frees t; returns the exit code, or minus the signal.
static int finish(terminal *t)
{
    int status;
    while (pull(t))
        continue;
    assert_int_equal(waitpid(t->child, &status, 0), t->child);
    if (strstr(t->seen, "LeakSanitizer"))
        fail_msg("%s", t->seen);
    close(t->fd);
    free(t);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

#define ARGV(...) ((char *[]){(char[]){"stoker"}, __VA_ARGS__, NULL})
#define ARG(text) ((char[]){text})

static terminal *start_chat(void)
{
    terminal *t = start(ARGV(ARG("run"), ARG(STORIES), ARG("--chat"), ARG("-n"), ARG("8"),
                             ARG("--temp"), ARG("0"), ARG("--threads"), ARG("1")));
    await_prompt(t);
    return t;
}

static void editing(void **state)
{
    (void)state;
    terminal *t = start_chat();
    type(t, "/hexx\b\blp\n"); // two letters taken back
    await(t, "Ctrl-C stops an answer.");
    await_prompt(t);
    type(t, "/syntax\001\013/reset\n"); // to the start, cut the line
    await(t, "\n");
    await_prompt(t);
    type(t, "\033[A\033[A\n"); // up twice: /help again
    await(t, "Ctrl-C stops an answer.");
    await_prompt(t);
    assert_null(strstr(t->seen, "there is no '"));
    type(t, "/nonsense\n");
    await(t, "Ctrl-C stops an answer.");
    await_prompt(t);
    type(t, "\004"); // Ctrl-D
    assert_int_equal(finish(t), 0);
}

static void dropped_line(void **state)
{
    (void)state;
    terminal *t = start_chat();
    type(t, "/nonsense");
    await(t, "/nonsense");
    type(t, "\003");
    type(t, "/exit\n");
    assert_null(strstr(t->seen, "there is no '"));
    assert_int_equal(finish(t), 0);
}

static void interrupted_answer(void **state)
{
    (void)state;
    terminal *t = start(ARGV(ARG("run"), ARG(STORIES), ARG("--chat"), ARG("--ctx"), ARG("100000"),
                             ARG("--repeat-penalty"), ARG("1.5"), ARG("--threads"), ARG("1"),
                             ARG("--verbose")));
    await_prompt(t);
    type(t, "Tell me a story.\n");
    await(t, "Tell me a story.");
    await_mode(t, false);
    type(t, "\003");
    await(t, "tokens/s; ended by "); // cancelled, or the end came first
    await(t, "\n");
    await_prompt(t);
    type(t, "/exit\n");
    assert_int_equal(finish(t), 0);
}

static void interrupted_text(void **state)
{
    (void)state;
    terminal *t = start(ARGV(ARG("run"), ARG(STORIES), ARG("-p"), ARG("Once upon a"), ARG("--ctx"),
                             ARG("1000000"), ARG("--temp"), ARG("0"), ARG("--threads"), ARG("1")));
    await(t, "Once upon a"); // from here on Ctrl-C is a signal that the program handles
    type(t, "\003");
    assert_int_equal(finish(t), 130);
}

// The bar in a child of its own, whose standard error is the terminal.
static void progress(void **state)
{
    (void)state;
    terminal *t = calloc(1, sizeof *t);
    assert_non_null(t);
    int answer[2]; // tells the child that the bar was seen
    assert_int_equal(pipe(answer), 0);
    t->child = forkpty(&t->fd, NULL, NULL, NULL);
    assert_true(t->child >= 0);
    if (t->child == 0) {
        stk_console console;
        stk_console_open(&(stk_console_options){0}, &console);
        struct pollfd go_on = {.fd = answer[0], .events = POLLIN};
        do {
            stk_progress(&console.log, "shovelling", 1, 4);
        } while (poll(&go_on, 1, 20) == 0);
        stk_warn(&console.log, "a line");
        stk_progress(&console.log, "shovelling", 4, 4);
        stk_console_close(&console);
        _exit(0);
    }
    await(t, "shovelling [#######.......................]  25%");
    assert_int_equal(write(answer[1], "", 1), 1);
    await(t, "\r\033[Kstoker: warning: a line");
    close(answer[0]);
    close(answer[1]);
    assert_int_equal(finish(t), 0);
}

// Nothing is drawn for what is short, and nothing at all with --quiet.
static void no_progress(void **state)
{
    (void)state;
    for (int is_quiet = 0; is_quiet < 2; is_quiet++) {
        terminal *t = calloc(1, sizeof *t);
        assert_non_null(t);
        t->child = forkpty(&t->fd, NULL, NULL, NULL);
        assert_true(t->child >= 0);
        if (t->child == 0) {
            stk_console console;
            stk_console_open(&(stk_console_options){.is_quiet = is_quiet}, &console);
            if (is_quiet)
                assert_null(console.log.progress);
            stk_progress(&console.log, "shovelling", 0, 4);
            stk_progress(&console.log, "shovelling", 4, 4);
            stk_console_close(&console);
            fputs("done", stderr);
            _exit(0);
        }
        await(t, "done");
        assert_string_equal(t->seen, "done");
        assert_int_equal(finish(t), 0);
    }
}

int main(int argc, char **argv)
{
    int main_fd, other_fd;
    if (argc != 2 || access(STORIES, R_OK) != 0)
        return 77;
    if (openpty(&main_fd, &other_fd, NULL, NULL, NULL) != 0) {
        perror("no terminals here (is /dev/pts mounted?)");
        return 77;
    }
    close(main_fd);
    close(other_fd);
    stoker = argv[1];
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(editing),          cmocka_unit_test(dropped_line),
        cmocka_unit_test(interrupted_text), cmocka_unit_test(interrupted_answer),
        cmocka_unit_test(progress),         cmocka_unit_test(no_progress),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
