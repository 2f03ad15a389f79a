// topology/sysfs.h: small text files of the kernel.
#ifndef STK_TOPOLOGY_SYSFS_H
#define STK_TOPOLOGY_SYSFS_H

#include "base/status.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { STK_SYSFS_PATH_BYTES = 1024, STK_SYSFS_TEXT_BYTES = 256 };

// Reads the first bytes of the file whose path the format gives into text[size] as a string, the
// last newline and spaces before it cut. False: it cannot be read; text is "".
bool stk_sysfs_text(char *text, size_t size, const char *fmt, ...) STK_PRINTF(3, 4);

// The same for a whole number. False: not there, or not a number ("max").
bool stk_sysfs_u64(uint64_t *out, const char *fmt, ...) STK_PRINTF(2, 3);

// The number after `key` at the start of a line, as in /proc/meminfo and memory.stat. False: none.
bool stk_sysfs_field(uint64_t *out, const char *key, const char *fmt, ...) STK_PRINTF(3, 4);

#endif
