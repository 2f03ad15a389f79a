#include "cli/console.h"

#include "cluster/cluster.h"
#include "cluster/launcher.h"

#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { BAR_CELLS = 30 };
static const uint64_t SHOW_AFTER_NS = 1000000000, REDRAW_NS = 100000000;

static const stk_option console_options[] = {
    {.flag = "verbose",
     .letter = 'v',
     .type = STK_OPTION_BOOL,
     .doc = "say what is done and how fast, on standard error",
     .offset = offsetof(stk_console_options, is_verbose)},
    {.flag = "quiet",
     .letter = 'q',
     .type = STK_OPTION_BOOL,
     .doc = "print errors only",
     .offset = offsetof(stk_console_options, is_quiet)},
};
const stk_option_table stk_console_option_table = {"Messages", console_options, 2};

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void erase(stk_console *console)
{
    if (console->is_drawn)
        fputs("\r\033[K", stderr);
    console->is_drawn = false;
}

static void on_write(void *user, stk_log_level level, const char *line)
{
    static const char *const prefixes[] = {[STK_LOG_ERROR] = "error: ",
                                           [STK_LOG_WARN] = "warning: ",
                                           [STK_LOG_INFO] = "",
                                           [STK_LOG_DEBUG] = ""};
    stk_console *console = user;
    pthread_mutex_lock(&console->mutex);
    erase(console);
    fprintf(stderr, "stoker: %s%s%s\n", console->rank, prefixes[level], line);
    pthread_mutex_unlock(&console->mutex);
}

static void draw(stk_console *console, uint64_t total, uint64_t elapsed_ns)
{
    static const char full[] = "##############################",
                      rest[] = "..............................";
    double part = total ? (double)console->done / (double)total : 0;
    int cells = (int)(part * BAR_CELLS);
    double seconds = (double)elapsed_ns * 1e-9, left = part > 0 ? seconds / part - seconds : 0;
    fprintf(stderr, "\r\033[K%s [%.*s%.*s] %3.0f%%, %.0f s left", console->what, cells, full,
            BAR_CELLS - cells, rest, part * 100, left);
    fflush(stderr);
    console->is_drawn = true;
}

static void on_progress(void *user, const char *what, uint64_t done, uint64_t total)
{
    stk_console *console = user;
    pthread_mutex_lock(&console->mutex);
    uint64_t now = now_ns();
    if (done < console->done || strncmp(console->what, what, sizeof console->what - 1) != 0) {
        snprintf(console->what, sizeof console->what, "%s", what);
        console->start_ns = now;
        console->drawn_ns = 0;
    }
    console->done = done < total ? done : total;
    if (done >= total) {
        erase(console);
        console->what[0] = '\0'; // the next one starts anew, even under the same name
    } else if (now - console->start_ns > SHOW_AFTER_NS && now - console->drawn_ns > REDRAW_NS) {
        draw(console, total, now - console->start_ns);
        console->drawn_ns = now;
    }
    pthread_mutex_unlock(&console->mutex);
}

// Lines of other ranks arrive between those of rank 0.
static void name_rank(stk_console *console)
{
    stk_launch launch;
    char host[STK_CLUSTER_HOST_BYTES] = "?";
    if (!stk_launch_detect(&launch) || launch.rank == 0)
        return;
    gethostname(host, sizeof host - 1);
    snprintf(console->rank, sizeof console->rank, "rank %u on %s: ", launch.rank, host);
}

void stk_console_open(const stk_console_options *options, stk_console *console)
{
    *console = (stk_console){.has_bars = !options->is_quiet && isatty(STDERR_FILENO) &&
                                         !stk_launch_is_mute()};
    pthread_mutex_init(&console->mutex, NULL);
    name_rank(console);
    console->log = (stk_log){
        .write = on_write,
        .progress = console->has_bars ? on_progress : NULL,
        .user = console,
        .level_max = options->is_quiet     ? STK_LOG_ERROR
                     : options->is_verbose ? STK_LOG_INFO
                                           : STK_LOG_WARN,
    };
}

void stk_console_close(stk_console *console)
{
    erase(console);
    pthread_mutex_destroy(&console->mutex);
}
