// cli/read_text.h: whole text files and lists of token ids.
#ifndef STK_CLI_READ_TEXT_H
#define STK_CLI_READ_TEXT_H

#include "base/log.h"
#include "base/str.h"
#include <stdint.h>

enum { STK_TEXT_BYTES_MAX = 1 << 30 };

// Reads all of `path`, "-" for standard input, into *out, which the caller frees with
// free((char *)out->data). *out is written only on STK_OK. STK_IO, STK_NO_MEMORY, STK_INVALID
// (larger than STK_TEXT_BYTES_MAX): a line names the file; STK_CANCELLED: Ctrl-C while waiting.
STK_CHECKED stk_status stk_text_read(const char *path, const stk_log *log, stk_str *out);

// Parses "1,2,3" (commas or white space between) into *ids[*count], allocated. Each id must be
// below vocab_size. STK_INVALID: a line says which one is wrong.
STK_CHECKED stk_status stk_ids_parse(stk_str text, uint32_t vocab_size, const stk_log *log,
                                     int32_t **ids, uint32_t *count);

#endif
