// cli/text_stop.h: ends a streamed text at the first of a few strings, which may come in pieces.
//
// For models whose vocabulary has no token that ends a reply. Knows nothing of tokens. Invariant:
// what is released never contains a stop string nor a beginning of one that could still grow.
#ifndef STK_CLI_TEXT_STOP_H
#define STK_CLI_TEXT_STOP_H

#include "base/str.h"

enum { STK_TEXT_STOP_BYTES_MAX = 64 }; // of one stop string

// Thread-safety: none. The fields are for text_stop.c.
typedef struct stk_text_stop {
    const char *const *stops; // [stop_count], borrowed
    size_t stop_count;        // 0: nothing stops the text
    char held[STK_TEXT_STOP_BYTES_MAX];
    size_t held_bytes;
    bool is_over;
    size_t found; // the index of the stop string, once is_over
} stk_text_stop;

// What may be shown: first what was held back, then a part of what was fed.
typedef struct stk_text_shown {
    char before[STK_TEXT_STOP_BYTES_MAX];
    size_t before_bytes;
    stk_str text; // of the argument
} stk_text_shown;

// Begins a text. stops[0..count) of 1 to STK_TEXT_STOP_BYTES_MAX bytes each.
void stk_text_stop_begin(stk_text_stop *stop, const char *const *stops, size_t count);

// Takes the next piece. False: a stop string was completed; *shown is what stood before it, and
// nothing may be fed any more.
bool stk_text_stop_feed(stk_text_stop *stop, stk_str piece, stk_text_shown *shown);

// At the end of the text: what was held back, which turned out to be no stop string; empty after a
// stop. Borrowed from *stop.
stk_str stk_text_stop_end(stk_text_stop *stop);

#endif
