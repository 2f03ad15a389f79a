#include "base/utf8.h"
#include "model/tokenizer_internal.h"

#include <stdlib.h>

enum { TEXT_BYTES_MAX = 1 << 30 };

struct stk_encoder {
    const stk_tokenizer *tokenizer;
    const stk_log *log;
    stk_pre_scratch *pre;
    stk_bpe_scratch bpe;
    int32_t *ids;
    size_t id_count, id_capacity;
    char *joined; // the segments of one call, back to back
    size_t joined_capacity;
};

stk_status stk_encoder_open(const stk_tokenizer *tokenizer, const stk_log *log, stk_encoder **out)
{
    stk_encoder *encoder = calloc(1, sizeof *encoder);
    if (!encoder)
        return STK_NO_MEMORY;
    encoder->tokenizer = tokenizer;
    encoder->log = log;
    stk_status status = stk_pre_scratch_open(tokenizer->pre, &encoder->pre);
    if (status != STK_OK) {
        free(encoder);
        return status;
    }
    *out = encoder;
    return STK_OK;
}

void stk_encoder_close(stk_encoder **encoder)
{
    if (!*encoder)
        return;
    stk_pre_scratch_close(&(*encoder)->pre);
    stk_bpe_scratch_free(&(*encoder)->bpe);
    free((*encoder)->ids);
    free((*encoder)->joined);
    free(*encoder);
    *encoder = NULL;
}

uint64_t stk_encoder_steps(const stk_encoder *encoder)
{
    return encoder->bpe.steps;
}

static stk_status ids_reserve(stk_encoder *encoder, size_t more)
{
    size_t need = encoder->id_count + more, capacity = encoder->id_capacity;
    if (need <= capacity)
        return STK_OK;
    capacity = capacity + capacity / 2 > need ? capacity + capacity / 2 : need + 256;
    int32_t *ids = realloc(encoder->ids, capacity * sizeof *ids);
    if (!ids)
        return STK_NO_MEMORY;
    encoder->ids = ids;
    encoder->id_capacity = capacity;
    return STK_OK;
}

static stk_status id_add(stk_encoder *encoder, int32_t id)
{
    stk_status status = ids_reserve(encoder, 1);
    if (status == STK_OK)
        encoder->ids[encoder->id_count++] = id;
    return status;
}

static stk_status word_add(stk_encoder *encoder, const char *word, size_t len_bytes)
{
    const stk_tokenizer *tokenizer = encoder->tokenizer;
    if (tokenizer->whole_words) {
        int32_t id = stk_bpe_find(tokenizer, word, len_bytes);
        if (id >= 0)
            return id_add(encoder, id);
    }
    size_t count = 0;
    stk_status status = stk_bpe_word(tokenizer, &encoder->bpe, word, len_bytes, &count);
    if (status == STK_OK)
        status = ids_reserve(encoder, count);
    if (status != STK_OK)
        return status;
    memcpy(encoder->ids + encoder->id_count, encoder->bpe.ids, count * sizeof *encoder->ids);
    encoder->id_count += count;
    return STK_OK;
}

// Length of the run at the start of text[0..len) that is valid UTF-8, or that is not.
static size_t utf8_run(const char *text, size_t len_bytes, bool *is_valid)
{
    size_t at = 0, step = 0;
    for (; at < len_bytes; at += step) {
        bool valid = stk_utf8_step(text + at, len_bytes - at, &step) == STK_UTF8_VALID;
        if (at == 0)
            *is_valid = valid;
        else if (valid != *is_valid)
            break;
    }
    return at;
}

// Text without special tokens. A run of invalid bytes is a word of its own.
static stk_status plain_add(stk_encoder *encoder, const char *text, size_t len_bytes)
{
    for (size_t at = 0; at < len_bytes;) {
        bool is_valid = false;
        size_t run = utf8_run(text + at, len_bytes - at, &is_valid);
        for (size_t start = 0, word = 0; start < run; start += word) {
            stk_status status = STK_OK;
            word = run;
            if (is_valid)
                status = stk_pre_next(encoder->tokenizer->pre, encoder->pre, text + at, run, start,
                                      &word);
            if (status == STK_OK)
                status = word_add(encoder, text + at + start, word);
            if (status != STK_OK)
                return status;
        }
        at += run;
    }
    return STK_OK;
}

// Segments lie back to back from `text` on. Plain text is gathered across their borders; a
// special token is looked for inside each.
static stk_status joined_add(stk_encoder *encoder, const char *text,
                             const stk_text_segment *segments, size_t segment_count)
{
    const stk_tokenizer *tokenizer = encoder->tokenizer;
    size_t plain = 0, at = 0, end = 0;
    for (size_t i = 0; i < segment_count; ++i) {
        const stk_special_set *set = segments[i].is_trusted ? &tokenizer->specials_all
                                                            : &tokenizer->specials_user;
        end += segments[i].text.len_bytes;
        for (int32_t id; (id = stk_special_find(tokenizer, set, text, end, &at)) >= 0;) {
            stk_status status = plain_add(encoder, text + plain, at - plain);
            if (status == STK_OK)
                status = id_add(encoder, id);
            if (status != STK_OK)
                return status;
            at += stk_token_len(tokenizer, id);
            plain = at;
        }
        at = end;
    }
    return plain_add(encoder, text + plain, end - plain);
}

static stk_status encode_joined(stk_encoder *encoder, const char *text,
                                const stk_text_segment *segments, size_t segment_count,
                                unsigned flags, const int32_t **ids, size_t *count)
{
    stk_status status = STK_OK;
    encoder->id_count = 0;
    if ((flags & STK_ENCODE_BOS) && stk_tokenizer_adds_bos(encoder->tokenizer))
        status = id_add(encoder, encoder->tokenizer->bos);
    if (status == STK_OK)
        status = ids_reserve(encoder, 1); // so that *ids is never NULL
    if (status == STK_OK)
        status = joined_add(encoder, text, segments, segment_count);
    if (status == STK_INVALID)
        return stk_fail(encoder->log, status, "text has a byte that the vocabulary lacks");
    if (status != STK_OK)
        return stk_fail(encoder->log, status, "encoding text: %s", stk_status_name(status));
    *ids = encoder->ids;
    *count = encoder->id_count;
    return STK_OK;
}

stk_status stk_encoder_encode(stk_encoder *encoder, const char *text, size_t len_bytes,
                              unsigned flags, const int32_t **ids, size_t *count)
{
    if (len_bytes > TEXT_BYTES_MAX)
        return stk_fail(encoder->log, STK_INVALID, "text of %zu bytes, at most %d can be encoded",
                        len_bytes, TEXT_BYTES_MAX);
    stk_text_segment segment = {{text, len_bytes}, (flags & STK_ENCODE_SPECIAL) != 0};
    return encode_joined(encoder, text, &segment, 1, flags, ids, count);
}

stk_status stk_encoder_encode_segments(stk_encoder *encoder, const stk_text_segment *segments,
                                       size_t segment_count, unsigned flags, const int32_t **ids,
                                       size_t *count)
{
    size_t total = 0;
    for (size_t i = 0; i < segment_count; ++i) {
        if (segments[i].text.len_bytes > TEXT_BYTES_MAX - total)
            return stk_fail(encoder->log, STK_INVALID, "text of more than %d bytes",
                            TEXT_BYTES_MAX);
        total += segments[i].text.len_bytes;
    }
    if (total >= encoder->joined_capacity) {
        char *joined = realloc(encoder->joined, total + 256);
        if (!joined)
            return stk_fail(encoder->log, STK_NO_MEMORY, "encoding text: out of memory");
        encoder->joined = joined;
        encoder->joined_capacity = total + 256;
    }
    size_t at = 0;
    for (size_t i = 0; i < segment_count; ++i) {
        if (segments[i].text.len_bytes)
            memcpy(encoder->joined + at, segments[i].text.data, segments[i].text.len_bytes);
        at += segments[i].text.len_bytes;
    }
    return encode_joined(encoder, encoder->joined, segments, segment_count, flags, ids, count);
}
