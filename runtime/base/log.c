#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>

enum { LINE_BYTES_MAX = 1024 };

STK_PRINTF(3, 0)
static void write_line(const stk_log *log, stk_log_level level, const char *fmt, va_list args)
{
    char line[LINE_BYTES_MAX];
    vsnprintf(line, sizeof line, fmt, args);
    log->write(log->user, level, line);
}

void stk_log_write(const stk_log *log, stk_log_level level, const char *fmt, ...)
{
    if (!log || level > log->level_max)
        return;
    va_list args;
    va_start(args, fmt);
    write_line(log, level, fmt, args);
    va_end(args);
}

stk_status stk_fail(const stk_log *log, stk_status status, const char *fmt, ...)
{
    if (log) {
        va_list args;
        va_start(args, fmt);
        write_line(log, STK_LOG_ERROR, fmt, args);
        va_end(args);
    }
    return status;
}

void stk_progress(const stk_log *log, const char *what, uint64_t done, uint64_t total)
{
    if (log && log->progress)
        log->progress(log->user, what, done, total);
}
