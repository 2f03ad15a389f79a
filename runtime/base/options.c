#include "base/options.h"

#include "base/nearest.h"
#include "base/size.h"
#include <assert.h>
#include <ctype.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LIMITS_BYTES = 64 };

static stk_status refuse(char *error, const char *fmt, ...) STK_PRINTF(2, 3);
static stk_status refuse(char *error, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    vsnprintf(error, STK_OPTION_ERROR_BYTES, fmt, args);
    va_end(args);
    return STK_INVALID;
}

static void number_text(const stk_option *option, double value, char text[LIMITS_BYTES / 2])
{
    if (option->type == STK_OPTION_SIZE)
        stk_size_format((uint64_t)value, text);
    else
        snprintf(text, LIMITS_BYTES / 2, "%.16g", value);
}

// " from 1 to 256", " of at least 1" or "", then " or auto"
static const char *limits_text(const stk_option *option, char text[LIMITS_BYTES * 2])
{
    char min[LIMITS_BYTES / 2], max[LIMITS_BYTES / 2];
    number_text(option, option->min, min);
    number_text(option, option->max, max);
    const char *or_auto = option->has_auto ? " or auto" : "";
    if (option->max > 0)
        snprintf(text, LIMITS_BYTES * 2, " from %s to %s%s", min, max, or_auto);
    else if (option->min > 0)
        snprintf(text, LIMITS_BYTES * 2, " of at least %s%s", min, or_auto);
    else
        snprintf(text, LIMITS_BYTES * 2, "%s", or_auto);
    return text;
}

static bool within(const stk_option *option, double value)
{
    double max = option->max > 0                  ? option->max
                 : option->type == STK_OPTION_U32 ? (double)UINT32_MAX
                                                  : HUGE_VAL; // the parser refused what is larger
    return value >= option->min && value <= max;
}

static bool parse_u64(const char *text, uint64_t *out)
{
    uint64_t value = 0;
    if (*text == '\0')
        return false;
    for (; *text; text++)
        if (!isdigit((unsigned char)*text) || __builtin_mul_overflow(value, 10, &value) ||
            __builtin_add_overflow(value, (uint64_t)(*text - '0'), &value))
            return false;
    *out = value;
    return true;
}

static bool parse_real(const char *text, double *out)
{
    // strtod also takes " 1", "0x1p3", "inf" and "nan": none is what somebody meant to type.
    if (!*text || text[strspn(text, "+-.0123456789eE")] != '\0')
        return false;
    char *end;
    double value = strtod(text, &end);
    if (*end != '\0' || !isfinite(value))
        return false;
    *out = value;
    return true;
}

static stk_status parse_number(const stk_option *option, const char *text, void *field, char *error)
{
    char limits[LIMITS_BYTES * 2];
    uint64_t whole;
    double real;
    if (option->type == STK_OPTION_F32 || option->type == STK_OPTION_F64) {
        bool is_number = parse_real(text, &real);
        float narrow = is_number ? (float)real : 0;
        if (option->type == STK_OPTION_F32) // limits and finiteness hold for what is stored
            real = (double)narrow;
        if (!is_number || !isfinite(real) || !within(option, real))
            return refuse(error, "'%.64s' is not a number%s", text, limits_text(option, limits));
        if (option->type == STK_OPTION_F32)
            memcpy(field, &narrow, sizeof narrow);
        else
            memcpy(field, &real, sizeof real);
        return STK_OK;
    }
    if (option->type == STK_OPTION_SIZE) {
        const char *why;
        if (stk_size_parse(text, &whole, &why) != STK_OK)
            return refuse(error, "'%.64s' is not a size%s: %s", text, limits_text(option, limits),
                          why);
        if (!within(option, (double)whole))
            return refuse(error, "'%.64s' is not a size%s", text, limits_text(option, limits));
    } else if (!parse_u64(text, &whole) || !within(option, (double)whole)) {
        return refuse(error, "'%.64s' is not a whole number%s", text, limits_text(option, limits));
    }
    if (option->type == STK_OPTION_U32) {
        uint32_t narrow = (uint32_t)whole;
        memcpy(field, &narrow, sizeof narrow);
    } else {
        memcpy(field, &whole, sizeof whole);
    }
    return STK_OK;
}

static stk_status parse_bool(const char *text, void *field, char *error)
{
    static const char *const words[] = {"false", "true", "no", "yes", "off", "on"};
    for (uint32_t i = 0; i < sizeof words / sizeof *words; i++)
        if (strcmp(text, words[i]) == 0) {
            bool value = i & 1;
            memcpy(field, &value, sizeof value);
            return STK_OK;
        }
    return refuse(error, "'%.64s' is neither true nor false", text);
}

static stk_status parse_enum(const stk_option *option, const char *text, void *field, char *error)
{
    char list[STK_OPTION_ERROR_BYTES / 2] = "";
    size_t length = 0;
    for (uint32_t i = 0; option->choices[i]; i++) {
        if (strcmp(text, option->choices[i]) == 0) {
            memcpy(field, &i, sizeof i);
            return STK_OK;
        }
        if (length < sizeof list)
            length += (size_t)snprintf(list + length, sizeof list - length, "%s%s", i ? ", " : "",
                                       option->choices[i]);
    }
    return refuse(error, "'%.64s' is not one of %s%s", text, list,
                  option->has_auto ? ", auto" : "");
}

static void store_auto(const stk_option *option, void *field)
{
    static const size_t bytes[] = {
        [STK_OPTION_BOOL] = sizeof(bool),     [STK_OPTION_U32] = sizeof(uint32_t),
        [STK_OPTION_U64] = sizeof(uint64_t),  [STK_OPTION_SIZE] = sizeof(uint64_t),
        [STK_OPTION_F32] = sizeof(float),     [STK_OPTION_F64] = sizeof(double),
        [STK_OPTION_ENUM] = sizeof(uint32_t), [STK_OPTION_STRING] = sizeof(const char *),
    };
    uint32_t narrow = (uint32_t)option->auto_value;
    if (option->type == STK_OPTION_U32)
        memcpy(field, &narrow, sizeof narrow);
    else if (option->type == STK_OPTION_U64 || option->type == STK_OPTION_SIZE)
        memcpy(field, &option->auto_value, sizeof option->auto_value);
    else
        memset(field, 0, bytes[option->type]); // all-zero bits are 0.0 and, on POSIX, NULL
}

stk_status stk_option_parse(const stk_option *option, const char *text, void *target, char *error)
{
    void *field = (char *)target + option->offset;
    if (option->has_auto && strcmp(text, "auto") == 0) {
        store_auto(option, field);
        return STK_OK;
    }
    switch (option->type) {
    case STK_OPTION_BOOL:
        return parse_bool(text, field, error);
    case STK_OPTION_STRING:
        memcpy(field, &text, sizeof text);
        return STK_OK;
    case STK_OPTION_ENUM:
        return parse_enum(option, text, field, error);
    default:
        return parse_number(option, text, field, error);
    }
}

void stk_options_set_defaults(const stk_option_table *table, void *target)
{
    for (uint32_t i = 0; i < table->count; i++) {
        const stk_option *option = &table->options[i];
        char error[STK_OPTION_ERROR_BYTES];
        if (!option->fallback)
            continue;
        stk_status status = stk_option_parse(option, option->fallback, target, error);
        assert(status == STK_OK);
        (void)status;
    }
}

int stk_option_describe(const stk_option *option, char *text, size_t size)
{
    char min[LIMITS_BYTES / 2], max[LIMITS_BYTES / 2], range[LIMITS_BYTES * 2] = "";
    if (option->max > 0) {
        number_text(option, option->min, min);
        number_text(option, option->max, max);
        snprintf(range, sizeof range, "%s to %s", min, max);
    }
    if (!*range && !option->fallback)
        return snprintf(text, size, "%s", option->doc);
    return snprintf(text, size, "%s (%s%s%s%s)", option->doc, range,
                    *range && option->fallback ? ", " : "", option->fallback ? "default " : "",
                    option->fallback ? option->fallback : "");
}

const stk_option *stk_options_find_key(const stk_option_table *table, const char *key)
{
    for (uint32_t i = 0; i < table->count; i++)
        if (table->options[i].key && strcmp(table->options[i].key, key) == 0)
            return &table->options[i];
    return NULL;
}

const char *stk_options_nearest(const stk_option_binding *bindings, uint32_t count,
                                const char *typed, bool keys)
{
    const char *best = NULL;
    uint32_t best_distance = UINT32_MAX;
    for (uint32_t b = 0; b < count; b++)
        for (uint32_t i = 0; i < bindings[b].table->count; i++) {
            const stk_option *option = &bindings[b].table->options[i];
            const char *name = keys ? option->key : option->flag;
            if (!name || !stk_name_is_near(typed, name))
                continue;
            uint32_t distance = stk_name_distance(typed, name);
            if (distance < best_distance) {
                best_distance = distance;
                best = name;
            }
        }
    return best;
}
