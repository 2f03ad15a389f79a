// tests/vocab.h: vocabularies to test with.
#ifndef STK_TESTS_VOCAB_H
#define STK_TESTS_VOCAB_H

#include "model/tokenizer.h"

// Ids of the control tokens that test_vocab_qwen2 adds.
enum { QWEN2_ENDOFTEXT = 151643, QWEN2_IM_START = 151644, QWEN2_IM_END = 151645 };

// The 151,643 tokens of tests/data/qwen2 and three control tokens. NULL when a file is unreadable.
const stk_vocab_source *test_vocab_qwen2(void);
void test_vocab_qwen2_free(void);

// Token b is byte b; then the results of the merges in vocab_bytes.c, a word that no merge makes,
// two control tokens and two user-defined ones.
enum {
    BYTES_THE = 257,
    BYTES_AA,
    BYTES_AAAA,
    BYTES_SPACE_THE,
    BYTES_12,
    BYTES_123,
    BYTES_XYZ = 256 + 12,
    BYTES_CONTROL,
    BYTES_CONTROL_LONG, // begins with the text of BYTES_CONTROL
    BYTES_USER,         // "@@"
    BYTES_USER_LATIN,   // "é", in raw text
    BYTES_COUNT,
};
#define BYTES_CONTROL_TEXT      "<|a|>"
#define BYTES_CONTROL_LONG_TEXT "<|a|>|>"
// Static, but for its `pre`: copy and change what the test needs.
stk_vocab_source test_vocab_bytes(const char *pre);

#endif
