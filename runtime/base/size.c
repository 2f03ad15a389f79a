#include "base/size.h"

#include <ctype.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

enum { FRACTION_DIGITS_MAX = 6 }; // keeps fraction * unit inside 128 bits with room to spare

static bool unit_bytes(const char *text, uint64_t *out)
{
    static const char letters[] = "KMGTP";
    if (*text == '\0' || strcasecmp(text, "B") == 0) {
        *out = 1;
        return true;
    }
    const char *at = strchr(letters, toupper((unsigned char)*text));
    if (!at)
        return false;
    uint64_t base;
    if (text[1] == '\0' || strcasecmp(text + 1, "iB") == 0)
        base = 1024;
    else if (strcasecmp(text + 1, "B") == 0)
        base = 1000;
    else
        return false;
    *out = base;
    for (const char *p = letters; p < at; p++)
        *out *= base;
    return true;
}

static stk_status refuse(const char **why, const char *reason)
{
    if (why)
        *why = reason;
    return STK_INVALID;
}

stk_status stk_size_parse(const char *text, uint64_t *out_bytes, const char **why)
{
    uint64_t whole = 0, fraction = 0, divisor = 1, unit;
    const char *p = text;
    if (*p == '-')
        return refuse(why, "it is negative");
    if (!isdigit((unsigned char)*p))
        return refuse(why, "it does not start with a digit");
    for (; isdigit((unsigned char)*p); p++)
        if (__builtin_mul_overflow(whole, 10, &whole) ||
            __builtin_add_overflow(whole, (uint64_t)(*p - '0'), &whole))
            return refuse(why, "it is too large");
    if (*p == '.') {
        if (!isdigit((unsigned char)*++p))
            return refuse(why, "no digit follows the point");
        for (int n = 0; isdigit((unsigned char)*p); p++, n++)
            if (n < FRACTION_DIGITS_MAX) {
                fraction = fraction * 10 + (uint64_t)(*p - '0');
                divisor *= 10;
            }
    }
    while (*p == ' ')
        p++;
    if (!unit_bytes(p, &unit))
        return refuse(why, "unknown unit, use KiB, MiB, GiB or TiB");
    if (__builtin_mul_overflow(whole, unit, &whole))
        return refuse(why, "it is too large");
    // unit <= 1024^5 and fraction < 10^6: both halves of unit keep the product inside 64 bits
    uint64_t part = unit / divisor * fraction + unit % divisor * fraction / divisor;
    if (__builtin_add_overflow(whole, part, &whole))
        return refuse(why, "it is too large");
    *out_bytes = whole;
    return STK_OK;
}

char *stk_size_format(uint64_t bytes, char text[STK_SIZE_TEXT_BYTES])
{
    static const char *const names[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    uint32_t unit = 0;
    while (unit < 6 && bytes >> (10 * unit) >= 1024)
        unit++;
    unsigned whole = (unsigned)(bytes >> (10 * unit));
    unsigned tenths = 0;
    if (unit > 0) // the ten bits below the unit are enough for one decimal
        tenths = (unsigned)((bytes >> (10 * (unit - 1))) & 1023) * 10 / 1024;
    if (tenths)
        snprintf(text, STK_SIZE_TEXT_BYTES, "%u.%u %s", whole & 1023, tenths, names[unit]);
    else
        snprintf(text, STK_SIZE_TEXT_BYTES, "%u %s", whole & 1023, names[unit]);
    return text;
}
