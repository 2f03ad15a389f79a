// model/tokenizer_internal.h: what the tokenizer's own files share.
//
// tokenizer.c builds a stk_tokenizer, tokenizer_bpe.c owns the two hash tables and the merging of
// one word, tokenizer_pre.c the cutting of text into words, tokenizer_bytes.c the byte alphabet,
// tokenizer_special.c the search for tokens written in the text, tokenizer_encode.c puts them
// together.
#ifndef STK_MODEL_TOKENIZER_INTERNAL_H
#define STK_MODEL_TOKENIZER_INTERNAL_H

#include "model/tokenizer.h"

// Open addressing, a power of two of slots, at most 3/4 used.
typedef struct stk_bpe_merge {
    uint32_t left, right; // ids; left == UINT32_MAX: the slot is free
    uint32_t rank;        // index in the file, lower merges first
    uint32_t result;      // id
} stk_bpe_merge;

typedef struct stk_bpe_table {
    int32_t *words; // ids by the bytes of the token, -1: free
    size_t word_mask;
    stk_bpe_merge *merges;
    size_t merge_mask;
    int32_t byte_ids[256]; // -1: no token for this byte
} stk_bpe_table;

// The special tokens that may be met in text, sorted by their bytes.
typedef struct stk_special_set {
    int32_t *ids;
    size_t count;
    uint32_t first[257]; // ids[first[b]..first[b+1]) begin with byte b
} stk_special_set;

typedef struct stk_pre stk_pre;                 // a compiled pattern, shared
typedef struct stk_pre_scratch stk_pre_scratch; // what one thread needs to match it

struct stk_tokenizer {
    size_t count;
    const char *raw_text;  // owned: the bytes of all tokens
    uint32_t *raw_offsets; // [count + 1] into raw_text
    uint8_t *types;        // [count] of stk_token_type
    uint8_t *ends;         // [count] bitmap as bytes: ends a text
    stk_bpe_table bpe;
    stk_special_set specials_all;  // in trusted text
    stk_special_set specials_user; // in any text
    stk_pre *pre;
    bool whole_words; // a word that is a token is not merged (llama-3)
    int32_t bos;
    bool add_bos;
};

// tokenizer_bytes.c
// The bytes that `text`, in GPT-2's printable alphabet, stands for; `bytes` has room for
// text.len_bytes. Returns their number, 0 when a character is not of the alphabet.
size_t stk_byte_alphabet_decode(stk_str text, char *bytes);

// tokenizer_bpe.c
STK_CHECKED stk_status stk_bpe_table_build(stk_tokenizer *tokenizer, const stk_vocab_source *source,
                                           const stk_log *log);
void stk_bpe_table_free(stk_bpe_table *table);
int32_t stk_bpe_find(const stk_tokenizer *tokenizer, const char *bytes, size_t len_bytes);

typedef struct stk_bpe_scratch {
    uint32_t *ids, *prev, *next, *ranks; // [capacity], ids and ranks by position in the word
    uint64_t *heap;                      // [3 * capacity], rank << 32 | position
    size_t heap_count;
    size_t capacity;
    uint64_t steps;
} stk_bpe_scratch;

void stk_bpe_scratch_free(stk_bpe_scratch *scratch);

// Merges one word of 1..2^30 bytes. scratch->ids[0..*count) are its tokens. STK_INVALID: a byte
// without a token.
STK_CHECKED stk_status stk_bpe_word(const stk_tokenizer *tokenizer, stk_bpe_scratch *scratch,
                                    const char *bytes, size_t len_bytes, size_t *count);

// tokenizer_pre.c
STK_CHECKED stk_status stk_pre_open(stk_str name, const stk_log *log, stk_pre **out,
                                    bool *whole_words);
void stk_pre_close(stk_pre **pre);
STK_CHECKED stk_status stk_pre_scratch_open(const stk_pre *pre, stk_pre_scratch **out);
void stk_pre_scratch_close(stk_pre_scratch **scratch);
// The length of the first word of text[0..len), which is valid UTF-8 and not empty. `text` may
// be the middle of a longer text: `start` is where the word begins.
STK_CHECKED stk_status stk_pre_next(const stk_pre *pre, stk_pre_scratch *scratch, const char *text,
                                    size_t len_bytes, size_t start, size_t *word_bytes);

// tokenizer_special.c
STK_CHECKED stk_status stk_special_set_build(const stk_tokenizer *tokenizer, bool all,
                                             stk_special_set *out);
void stk_special_set_free(stk_special_set *set);
// The first and longest token in text[*at..len): moves *at to it and returns its id, or -1.
int32_t stk_special_find(const stk_tokenizer *tokenizer, const stk_special_set *set,
                         const char *text, size_t len_bytes, size_t *at);

static inline size_t stk_token_len(const stk_tokenizer *tokenizer, int32_t id)
{
    return tokenizer->raw_offsets[id + 1] - tokenizer->raw_offsets[id];
}

static inline const char *stk_token_data(const stk_tokenizer *tokenizer, int32_t id)
{
    return tokenizer->raw_text + tokenizer->raw_offsets[id];
}

#endif
