#include "model/tokenizer.h"
#include "model/tokenizer_internal.h"

#include <stdlib.h>

// With U+FF5C and U+2581 for the bars.
#define DEEPSEEK_END                                                                               \
    "<\xef\xbd\x9c"                                                                                \
    "end\xe2\x96\x81of\xe2\x96\x81sentence\xef\xbd\x9c>"

// Tokens that end a text or a turn by their name, in the models that are in use. The file's eos is
// often only one of the several a model was trained with.
static const char *const end_names[] = {
    "<|endoftext|>", "<|im_end|>",    "<|end|>",      "<|eot_id|>",         "<|eom_id|>",
    "<|eot|>",       "<|return|>",    "<|call|>",     "<end_of_turn>",      "<EOT>",
    "_<EOT>",        "<|EOT|>",       "<|flush|>",    "<|calls|>",          "<|end_of_text|>",
    "<|fim_pad|>",   "<|repo_name|>", "<|file_sep|>", "<end_of_utterance>", "<|END_OF_TURN_TOKEN|>",
    DEEPSEEK_END,
};

static bool is_end_name(stk_str text)
{
    if (text.len_bytes == 0 || (text.data[0] != '<' && text.data[0] != '_'))
        return false;
    for (size_t i = 0; i < sizeof end_names / sizeof *end_names; ++i)
        if (stk_str_is(text, end_names[i]))
            return true;
    return false;
}

static stk_status source_check(const stk_vocab_source *source, const stk_log *log)
{
    if (source->token_count == 0 || source->token_count > STK_VOCAB_TOKENS_MAX)
        return stk_fail(log, STK_FORMAT, "tokenizer.ggml.tokens: %zu tokens, 1..%d are possible",
                        source->token_count, STK_VOCAB_TOKENS_MAX);
    if (source->merge_count > STK_VOCAB_MERGES_MAX)
        return stk_fail(log, STK_FORMAT, "tokenizer.ggml.merges: %zu merges, %d are possible",
                        source->merge_count, STK_VOCAB_MERGES_MAX);
    const struct {
        const char *name;
        int32_t id;
    } ids[] = {
        {"bos", source->bos}, {"eos", source->eos}, {"eot", source->eot}, {"padding", source->pad}};
    for (size_t i = 0; i < sizeof ids / sizeof *ids; ++i)
        if (ids[i].id < -1 || (ids[i].id >= 0 && (size_t)ids[i].id >= source->token_count))
            return stk_fail(log, STK_FORMAT, "tokenizer.ggml.%s_token_id: %d is not below %zu",
                            ids[i].name, (int)ids[i].id, source->token_count);
    for (size_t i = 0; i < source->token_count; ++i) {
        int32_t type = source->types ? source->types[i] : STK_TOKEN_NORMAL;
        if (type < STK_TOKEN_NORMAL || type > STK_TOKEN_BYTE)
            return stk_fail(log, STK_FORMAT, "tokenizer.ggml.token_type: token %zu has type %d", i,
                            (int)type);
        if (source->tokens[i].len_bytes > STK_TOKEN_BYTES_MAX)
            return stk_fail(log, STK_FORMAT, "tokenizer.ggml.tokens: token %zu has %zu bytes", i,
                            source->tokens[i].len_bytes);
    }
    return STK_OK;
}

static bool is_byte_alphabet(int32_t type)
{
    return type == STK_TOKEN_NORMAL || type == STK_TOKEN_UNUSED || type == STK_TOKEN_BYTE;
}

static stk_status tokens_decode(stk_tokenizer *tokenizer, const stk_vocab_source *source,
                                const stk_log *log)
{
    size_t total = 0;
    for (size_t i = 0; i < source->token_count; ++i)
        total += source->tokens[i].len_bytes; // decoding never lengthens
    if (total > UINT32_MAX)
        return stk_fail(log, STK_FORMAT, "tokenizer.ggml.tokens: %zu bytes in all", total);
    char *text = malloc(total + 1);
    tokenizer->raw_text = text;
    tokenizer->raw_offsets = malloc((source->token_count + 1) * sizeof *tokenizer->raw_offsets);
    tokenizer->types = malloc(source->token_count);
    tokenizer->ends = calloc(source->token_count, 1);
    if (!text || !tokenizer->raw_offsets || !tokenizer->types || !tokenizer->ends)
        return STK_NO_MEMORY;
    size_t at = 0;
    for (size_t i = 0; i < source->token_count; ++i) {
        stk_str token = source->tokens[i];
        int32_t type = source->types ? source->types[i] : STK_TOKEN_NORMAL;
        if (is_end_name(token)) {
            tokenizer->ends[i] = 1;
            if (type != STK_TOKEN_CONTROL)
                stk_warn(log, "token %zu \"%.*s\" ends a text: taken as a control token", i,
                         (int)token.len_bytes, token.data);
            type = STK_TOKEN_CONTROL;
        }
        tokenizer->types[i] = (uint8_t)type;
        tokenizer->raw_offsets[i] = (uint32_t)at;
        size_t len = is_byte_alphabet(type) ? stk_byte_alphabet_decode(token, text + at) : 0;
        if (len == 0 && token.len_bytes) {
            memcpy(text + at, token.data, token.len_bytes);
            len = token.len_bytes;
        }
        at += len;
    }
    tokenizer->raw_offsets[source->token_count] = (uint32_t)at;
    return STK_OK;
}

// In the harmony format <|end|> only ends a message, the turn goes on until <|return|>.
static void ends_fix(stk_tokenizer *tokenizer)
{
    int32_t end = stk_tokenizer_find(tokenizer, stk_str_of("<|end|>"));
    if (end >= 0 && stk_tokenizer_find(tokenizer, stk_str_of("<|return|>")) >= 0 &&
        stk_tokenizer_find(tokenizer, stk_str_of("<|call|>")) >= 0)
        tokenizer->ends[end] = 0;
}

static void bytes_check(const stk_tokenizer *tokenizer, const stk_log *log)
{
    unsigned missing = 0;
    for (int b = 0; b < 256; ++b)
        missing += tokenizer->bpe.byte_ids[b] < 0;
    if (missing)
        stk_warn(log, "the vocabulary has no token for %u of the 256 bytes", missing);
}

stk_status stk_tokenizer_open(const stk_vocab_source *source, const stk_log *log,
                              stk_tokenizer **out)
{
    stk_status status = source_check(source, log);
    if (status != STK_OK)
        return status;
    stk_tokenizer *tokenizer = calloc(1, sizeof *tokenizer);
    if (!tokenizer)
        return STK_NO_MEMORY;
    tokenizer->count = source->token_count;
    tokenizer->bos = source->bos;
    tokenizer->add_bos = source->add_bos;
    status = tokens_decode(tokenizer, source, log);
    if (status == STK_OK)
        status = stk_bpe_table_build(tokenizer, source, log);
    if (status == STK_OK)
        status = stk_special_set_build(tokenizer, true, &tokenizer->specials_all);
    if (status == STK_OK)
        status = stk_special_set_build(tokenizer, false, &tokenizer->specials_user);
    if (status == STK_OK)
        status = stk_pre_open(source->pre, log, &tokenizer->pre, &tokenizer->whole_words);
    if (status != STK_OK) {
        stk_tokenizer_close(&tokenizer);
        return status == STK_NO_MEMORY ? stk_fail(log, status, "tokenizer: out of memory") : status;
    }
    ends_fix(tokenizer);
    if (source->eos >= 0)
        tokenizer->ends[source->eos] = 1;
    if (source->eot >= 0)
        tokenizer->ends[source->eot] = 1;
    bytes_check(tokenizer, log);
    *out = tokenizer;
    return STK_OK;
}

void stk_tokenizer_close(stk_tokenizer **tokenizer)
{
    stk_tokenizer *t = *tokenizer;
    if (!t)
        return;
    stk_pre_close(&t->pre);
    stk_special_set_free(&t->specials_all);
    stk_special_set_free(&t->specials_user);
    stk_bpe_table_free(&t->bpe);
    free(t->ends);
    free(t->types);
    free(t->raw_offsets);
    free((char *)(uintptr_t)t->raw_text);
    free(t);
    *tokenizer = NULL;
}

size_t stk_tokenizer_count(const stk_tokenizer *tokenizer)
{
    return tokenizer->count;
}

static bool is_id(const stk_tokenizer *tokenizer, int32_t id)
{
    return id >= 0 && (size_t)id < tokenizer->count;
}

stk_str stk_tokenizer_bytes(const stk_tokenizer *tokenizer, int32_t id)
{
    if (!is_id(tokenizer, id))
        return (stk_str){"", 0};
    return (stk_str){stk_token_data(tokenizer, id), stk_token_len(tokenizer, id)};
}

stk_token_type stk_tokenizer_type(const stk_tokenizer *tokenizer, int32_t id)
{
    return is_id(tokenizer, id) ? (stk_token_type)tokenizer->types[id] : STK_TOKEN_UNKNOWN;
}

bool stk_tokenizer_is_control(const stk_tokenizer *tokenizer, int32_t id)
{
    stk_token_type type = stk_tokenizer_type(tokenizer, id);
    return type == STK_TOKEN_CONTROL || type == STK_TOKEN_UNKNOWN;
}

bool stk_tokenizer_is_end(const stk_tokenizer *tokenizer, int32_t id)
{
    return is_id(tokenizer, id) && tokenizer->ends[id];
}

int32_t stk_tokenizer_find(const stk_tokenizer *tokenizer, stk_str text)
{
    for (size_t id = 0; id < tokenizer->count; ++id)
        if (stk_str_equal(stk_tokenizer_bytes(tokenizer, (int32_t)id), text))
            return (int32_t)id;
    return -1;
}

int32_t stk_tokenizer_bos(const stk_tokenizer *tokenizer)
{
    return tokenizer->bos;
}

bool stk_tokenizer_adds_bos(const stk_tokenizer *tokenizer)
{
    return tokenizer->add_bos && tokenizer->bos >= 0;
}
