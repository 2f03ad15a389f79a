#include "model/gguf.h"
#include "model/tokenizer.h"

#include <stdlib.h>

static stk_status model_check(const stk_gguf *gguf, const stk_log *log)
{
    stk_str model;
    if (!stk_gguf_string(gguf, "tokenizer.ggml.model", &model))
        return stk_fail(log, STK_FORMAT, "tokenizer.ggml.model: missing or not a string");
    if (!stk_str_is(model, "gpt2")) {
        int shown = model.len_bytes < 64 ? (int)model.len_bytes : 64;
        return stk_fail(log, STK_UNSUPPORTED,
                        "tokenizer.ggml.model: \"%.*s\", only \"gpt2\" (byte-level BPE) is known",
                        shown, model.data);
    }
    return STK_OK;
}

// -1 when the key is absent.
static stk_status id_read(const stk_gguf *gguf, const stk_log *log, const char *key, size_t count,
                          int32_t *out)
{
    uint64_t id;
    *out = -1;
    if (!stk_gguf_has(gguf, key))
        return STK_OK;
    if (!stk_gguf_u64(gguf, key, &id))
        return stk_fail(log, STK_FORMAT, "%s: not an id", key);
    if (id >= count)
        return stk_fail(log, STK_FORMAT, "%s: %llu is not below the %zu tokens", key,
                        (unsigned long long)id, count);
    *out = (int32_t)id;
    return STK_OK;
}

static stk_status ids_read(const stk_gguf *gguf, const stk_log *log, stk_vocab_source *source)
{
    const struct {
        const char *key;
        int32_t *out;
    } ids[] = {
        {"tokenizer.ggml.bos_token_id", &source->bos},
        {"tokenizer.ggml.eos_token_id", &source->eos},
        {"tokenizer.ggml.eot_token_id", &source->eot},
        {"tokenizer.ggml.padding_token_id", &source->pad},
    };
    for (size_t i = 0; i < sizeof ids / sizeof *ids; ++i) {
        stk_status status = id_read(gguf, log, ids[i].key, source->token_count, ids[i].out);
        if (status != STK_OK)
            return status;
    }
    return STK_OK;
}

static stk_status strings_read(const stk_gguf *gguf, const stk_log *log, const char *key,
                               size_t count_max, const stk_str **out, size_t *count)
{
    stk_gguf_array array;
    if (!stk_gguf_get_array(gguf, key, &array) || array.kind != STK_GGUF_STRING)
        return stk_fail(log, STK_FORMAT, "%s: missing or not an array of strings", key);
    if (array.count > count_max)
        return stk_fail(log, STK_FORMAT, "%s: %llu entries, at most %zu are possible", key,
                        (unsigned long long)array.count, count_max);
    *out = array.strings;
    *count = (size_t)array.count;
    return STK_OK;
}

static bool is_integer(stk_gguf_kind kind)
{
    return kind <= STK_GGUF_I32 || kind == STK_GGUF_U64 || kind == STK_GGUF_I64;
}

static stk_status types_read(const stk_gguf *gguf, const stk_log *log, size_t count, int32_t **out)
{
    static const char key[] = "tokenizer.ggml.token_type";
    stk_gguf_array array;
    *out = NULL;
    if (!stk_gguf_has(gguf, key))
        return STK_OK;
    if (!stk_gguf_get_array(gguf, key, &array) || !is_integer(array.kind) || array.count != count)
        return stk_fail(log, STK_FORMAT, "%s: not an array of %zu integers", key, count);
    int32_t *types = malloc((count ? count : 1) * sizeof *types);
    if (!types)
        return stk_fail(log, STK_NO_MEMORY, "%s: out of memory", key);
    for (size_t i = 0; i < count; ++i) {
        int64_t type = stk_gguf_array_i64(&array, i);
        types[i] = type >= STK_TOKEN_NORMAL && type <= STK_TOKEN_BYTE ? (int32_t)type : 0;
    }
    *out = types;
    return STK_OK;
}

stk_status stk_vocab_source_from_gguf(const stk_gguf *gguf, const stk_log *log,
                                      stk_vocab_source *out)
{
    stk_vocab_source source = {.pre = {"default", 7}, .chat_template = {"", 0}};
    int32_t *types = NULL;
    stk_status status = model_check(gguf, log);
    if (status == STK_OK)
        status = strings_read(gguf, log, "tokenizer.ggml.tokens", STK_VOCAB_TOKENS_MAX,
                              &source.tokens, &source.token_count);
    if (status == STK_OK)
        status = strings_read(gguf, log, "tokenizer.ggml.merges", STK_VOCAB_MERGES_MAX,
                              &source.merges, &source.merge_count);
    if (status == STK_OK)
        status = ids_read(gguf, log, &source);
    if (status == STK_OK)
        status = types_read(gguf, log, source.token_count, &types);
    if (status != STK_OK)
        return status;
    if (!stk_gguf_string(gguf, "tokenizer.ggml.pre", &source.pre))
        stk_info(log, "tokenizer.ggml.pre: missing, text is split as GPT-2 does");
    stk_gguf_bool(gguf, "tokenizer.ggml.add_bos_token", &source.add_bos);
    stk_gguf_string(gguf, "tokenizer.chat_template", &source.chat_template);
    source.types = types;
    *out = source;
    return STK_OK;
}

void stk_vocab_source_free(stk_vocab_source *source)
{
    free((int32_t *)(uintptr_t)source->types);
    *source = (stk_vocab_source){.bos = -1, .eos = -1, .eot = -1, .pad = -1};
}
