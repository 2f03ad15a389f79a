// cli/synth_vocab.h: a tokenizer's vocab.json and merges.txt, for `stoker synth --vocab-dir`.
#ifndef STK_CLI_SYNTH_VOCAB_H
#define STK_CLI_SYNTH_VOCAB_H

#include "base/log.h"
#include "base/str.h"

typedef struct stk_synth_vocab {
    stk_str *tokens, *merges; // borrow from the two below
    uint32_t token_count, merge_count;
    void *json;        // the parsed vocab.json
    char *merges_text; // the bytes of merges.txt
} stk_synth_vocab;

// Reads folder/vocab.json (an object from token to id; ids are 0..n-1, each once) and
// folder/merges.txt (one pair a line). STK_IO, STK_FORMAT or STK_NO_MEMORY leave *out alone.
STK_CHECKED stk_status stk_synth_vocab_read(const char *folder, const stk_log *log,
                                            stk_synth_vocab *out);
void stk_synth_vocab_free(stk_synth_vocab *vocab);

#endif
