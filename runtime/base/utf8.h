// base/utf8.h: one step of UTF-8 decoding, for text that may hold any byte.
//
// Well-formed is table 3-7 of the Unicode standard: no surrogates, no overlong forms, nothing
// above U+10FFFF. An ill-formed run is cut into maximal subparts (section 3.9), so that every
// program replaces the same bytes by the same number of U+FFFD.
#ifndef STK_BASE_UTF8_H
#define STK_BASE_UTF8_H

#include <stddef.h>
#include <stdint.h>

typedef enum stk_utf8_state {
    STK_UTF8_VALID,      // *len bytes are one character
    STK_UTF8_INVALID,    // *len bytes can never become one, whatever follows
    STK_UTF8_INCOMPLETE, // all *len bytes are the start of a character
} stk_utf8_state;

// Looks at the first bytes of s[0..n), n >= 1. *len is 1..4 when valid, 1..3 otherwise.
static inline stk_utf8_state stk_utf8_step(const char *s, size_t n, size_t *len)
{
    const uint8_t *p = (const uint8_t *)s;
    uint8_t low = 0x80, high = 0xbf;
    size_t need;
    *len = 1;
    if (p[0] < 0x80)
        return STK_UTF8_VALID;
    if (p[0] < 0xc2 || p[0] > 0xf4)
        return STK_UTF8_INVALID;
    need = p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : 4;
    if (p[0] == 0xe0)
        low = 0xa0;
    else if (p[0] == 0xed)
        high = 0x9f;
    else if (p[0] == 0xf0)
        low = 0x90;
    else if (p[0] == 0xf4)
        high = 0x8f;
    for (; *len < need; ++*len) {
        if (*len == n)
            return STK_UTF8_INCOMPLETE;
        if (p[*len] < low || p[*len] > high)
            return STK_UTF8_INVALID;
        low = 0x80;
        high = 0xbf;
    }
    return STK_UTF8_VALID;
}

// The code point of a valid sequence of len bytes.
static inline uint32_t stk_utf8_code_point(const char *s, size_t len)
{
    const uint8_t *p = (const uint8_t *)s;
    uint32_t c = len == 1 ? p[0] : p[0] & (0x7fu >> len);
    for (size_t i = 1; i < len; ++i)
        c = c << 6 | (p[i] & 0x3fu);
    return c;
}

#endif
