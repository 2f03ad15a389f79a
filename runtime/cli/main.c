// cli/main.c: finds the sub-command and ends the process properly.
#include "base/nearest.h"
#include "cli/arguments.h"
#include "cli/commands.h"
#include "cli/interrupt.h"
#include "cli/output.h"
#include "cli/ranks.h"
#include "cluster/launcher.h"
#include <fcntl.h>
#include <locale.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { NAME_BYTES_MAX = 64 };

typedef struct command {
    const char *name, *line;
    int (*main)(int argc, char **argv);
} command;

static const command commands[] = {
#define STK_COMMAND(name, line) {#name, line, stk_cmd_##name},
#include "cli/commands.def"
#undef STK_COMMAND
};
enum { COMMAND_COUNT = sizeof commands / sizeof *commands };

static void print_usage(FILE *to)
{
    fputs("Usage: stoker COMMAND [ARGUMENT...]\n"
          "Runs mixture-of-experts language models that are larger than memory.\n\n",
          to);
    for (size_t i = 0; i < COMMAND_COUNT; i++)
        fprintf(to, "  %-10s %s\n", commands[i].name, commands[i].line);
    fputs("\n'stoker COMMAND --help' describes a command, 'stoker --version' the program.\n", to);
}

static const command *find_command(const char *name)
{
    const command *nearest = NULL;
    uint32_t nearest_distance = UINT32_MAX;
    for (size_t i = 0; i < COMMAND_COUNT; i++) {
        if (strcmp(commands[i].name, name) == 0)
            return &commands[i];
        uint32_t distance = stk_name_distance(name, commands[i].name);
        if (stk_name_is_near(name, commands[i].name) && distance < nearest_distance) {
            nearest = &commands[i];
            nearest_distance = distance;
        }
    }
    fprintf(stderr, "stoker: there is no command '%.*s'", NAME_BYTES_MAX, name);
    if (nearest)
        fprintf(stderr, ", did you mean '%s'?\n", nearest->name);
    else
        fputs("; 'stoker --help' lists them\n", stderr);
    return NULL;
}

static int run_command(const command *c, int argc, char **argv)
{
    char name[NAME_BYTES_MAX];
    snprintf(name, sizeof name, "stoker %s", c->name);
    argv[0] = name;
    stk_launch launch;
    if (stk_launch_detect(&launch) && !stk_ranks_know(c->name))
        return stk_arguments_misused(name, "this command is for one process: start it without "
                                           "mpirun");
    return c->main(argc, argv);
}

static int dispatch(int argc, char **argv)
{
    if (argc < 2) {
        print_usage(stderr);
        return STK_EXIT_USAGE;
    }
    const char *first = argv[1];
    if (strcmp(first, "--version") == 0 || strcmp(first, "-V") == 0) {
        puts("stoker " STK_VERSION);
        return STK_EXIT_DONE;
    }
    int is_help = strcmp(first, "help") == 0;
    if (strcmp(first, "--help") == 0 || strcmp(first, "-h") == 0 || (is_help && argc == 2)) {
        print_usage(stdout);
        return STK_EXIT_DONE;
    }
    if (first[0] == '-') {
        fprintf(stderr, "stoker: the command comes first, then '%.*s'; see 'stoker --help'\n",
                NAME_BYTES_MAX, first);
        return STK_EXIT_USAGE;
    }
    const command *c = find_command(is_help ? argv[2] : first);
    if (!c)
        return STK_EXIT_USAGE;
    if (is_help)
        return run_command(c, 2, (char *[]){NULL, (char[]){"--help"}, NULL});
    return run_command(c, argc - 1, argv + 1);
}

// Ranks other than 0 print nothing but log lines; what follows no command is no log line.
static void mute(int argc, char **argv)
{
    bool is_command = false;
    for (size_t i = 0; i < COMMAND_COUNT && argc > 1; i++)
        is_command |= strcmp(argv[1], commands[i].name) == 0;
    if (!freopen("/dev/null", "w", stdout) || (!is_command && !freopen("/dev/null", "w", stderr)))
        return; // then they print
}

// A standard stream that the caller closed (`<&-`) would become the next file that is opened: a
// chat would read the model as questions, and messages would end up in what is written. /dev/null
// takes its place, opened for the other direction, so that using the stream fails as it should.
static void occupy_closed_streams(void)
{
    static const int modes[] = {O_WRONLY, O_RDONLY, O_RDONLY};
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", modes[fd]) != fd)
            return;
}

int main(int argc, char **argv)
{
    occupy_closed_streams();
    if (stk_launch_is_mute())
        mute(argc, argv);
    setlocale(LC_CTYPE, ""); // the line editor needs it; numbers keep their points
    stk_interrupt_install();
    return stk_output_finish(stk_interrupt_exit_code(dispatch(argc, argv)));
}
