// engine/draft.h: guesses the next tokens from what the text has said before.
//
// Prompt lookup: where the last 1..ngram_max tokens stood earlier in the text, the text is guessed
// to go on as it did there (Saxena, "Prompt Lookup Decoding", 2023). No second model. Owns the
// tokens so far and an index of their n-grams; knows nothing of sessions or sampling. Invariant: a
// guess changes time, never tokens; what is proposed is checked by a forward pass
// (engine/generate.h).
//
// Each row checked costs, so a draft is only as long as it is likely to hold. How often guesses
// come true is counted on every token, whether it was drafted or not, by how far back the earlier
// place agrees with the text: a quotation is trusted more than a common word.
#ifndef STK_ENGINE_DRAFT_H
#define STK_ENGINE_DRAFT_H

#include "base/status.h"
#include <stdint.h>

enum { STK_DRAFT_NGRAM_MAX = 8, STK_DRAFT_TOKENS_MAX = 64, STK_DRAFT_HISTORY_MAX = 1 << 28 };

typedef struct stk_draft_options {
    uint32_t tokens_max;  // longest draft, 1..STK_DRAFT_TOKENS_MAX
    uint32_t ngram_max;   // longest n-gram looked up, 1..STK_DRAFT_NGRAM_MAX; 0: 3
    uint32_t history_max; // tokens it remembers, 1..STK_DRAFT_HISTORY_MAX; when full it forgets all
                          // and starts anew
    float worth;          // drafts a token while it is likelier than this to hold; 0: always
} stk_draft_options;

// Thread-safety: none.
typedef struct stk_draft stk_draft;

// Takes all memory, about (4 + 16 * ngram_max) bytes per token of history; later calls do not
// allocate. *out is written only on STK_OK; the caller closes it. STK_INVALID: an option is out of
// range; STK_NO_MEMORY.
STK_CHECKED stk_status stk_draft_open(const stk_draft_options *options, stk_draft **out);
void stk_draft_close(stk_draft **draft); // sets it to NULL; NULL is allowed

// Forgets the text, and how well guesses did.
void stk_draft_reset(stk_draft *draft);

// Tells that the text goes on with `token`, of a prompt or drawn. Takes time for ngram_max
// look-ups.
void stk_draft_accept(stk_draft *draft, int32_t token);

// The earlier place whose continuation is guessed: the most recent one behind the longest n-gram
// that stood before. Returns its length in tokens, 0: none, and *position, the index in the text
// of the token that followed it.
uint32_t stk_draft_match(const stk_draft *draft, uint32_t *position);

// Writes the guess for the next tokens to tokens[0..limit) and returns how many, at most
// tokens_max and often none. Where the earlier place reaches the end of the text, the guess goes
// on with itself: a text that repeats is guessed to repeat.
uint32_t stk_draft_propose(const stk_draft *draft, uint32_t limit, int32_t *tokens);

#endif
