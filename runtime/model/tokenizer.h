// model/tokenizer.h: text to token ids and back, by byte-level BPE.
//
// Owns the decoded tokens, the merge table and the compiled splitting pattern. Knows nothing of
// files (tokenizer_gguf.c fills the source) or of chats. Invariants: decoding what was encoded
// gives the same bytes back, for any bytes, valid UTF-8 or not; text that is not trusted never
// becomes a control token.
//
// No Unicode normalisation is done. The published Qwen2 tokenizer applies NFC first and llama.cpp
// does not; here the round trip and llama.cpp's ids win. Text that is already NFC, which nearly
// all text is, gives the same ids either way.
//
// Byte-level BPE: Radford et al., "Language Models are Unsupervised Multitask Learners", 2.2.
#ifndef STK_MODEL_TOKENIZER_H
#define STK_MODEL_TOKENIZER_H

#include "base/log.h"
#include "base/str.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    STK_VOCAB_TOKENS_MAX = 1 << 24,
    STK_VOCAB_MERGES_MAX = 1 << 24,
    STK_TOKEN_BYTES_MAX = 1 << 16, // of one token, as written in the vocabulary
};

typedef enum stk_token_type { // the values are the file format's
    STK_TOKEN_NORMAL = 1,
    STK_TOKEN_UNKNOWN = 2,
    STK_TOKEN_CONTROL = 3,
    STK_TOKEN_USER_DEFINED = 4,
    STK_TOKEN_UNUSED = 5,
    STK_TOKEN_BYTE = 6,
} stk_token_type;

// A vocabulary as a file holds it. Everything is borrowed.
typedef struct stk_vocab_source {
    const stk_str *tokens; // [token_count]; normal ones in the byte alphabet of GPT-2
    const int32_t *types;  // [token_count] of stk_token_type; NULL: all normal
    size_t token_count;
    const stk_str *merges; // [merge_count], "left right", the most important first
    size_t merge_count;
    stk_str pre;                // the splitting pattern: "qwen2", "llama-bpe", "gpt-2", ...
    int32_t bos, eos, eot, pad; // ids, -1: none
    bool add_bos;               // the model wants bos in front of a text
    stk_str chat_template;      // Jinja text, empty when there is none
} stk_vocab_source;

struct stk_gguf;

// Fills *out from the tokenizer.ggml.* keys; its strings are borrowed from `gguf`, out->types is
// allocated and freed by stk_vocab_source_free. On failure a line names the key and *out is
// untouched. STK_FORMAT: a key is missing, of the wrong kind or out of range; STK_UNSUPPORTED: a
// tokenizer model other than "gpt2"; STK_NO_MEMORY.
STK_CHECKED stk_status stk_vocab_source_from_gguf(const struct stk_gguf *gguf, const stk_log *log,
                                                  stk_vocab_source *out);
void stk_vocab_source_free(stk_vocab_source *source); // clears *source

// Thread-safety: immutable after open.
typedef struct stk_tokenizer stk_tokenizer;

// Builds the tables. `source` itself may go after the call, the strings of its tokens must outlive
// *out. *out is written only on STK_OK. STK_FORMAT: an id, type or token length is out of range;
// STK_NO_MEMORY. An unknown `pre` gets the GPT-2 pattern and a warning.
STK_CHECKED stk_status stk_tokenizer_open(const stk_vocab_source *source, const stk_log *log,
                                          stk_tokenizer **out);
void stk_tokenizer_close(stk_tokenizer **tokenizer); // sets it to NULL; NULL is allowed

size_t stk_tokenizer_count(const stk_tokenizer *tokenizer);

// The bytes a token stands for; empty when `id` is out of range. Lives as long as the tokenizer.
// Control and user-defined tokens, and tokens with characters that are not of the byte alphabet,
// stand for their text.
stk_str stk_tokenizer_bytes(const stk_tokenizer *tokenizer, int32_t id);

// The type, STK_TOKEN_UNKNOWN when `id` is out of range. A token whose name says that it ends a
// text ("<|im_end|>") is a control token whatever the file says.
stk_token_type stk_tokenizer_type(const stk_tokenizer *tokenizer, int32_t id);
bool stk_tokenizer_is_control(const stk_tokenizer *tokenizer, int32_t id); // control or unknown

// Whether generation stops at this token: eos, eot and the tokens known by name to end a turn.
bool stk_tokenizer_is_end(const stk_tokenizer *tokenizer, int32_t id);

// The first token that stands for exactly these bytes ("<|im_end|>"), or -1. A linear search.
int32_t stk_tokenizer_find(const stk_tokenizer *tokenizer, stk_str text);

int32_t stk_tokenizer_bos(const stk_tokenizer *tokenizer);   // -1: none
bool stk_tokenizer_adds_bos(const stk_tokenizer *tokenizer); // add_bos, and there is one

typedef enum stk_encode_flags {
    STK_ENCODE_SPECIAL = 1, // control tokens written in the text become that token
    STK_ENCODE_BOS = 2,     // bos in front, if the vocabulary wants one
} stk_encode_flags;

// A piece of a prompt. Trusted text is what a template wrote: only there control tokens are
// recognised. User-defined tokens are recognised everywhere.
typedef struct stk_text_segment {
    stk_str text;
    bool is_trusted;
} stk_text_segment;

// The scratch memory of encoding: up to 80 bytes per byte of the longest word, kept for reuse.
// Thread-safety: one thread at a time; encoders of one tokenizer are independent.
typedef struct stk_encoder stk_encoder;

// `tokenizer` and `log` are borrowed and must outlive *out, which is written only on STK_OK.
STK_CHECKED stk_status stk_encoder_open(const stk_tokenizer *tokenizer, const stk_log *log,
                                        stk_encoder **out);
void stk_encoder_close(stk_encoder **encoder); // sets it to NULL; NULL is allowed

// Encodes text[0..len_bytes), at most 1 GiB of any bytes; `flags` of stk_encode_flags.
// *ids[*count] is borrowed, valid until the next call on this encoder, written only on STK_OK.
// STK_INVALID: too long, or a byte that the vocabulary has no token for; STK_NO_MEMORY.
STK_CHECKED stk_status stk_encoder_encode(stk_encoder *encoder, const char *text, size_t len_bytes,
                                          unsigned flags, const int32_t **ids, size_t *count);

// The same for text in pieces. Words may cross a border, as if the text came in one piece;
// a control token is recognised only inside one trusted segment. STK_ENCODE_SPECIAL is ignored.
STK_CHECKED stk_status stk_encoder_encode_segments(stk_encoder *encoder,
                                                   const stk_text_segment *segments,
                                                   size_t segment_count, unsigned flags,
                                                   const int32_t **ids, size_t *count);

// Merge candidates taken from the queue since open: a measure of work that does not depend on the
// machine. At most three per byte encoded.
uint64_t stk_encoder_steps(const stk_encoder *encoder);

#endif
