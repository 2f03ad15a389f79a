// cli/text_model.h: a model with its tokenizer, as the commands that deal in text open it.
#ifndef STK_CLI_TEXT_MODEL_H
#define STK_CLI_TEXT_MODEL_H

#include "engine/engine.h"
#include "model/detokenizer.h"
#include "model/tokenizer.h"

// Thread-safety: none.
typedef struct stk_text_model {
    stk_engine *engine;
    stk_vocab_source source;
    stk_tokenizer *tokenizer;
    stk_encoder *encoder;
    stk_detokenizer *detokenizer;
    const stk_log *log;
} stk_text_model;

// Opens the engine, then the tokenizer of the same file. On failure *out is closed and a line has
// been logged.
STK_CHECKED stk_status stk_text_model_open(const stk_engine_options *options, stk_text_model *out);
void stk_text_model_close(stk_text_model *model); // clears *model

// Encodes text into *ids[*count], allocated, freed by the caller. `flags` as stk_encoder_encode.
STK_CHECKED stk_status stk_text_model_encode(stk_text_model *model, stk_str text, unsigned flags,
                                             int32_t **ids, uint32_t *count);

// What a reader should see after one more token: valid UTF-8, nothing for control and end tokens.
// Valid until the next call; stk_detokenizer_flush(model->detokenizer) ends the text.
stk_str stk_text_model_feed(stk_text_model *model, int32_t id);

#endif
