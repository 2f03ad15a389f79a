#include "model/detokenizer.h"

#include "base/utf8.h"
#include <stdlib.h>

enum { HELD_BYTES_MAX = 3, REPLACEMENT_BYTES = 3 };

struct stk_detokenizer {
    stk_detokenizer_options options;
    char *bytes; // what was held back, then the new token's
    char *text;  // what is returned: three bytes for each of `bytes` at worst
    size_t held_bytes;
};

stk_status stk_detokenizer_open(const stk_detokenizer_options *options, stk_detokenizer **out)
{
    stk_detokenizer *d = calloc(1, sizeof *d);
    if (!d)
        return STK_NO_MEMORY;
    size_t longest = 0;
    for (size_t id = 0; id < stk_tokenizer_count(options->tokenizer); ++id) {
        size_t len = stk_tokenizer_bytes(options->tokenizer, (int32_t)id).len_bytes;
        longest = len > longest ? len : longest;
    }
    d->options = *options;
    d->bytes = malloc(HELD_BYTES_MAX + longest);
    d->text = malloc(REPLACEMENT_BYTES * (HELD_BYTES_MAX + longest));
    if (!d->bytes || !d->text) {
        stk_detokenizer_close(&d);
        return STK_NO_MEMORY;
    }
    *out = d;
    return STK_OK;
}

void stk_detokenizer_close(stk_detokenizer **detokenizer)
{
    if (!*detokenizer)
        return;
    free((*detokenizer)->bytes);
    free((*detokenizer)->text);
    free(*detokenizer);
    *detokenizer = NULL;
}

// Moves the certain part of bytes[0..count) to the text and keeps the rest as held back.
static stk_str take(stk_detokenizer *d, size_t count, bool is_last)
{
    size_t filled = 0, at = 0, len = 0;
    for (; at < count; at += len) {
        stk_utf8_state state = stk_utf8_step(d->bytes + at, count - at, &len);
        if (state == STK_UTF8_INCOMPLETE && !is_last)
            break;
        const char *from = state == STK_UTF8_VALID ? d->bytes + at : "\xef\xbf\xbd";
        size_t from_len = state == STK_UTF8_VALID ? len : REPLACEMENT_BYTES;
        memcpy(d->text + filled, from, from_len);
        filled += from_len;
    }
    d->held_bytes = count - at;
    memmove(d->bytes, d->bytes + at, d->held_bytes);
    return (stk_str){d->text, filled};
}

stk_str stk_detokenizer_feed(stk_detokenizer *d, int32_t id)
{
    const stk_tokenizer *tokenizer = d->options.tokenizer;
    if (!d->options.shows_control && stk_tokenizer_is_control(tokenizer, id))
        return (stk_str){d->text, 0};
    stk_str token = stk_tokenizer_bytes(tokenizer, id);
    memcpy(d->bytes + d->held_bytes, token.data, token.len_bytes);
    return take(d, d->held_bytes + token.len_bytes, false);
}

stk_str stk_detokenizer_flush(stk_detokenizer *d)
{
    return take(d, d->held_bytes, true);
}
