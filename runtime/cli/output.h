// cli/output.h: standard output that may be a pipe somebody closes or a disk that is full.
//
// Keeps no state: the stream remembers that it failed. A reader who has gone (`| head`) is not an
// error; anything else is reported once.
#ifndef STK_CLI_OUTPUT_H
#define STK_CLI_OUTPUT_H

#include "base/log.h"
#include <stddef.h>

// Writes and flushes, so that text appears as it is made. 0, or errno.
STK_CHECKED int stk_output_write(const void *data, size_t size_bytes);

// Whether a file could be written to `path`, for commands that compute long before they write:
// STK_INVALID when it is the model, STK_IO when it is a folder, has none or may not be written.
// Logged; creates nothing.
STK_CHECKED stk_status stk_output_check(const char *path, const char *model_path,
                                        const stk_log *log);

// For a command whose stk_output_write failed: drops what is buffered, reports `error` unless the
// reader has gone, and returns the exit code.
int stk_output_failed(int error);

// At the end of main: flushes what printf left; returns exit_code, or that of a failed write.
int stk_output_finish(int exit_code);

#endif
