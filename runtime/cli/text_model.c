#include "cli/text_model.h"

#include <stdlib.h>
#include <string.h>

stk_status stk_text_model_open(const stk_engine_options *options, stk_text_model *out)
{
    *out = (stk_text_model){.log = options->log};
    stk_status status = stk_engine_open(options, &out->engine);
    if (status == STK_OK)
        status = stk_vocab_source_from_gguf(stk_engine_gguf(out->engine), out->log, &out->source);
    if (status == STK_OK)
        status = stk_tokenizer_open(&out->source, out->log, &out->tokenizer);
    if (status == STK_OK)
        status = stk_encoder_open(out->tokenizer, out->log, &out->encoder);
    if (status == STK_OK)
        status = stk_detokenizer_open(&(stk_detokenizer_options){.tokenizer = out->tokenizer},
                                      &out->detokenizer);
    if (status != STK_OK)
        stk_text_model_close(out);
    return status;
}

void stk_text_model_close(stk_text_model *model)
{
    stk_detokenizer_close(&model->detokenizer);
    stk_encoder_close(&model->encoder);
    stk_tokenizer_close(&model->tokenizer);
    stk_vocab_source_free(&model->source);
    stk_engine_close(&model->engine);
}

stk_status stk_text_model_encode(stk_text_model *model, stk_str text, unsigned flags, int32_t **ids,
                                 uint32_t *count)
{
    const int32_t *borrowed;
    size_t length;
    stk_status status = stk_encoder_encode(model->encoder, text.data, text.len_bytes, flags,
                                           &borrowed, &length);
    if (status != STK_OK)
        return status;
    if (length > INT32_MAX)
        return stk_fail(model->log, STK_INVALID, "the text has more than 2^31 tokens");
    int32_t *copy = malloc((length + 1) * sizeof *copy); // never malloc(0)
    if (!copy)
        return stk_fail(model->log, STK_NO_MEMORY, "no memory for %zu tokens", length);
    if (length)
        memcpy(copy, borrowed, length * sizeof *copy);
    *ids = copy;
    *count = (uint32_t)length;
    return STK_OK;
}

stk_str stk_text_model_feed(stk_text_model *model, int32_t id)
{
    if (stk_tokenizer_is_end(model->tokenizer, id))
        return (stk_str){"", 0};
    return stk_detokenizer_feed(model->detokenizer, id);
}
