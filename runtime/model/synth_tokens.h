// model/synth_tokens.h: the tokenizer part of a synthetic model. Private to synth.
#ifndef STK_MODEL_SYNTH_TOKENS_H
#define STK_MODEL_SYNTH_TOKENS_H

#include "model/gguf_writer.h"
#include "model/synth.h"

// Adds the tokenizer.* keys for options->vocab_count tokens: the given vocabulary, or the 256
// bytes as GPT-2 spells them and fillers; then three control tokens, then padding.
STK_CHECKED stk_status stk_synth_add_tokens(const stk_synth_options *options, const stk_log *log,
                                            stk_gguf_writer *writer);

#endif
