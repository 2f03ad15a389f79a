// model/detokenizer.h: token ids to text that can be printed as it comes.
//
// A character may be spread over several tokens. Owns the at most 3 bytes held back until the rest
// of a character has come. Invariant: what it returns is always whole, valid UTF-8.
#ifndef STK_MODEL_DETOKENIZER_H
#define STK_MODEL_DETOKENIZER_H

#include "model/tokenizer.h"

typedef struct stk_detokenizer_options {
    const stk_tokenizer *tokenizer; // borrowed, must outlive the detokenizer
    bool shows_control;             // write control tokens as their text instead of skipping them
} stk_detokenizer_options;

// Thread-safety: one thread at a time.
typedef struct stk_detokenizer stk_detokenizer;

// Takes all the memory that feeding will need. *out is written only on STK_OK; STK_NO_MEMORY.
STK_CHECKED stk_status stk_detokenizer_open(const stk_detokenizer_options *options,
                                            stk_detokenizer **out);
void stk_detokenizer_close(stk_detokenizer **detokenizer); // sets it to NULL; NULL is allowed

// The text that is certain after this token, often empty; valid until the next call. Bytes that
// cannot become a character are replaced by U+FFFD, one for each maximal subpart. An id out of
// range adds nothing. Does not allocate.
stk_str stk_detokenizer_feed(stk_detokenizer *detokenizer, int32_t id);

// Ends the text: what is still held back becomes U+FFFD. The next feed begins a new text.
stk_str stk_detokenizer_flush(stk_detokenizer *detokenizer);

#endif
