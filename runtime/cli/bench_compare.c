// cli/bench_compare.c: another program's speed, as it prints it itself.
//
// The command is the user's own and goes to the shell as it is. What it prints is read for a speed
// and otherwise dropped.
#include "cli/bench.h"
#include "cli/interrupt.h"
#include <ctype.h>
#include <fcntl.h>
#include <signal.h>
#include <errno.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

enum { OUTPUT_BYTES_MAX = 4 << 20, TAIL_BYTES = 200 };

// The number that ends at `end`, blanks skipped.
static bool number_before(const char *begin, const char *end, double *value)
{
    while (end > begin && isspace((unsigned char)end[-1]))
        end--;
    const char *start = end;
    while (start > begin && (isdigit((unsigned char)start[-1]) || start[-1] == '.'))
        start--;
    if (start == end || !isdigit((unsigned char)end[-1]))
        return false;
    *value = strtod(start, NULL);
    return *value > 0;
}

// A row of llama-bench: "| ... | tg64 @ d512 | 31.27 ± 0.23 |".
static bool table_speed(const char *line, size_t length, const char *test, double *value)
{
    const char *cells[2] = {NULL, NULL}, *end = line + length;
    while (end > line && isspace((unsigned char)end[-1]))
        end--;
    if (line[0] != '|' || end - line < 2 || end[-1] != '|')
        return false;
    for (const char *at = line; at < end - 1; at++) {
        if (*at == '|') {
            cells[0] = cells[1];
            cells[1] = at + 1;
        }
    }
    if (!cells[0])
        return false;
    cells[0] += strspn(cells[0], " ");
    if (strncmp(cells[0], test, strlen(test)) != 0)
        return false;
    char *after;
    double speed = strtod(cells[1], &after);
    if (after == cells[1] || speed <= 0)
        return false;
    *value = speed;
    return true;
}

static bool line_speed(const char *line, size_t length, double *value)
{
    static const char *const units[] = {"tok/s", "tokens/s", "t/s", "tokens per second"};
    bool found = false;
    for (const char *at = line; at < line + length; at++) {
        for (size_t u = 0; u < sizeof units / sizeof *units; u++) {
            size_t size = strlen(units[u]);
            if (size <= (size_t)(line + length - at) && strncmp(at, units[u], size) == 0)
                found |= number_before(line, at, value);
        }
    }
    return found;
}

bool stk_bench_find_speed(const char *text, bool is_prompt, double *tokens_per_s)
{
    bool in_table = false, found = false;
    while (*text) {
        size_t length = strcspn(text, "\n");
        if (table_speed(text, length, is_prompt ? "pp" : "tg", tokens_per_s))
            in_table = found = true;
        else if (!in_table) // a table's own row is worth more than what is printed below it
            found |= line_speed(text, length, tokens_per_s);
        text += length + (text[length] == '\n');
    }
    return found;
}

// Standard output and error of the child go to one pipe; its input is empty.
static int spawn(const char *command, int write_end, pid_t *pid)
{
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    sigset_t signals;
    char *argv[] = {(char[]){"sh"}, (char[]){"-c"}, (char *)command, NULL};
    int error = posix_spawn_file_actions_init(&actions);
    if (error)
        return error;
    error = posix_spawnattr_init(&attributes);
    if (!error) {
        sigemptyset(&signals); // what we ignore, others need not
        sigaddset(&signals, SIGPIPE);
        sigaddset(&signals, SIGXFSZ);
        posix_spawnattr_setsigdefault(&attributes, &signals);
        posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGDEF);
        posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
        posix_spawn_file_actions_adddup2(&actions, write_end, STDOUT_FILENO);
        posix_spawn_file_actions_adddup2(&actions, write_end, STDERR_FILENO);
        error = posix_spawn(pid, "/bin/sh", &actions, &attributes, argv, environ);
        posix_spawnattr_destroy(&attributes);
    }
    posix_spawn_file_actions_destroy(&actions);
    return error;
}

// Reads to the end of the pipe; keeps the last half when there is too much. Returns the length.
static size_t read_all(int fd, char *text)
{
    size_t length = 0;
    for (;;) {
        if (length == OUTPUT_BYTES_MAX) {
            length /= 2;
            memmove(text, text + length, length);
        }
        ssize_t n = read(fd, text + length, OUTPUT_BYTES_MAX - length);
        if (n < 0 && errno == EINTR) // Ctrl-C reaches the child too, which then ends
            continue;
        if (n <= 0)
            break;
        length += (size_t)n;
    }
    text[length] = '\0';
    return length;
}

static stk_status judge(const char *command, int wait_status, const char *text, size_t length,
                        bool is_prompt, const stk_log *log, double *tokens_per_s)
{
    const char *tail = length == 0           ? "nothing"
                       : length > TAIL_BYTES ? text + length - TAIL_BYTES
                                             : text;
    if (atomic_load(stk_interrupt_flag()))
        return STK_CANCELLED;
    if (!WIFEXITED(wait_status) || WEXITSTATUS(wait_status) != 0)
        return stk_fail(log, STK_IO, "'%s' failed (%s %d) after printing: %s", command,
                        WIFEXITED(wait_status) ? "exit code" : "signal",
                        WIFEXITED(wait_status) ? WEXITSTATUS(wait_status) : WTERMSIG(wait_status),
                        tail);
    if (strlen(text) != length || !stk_bench_find_speed(text, is_prompt, tokens_per_s))
        return stk_fail(log, STK_FORMAT,
                        "'%s' printed no speed in tokens/s; its output ended with: %s", command,
                        tail);
    return STK_OK;
}

stk_status stk_bench_command(const char *command, bool is_prompt, const stk_log *log,
                             double *tokens_per_s)
{
    int ends[2], wait_status = 0;
    pid_t pid;
    char *text = malloc(OUTPUT_BYTES_MAX + 1);
    if (!text)
        return stk_fail(log, STK_NO_MEMORY, "no memory for the output of '%s'", command);
    if (pipe2(ends, O_CLOEXEC) != 0) {
        free(text);
        return stk_fail(log, STK_IO, "cannot make a pipe: %s", strerror(errno));
    }
    int error = spawn(command, ends[1], &pid);
    close(ends[1]);
    stk_status status;
    if (error) {
        status = stk_fail(log, STK_IO, "cannot run '%s': %s", command, strerror(error));
    } else {
        size_t length = read_all(ends[0], text);
        while (waitpid(pid, &wait_status, 0) < 0 && errno == EINTR)
            ;
        status = judge(command, wait_status, text, length, is_prompt, log, tokens_per_s);
    }
    close(ends[0]);
    free(text);
    return status;
}
