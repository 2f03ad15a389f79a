#include "vocab.h"

static const char *const merges[] = {
    "t h",
    "th e",
    "a a",
    "aa aa",
    "\xc4\xa0 the", // a space
    "1 2",
    "12 3",
    "! !",
    "\xc4\x8a \xc4\x8a", // two newlines
    "\xc3\x83 \xc2\xa9",
    "e r",
    "er e",
};
enum { MERGE_COUNT = sizeof merges / sizeof *merges };
_Static_assert(256 + MERGE_COUNT == BYTES_XYZ, "ids of vocab.h");

static char texts[256 + MERGE_COUNT][16];
static stk_str tokens[BYTES_COUNT], merge_strs[MERGE_COUNT];
static int32_t types[BYTES_COUNT];

static size_t write_alphabet(int byte, char *out)
{
    int c = byte, shifted = 0;
    for (int b = 0; b <= byte; ++b) {
        bool plain = (b >= 0x21 && b <= 0x7e) || (b >= 0xa1 && b != 0xad);
        if (b == byte)
            c = plain ? byte : 256 + shifted;
        shifted += !plain;
    }
    if (c < 128) {
        out[0] = (char)c;
        return 1;
    }
    out[0] = (char)(uint8_t)(0xc0 | c >> 6);
    out[1] = (char)(uint8_t)(0x80 | (c & 0x3f));
    return 2;
}

static void build(void)
{
    for (int b = 0; b < 256; ++b)
        tokens[b] = (stk_str){texts[b], write_alphabet(b, texts[b])};
    for (int m = 0; m < MERGE_COUNT; ++m) {
        size_t len = 0;
        for (const char *p = merges[m]; *p; ++p)
            if (*p != ' ')
                texts[256 + m][len++] = *p;
        tokens[256 + m] = (stk_str){texts[256 + m], len};
        merge_strs[m] = stk_str_of(merges[m]);
    }
    tokens[BYTES_XYZ] = stk_str_of("xyz");
    tokens[BYTES_CONTROL] = stk_str_of(BYTES_CONTROL_TEXT);
    tokens[BYTES_CONTROL_LONG] = stk_str_of(BYTES_CONTROL_LONG_TEXT);
    tokens[BYTES_USER] = stk_str_of("@@");
    tokens[BYTES_USER_LATIN] = stk_str_of("\xc3\xa9");
    for (int i = 0; i < BYTES_COUNT; ++i)
        types[i] = i < BYTES_CONTROL ? STK_TOKEN_NORMAL
                   : i < BYTES_USER  ? STK_TOKEN_CONTROL
                                     : STK_TOKEN_USER_DEFINED;
}

stk_vocab_source test_vocab_bytes(const char *pre)
{
    build();
    return (stk_vocab_source){
        .tokens = tokens,
        .types = types,
        .token_count = BYTES_COUNT,
        .merges = merge_strs,
        .merge_count = MERGE_COUNT,
        .pre = stk_str_of(pre),
        .bos = BYTES_CONTROL,
        .eos = BYTES_CONTROL_LONG,
        .eot = -1,
        .pad = -1,
    };
}
