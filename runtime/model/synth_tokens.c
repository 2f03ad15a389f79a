#include "model/synth_tokens.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum { SPECIAL_COUNT = 3, BYTE_COUNT = 256, SPELLING_BYTES = 24 };
enum { TOKEN_NORMAL = 1, TOKEN_CONTROL = 3, TOKEN_UNUSED = 5 };

typedef struct vocabulary {
    stk_str *tokens;                   // [count]
    int32_t *types;                    // [count]
    char (*spellings)[SPELLING_BYTES]; // [count] storage of the tokens made up here
} vocabulary;

static bool is_printed(unsigned byte)
{
    return (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
}

// GPT-2's byte alphabet: printable bytes of Latin-1 stand for themselves, the others for the
// code points from 256 on, in order. Written as UTF-8.
static void spell_byte(unsigned byte, char out[SPELLING_BYTES])
{
    unsigned code = byte;
    if (!is_printed(byte)) {
        code = 256;
        for (unsigned b = 0; b < byte; b++)
            code += !is_printed(b);
    }
    if (code < 128)
        snprintf(out, SPELLING_BYTES, "%c", (int)code);
    else
        snprintf(out, SPELLING_BYTES, "%c%c", (int)(0xc0 | code >> 6), (int)(0x80 | (code & 63)));
}

static void fill(const stk_synth_options *options, uint32_t ordinary, vocabulary *v)
{
    static const char *const specials[SPECIAL_COUNT] = {"<|endoftext|>", "<|im_start|>",
                                                        "<|im_end|>"};
    for (uint32_t i = 0; i < options->vocab_count; i++) {
        char *spelling = v->spellings[i];
        v->types[i] = TOKEN_NORMAL;
        if (i < ordinary && options->tokens) {
            v->tokens[i] = options->tokens[i];
            continue;
        }
        if (i < ordinary && i < BYTE_COUNT) {
            spell_byte(i, spelling);
        } else if (i < ordinary) {
            snprintf(spelling, SPELLING_BYTES, "tok%" PRIu32, i);
        } else if (i < ordinary + SPECIAL_COUNT) {
            snprintf(spelling, SPELLING_BYTES, "%s", specials[i - ordinary]);
            v->types[i] = TOKEN_CONTROL;
        } else {
            snprintf(spelling, SPELLING_BYTES, "[PAD%" PRIu32 "]", i);
            v->types[i] = TOKEN_UNUSED;
        }
        v->tokens[i] = stk_str_of(spelling);
    }
}

stk_status stk_synth_add_tokens(const stk_synth_options *options, const stk_log *log,
                                stk_gguf_writer *writer)
{
    uint32_t count = options->vocab_count;
    uint32_t ordinary = options->tokens ? options->token_count : count - SPECIAL_COUNT;
    if (count < BYTE_COUNT + SPECIAL_COUNT || ordinary > count - SPECIAL_COUNT) {
        return stk_fail(log, STK_INVALID,
                        "a vocabulary of %" PRIu32 " tokens is too small: %" PRIu32
                        " ordinary and %d special ones are needed",
                        count, options->tokens ? ordinary : BYTE_COUNT, SPECIAL_COUNT);
    }
    vocabulary v = {
        .tokens = malloc(count * sizeof *v.tokens),
        .types = malloc(count * sizeof *v.types),
        .spellings = malloc(count * sizeof *v.spellings),
    };
    stk_status status = STK_OK;
    if (v.tokens && v.types && v.spellings) {
        fill(options, ordinary, &v);
        stk_gguf_writer_string(writer, "tokenizer.ggml.model", stk_str_of("gpt2"));
        stk_gguf_writer_string(writer, "tokenizer.ggml.pre", stk_str_of("qwen2"));
        stk_gguf_writer_strings(writer, "tokenizer.ggml.tokens", v.tokens, count);
        stk_gguf_writer_array(writer, "tokenizer.ggml.token_type", STK_GGUF_I32, v.types, count);
        // None of its own: text comes down to bytes.
        stk_gguf_writer_strings(writer, "tokenizer.ggml.merges", options->merges,
                                options->tokens ? options->merge_count : 0);
        stk_gguf_writer_u32(writer, "tokenizer.ggml.eos_token_id", ordinary + 2);
        stk_gguf_writer_u32(writer, "tokenizer.ggml.bos_token_id", ordinary);
        stk_gguf_writer_u32(writer, "tokenizer.ggml.padding_token_id", ordinary);
        stk_gguf_writer_bool(writer, "tokenizer.ggml.add_bos_token", false);
    } else {
        status = stk_fail(log, STK_NO_MEMORY, "no memory for %" PRIu32 " tokens", count);
    }
    free(v.tokens);
    free(v.types);
    free(v.spellings);
    return status;
}
