// base/size.h: byte counts as people write and read them.
//
// Knows only text: what a size means is the caller's business. Words such as "auto" are not sizes.
#ifndef STK_BASE_SIZE_H
#define STK_BASE_SIZE_H

#include "base/status.h"
#include <stdint.h>

enum { STK_SIZE_TEXT_BYTES = 16 }; // the longest is "1023.9 MiB" and its NUL

// Reads "1000000", "512MiB", "1.5GiB", "8 G": digits with an optional fraction, then a unit in any
// case. K, M, G, T and P are powers of 1024 with or without "iB"; KB, MB... are powers of 1000, as
// in coreutils. A fraction of a byte is dropped. *out_bytes is written only on STK_OK.
// STK_INVALID: *why (may be NULL) says what is wrong, for "'8Q' is not a size: unknown unit".
STK_CHECKED stk_status stk_size_parse(const char *text, uint64_t *out_bytes, const char **why);

// Writes "512 B", "1.5 GiB" or "8 GiB" (one decimal at most, rounded down) and returns text.
char *stk_size_format(uint64_t bytes, char text[STK_SIZE_TEXT_BYTES]);

#endif
