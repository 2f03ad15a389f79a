#include "model/tokenizer_internal.h"

#include "base/utf8.h"

// GPT-2 writes every byte as a printable character: the printable ones of Latin-1 as themselves,
// the other 68 in order as U+0100 and up. -1: not of the alphabet.
static int byte_of(uint32_t c)
{
    if ((c >= 0x21 && c <= 0x7e) || (c >= 0xa1 && c <= 0xff && c != 0xad))
        return (int)c;
    if (c < 0x100 || c > 0x143)
        return -1;
    c -= 0x100;
    if (c <= 0x20) // 0x00..0x20
        return (int)c;
    if (c <= 0x42) // 0x7f..0xa0
        return (int)(c - 0x21 + 0x7f);
    return 0xad;
}

size_t stk_byte_alphabet_decode(stk_str text, char *bytes)
{
    size_t count = 0, len = 0;
    for (size_t at = 0; at < text.len_bytes; at += len) {
        if (stk_utf8_step(text.data + at, text.len_bytes - at, &len) != STK_UTF8_VALID)
            return 0;
        int byte = byte_of(stk_utf8_code_point(text.data + at, len));
        if (byte < 0)
            return 0;
        bytes[count++] = (char)(uint8_t)byte;
    }
    return count;
}
