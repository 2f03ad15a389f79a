// base/log.h: messages and progress through callbacks.
//
// Owns no stream: the program that links the runtime decides where lines go. Whoever decides that
// something failed writes the text here, once, with the name of the thing; callers only forward
// the status. A NULL log discards everything.
#ifndef STK_BASE_LOG_H
#define STK_BASE_LOG_H

#include "base/status.h"
#include <stdint.h>

typedef enum stk_log_level {
    STK_LOG_ERROR,
    STK_LOG_WARN,
    STK_LOG_INFO,
    STK_LOG_DEBUG,
} stk_log_level;

// Thread-safety: the callbacks may be called from any thread; a log itself is immutable.
typedef struct stk_log {
    // line is one lowercase sentence without newline, valid during the call. Required.
    void (*write)(void *user, stk_log_level level, const char *line);
    // done of total units of `what` ("loading experts"); done == total ends it. May be NULL.
    void (*progress)(void *user, const char *what, uint64_t done, uint64_t total);
    void *user;
    stk_log_level level_max; // messages above it are not formatted
} stk_log;

void stk_log_write(const stk_log *log, stk_log_level level, const char *fmt, ...) STK_PRINTF(3, 4);

#define stk_error(log, ...) stk_log_write((log), STK_LOG_ERROR, __VA_ARGS__)
#define stk_warn(log, ...)  stk_log_write((log), STK_LOG_WARN, __VA_ARGS__)
#define stk_info(log, ...)  stk_log_write((log), STK_LOG_INFO, __VA_ARGS__)
#define stk_debug(log, ...) stk_log_write((log), STK_LOG_DEBUG, __VA_ARGS__)

// Logs at error level and returns `status`: `return stk_fail(log, STK_FORMAT, "%s: ...", path);`
stk_status stk_fail(const stk_log *log, stk_status status, const char *fmt, ...) STK_PRINTF(3, 4);

void stk_progress(const stk_log *log, const char *what, uint64_t done, uint64_t total);

#endif
