#include "vocab.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

enum { ORDINARY_COUNT = 151643, COUNT = ORDINARY_COUNT + 3, MERGES_MAX = 160000 };

static json_t *vocab;
static char *merge_text;
static stk_str tokens[COUNT], merges[MERGES_MAX];
static int32_t types[COUNT];
static stk_vocab_source source;

static bool read_tokens(void)
{
    const char *key;
    json_t *value;
    size_t found = 0;
    vocab = json_load_file(STK_TEST_DATA "/qwen2/vocab.json", 0, NULL);
    json_object_foreach(vocab, key, value)
    {
        json_int_t id = json_integer_value(value);
        if (id < 0 || id >= ORDINARY_COUNT)
            return false;
        tokens[id] = stk_str_of(key);
        ++found;
    }
    for (size_t i = 0; i < COUNT; ++i)
        types[i] = i < ORDINARY_COUNT ? STK_TOKEN_NORMAL : STK_TOKEN_CONTROL;
    tokens[QWEN2_ENDOFTEXT] = stk_str_of("<|endoftext|>");
    tokens[QWEN2_IM_START] = stk_str_of("<|im_start|>");
    tokens[QWEN2_IM_END] = stk_str_of("<|im_end|>");
    return found == ORDINARY_COUNT;
}

static bool read_merges(void)
{
    enum { TEXT_MAX = 4 << 20 };
    FILE *file = fopen(STK_TEST_DATA "/qwen2/merges.txt", "rb");
    merge_text = malloc(TEXT_MAX);
    if (!file || !merge_text)
        return false;
    size_t len = fread(merge_text, 1, TEXT_MAX, file);
    fclose(file);
    for (size_t at = 0; at < len && source.merge_count < MERGES_MAX;) {
        const char *end = memchr(merge_text + at, '\n', len - at);
        size_t line = end ? (size_t)(end - merge_text) - at : len - at;
        if (at > 0 && line) // the first line is a comment
            merges[source.merge_count++] = (stk_str){merge_text + at, line};
        at += line + 1;
    }
    return source.merge_count > 0;
}

const stk_vocab_source *test_vocab_qwen2(void)
{
    source = (stk_vocab_source){
        .tokens = tokens,
        .types = types,
        .token_count = COUNT,
        .merges = merges,
        .pre = stk_str_of("qwen2"),
        .bos = QWEN2_ENDOFTEXT,
        .eos = QWEN2_IM_END,
        .eot = -1,
        .pad = QWEN2_ENDOFTEXT,
    };
    return read_tokens() && read_merges() ? &source : NULL;
}

void test_vocab_qwen2_free(void)
{
    json_decref(vocab);
    free(merge_text);
    vocab = NULL;
    merge_text = NULL;
}
