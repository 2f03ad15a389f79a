// Any bytes, with any pattern, as trusted text or not, come back unchanged; printed as they come
// they are valid UTF-8. The first byte picks the pattern and the flags, the second where the text
// is cut into segments.
#include "base/utf8.h"
#include "model/detokenizer.h"
#include "model/tokenizer.h"
#include "vocab.h"

#include <stdlib.h>

enum { PATTERNS = 4 };
static stk_tokenizer *tokenizers[PATTERNS];
static stk_encoder *encoders[PATTERNS];
static stk_detokenizer *detokenizers[PATTERNS];

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool condition)
{
    if (!condition)
        abort();
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    static const char *const names[PATTERNS] = {"qwen2", "gpt-2", "llama-bpe", "default"};
    (void)argc;
    (void)argv;
    for (int i = 0; i < PATTERNS; ++i) {
        stk_vocab_source source = test_vocab_bytes(names[i]);
        source.add_bos = true;
        require(stk_tokenizer_open(&source, NULL, &tokenizers[i]) == STK_OK);
        require(stk_encoder_open(tokenizers[i], NULL, &encoders[i]) == STK_OK);
        stk_detokenizer_options options = {.tokenizer = tokenizers[i], .shows_control = true};
        require(stk_detokenizer_open(&options, &detokenizers[i]) == STK_OK);
    }
    return 0;
}

static void check_text(stk_str text)
{
    for (size_t at = 0, len = 0; at < text.len_bytes; at += len)
        require(stk_utf8_step(text.data + at, text.len_bytes - at, &len) == STK_UTF8_VALID);
}

static void check_ids(int pattern, const int32_t *ids, size_t count, stk_str text, unsigned flags)
{
    size_t at = 0, first = 0;
    if (flags & STK_ENCODE_BOS) {
        require(count && ids[0] == BYTES_CONTROL);
        first = 1;
    }
    for (size_t i = first; i < count; ++i) {
        stk_str bytes = stk_tokenizer_bytes(tokenizers[pattern], ids[i]);
        require(bytes.len_bytes && bytes.len_bytes <= text.len_bytes - at);
        require(memcmp(bytes.data, text.data + at, bytes.len_bytes) == 0);
        require((flags & STK_ENCODE_SPECIAL) ||
                !stk_tokenizer_is_control(tokenizers[pattern], ids[i]));
        at += bytes.len_bytes;
        check_text(stk_detokenizer_feed(detokenizers[pattern], ids[i]));
    }
    check_text(stk_detokenizer_flush(detokenizers[pattern]));
    require(at == text.len_bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    int pattern = data[0] % PATTERNS;
    unsigned flags = data[0] >> 2 & 3;
    stk_str text = {(const char *)data + 2, size - 2};
    size_t cut = text.len_bytes * data[1] / 256, count = 0;
    const int32_t *ids = NULL;
    require(stk_encoder_encode(encoders[pattern], text.data, text.len_bytes, flags, &ids, &count) ==
            STK_OK);
    check_ids(pattern, ids, count, text, flags);
    bool is_trusted = (flags & STK_ENCODE_SPECIAL) != 0;
    stk_text_segment segments[] = {{{text.data, cut}, is_trusted},
                                   {{text.data + cut, text.len_bytes - cut}, false}};
    require(stk_encoder_encode_segments(encoders[pattern], segments, 2, flags, &ids, &count) ==
            STK_OK);
    check_ids(pattern, ids, count, text, flags);
    return 0;
}
