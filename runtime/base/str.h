// base/str.h: a borrowed run of bytes, for text that lives in a mapped file.
#ifndef STK_BASE_STR_H
#define STK_BASE_STR_H

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

// Not NUL-terminated; may hold any byte. Valid as long as what it was taken from.
typedef struct stk_str {
    const char *data;
    size_t len_bytes;
} stk_str;

static inline stk_str stk_str_of(const char *c_string)
{
    return (stk_str){c_string, strlen(c_string)};
}

static inline bool stk_str_is(stk_str s, const char *c_string)
{
    size_t n = strlen(c_string);
    return s.len_bytes == n && memcmp(s.data, c_string, n) == 0;
}

static inline bool stk_str_equal(stk_str a, stk_str b)
{
    return a.len_bytes == b.len_bytes &&
           (a.len_bytes == 0 || memcmp(a.data, b.data, a.len_bytes) == 0);
}

#endif
