#include "topology/sysfs.h"

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

STK_PRINTF(1, 0)
static FILE *open_path(const char *fmt, va_list args)
{
    char path[STK_SYSFS_PATH_BYTES];
    int length = vsnprintf(path, sizeof path, fmt, args);
    return length > 0 && (size_t)length < sizeof path ? fopen(path, "re") : NULL;
}

STK_PRINTF(3, 0)
static bool read_text(char *text, size_t size, const char *fmt, va_list args)
{
    text[0] = '\0';
    FILE *file = open_path(fmt, args);
    if (!file)
        return false;
    size_t length = fread(text, 1, size - 1, file);
    bool is_ok = !ferror(file);
    fclose(file);
    while (length > 0 && isspace((unsigned char)text[length - 1]))
        length--;
    text[is_ok ? length : 0] = '\0';
    return is_ok;
}

static bool parse_u64(const char *text, uint64_t *out)
{
    char *end;
    if (!isdigit((unsigned char)*text))
        return false;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    if (errno || (*end && !isspace((unsigned char)*end)))
        return false;
    *out = value;
    return true;
}

bool stk_sysfs_text(char *text, size_t size, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    bool is_ok = read_text(text, size, fmt, args);
    va_end(args);
    return is_ok;
}

bool stk_sysfs_u64(uint64_t *out, const char *fmt, ...)
{
    char text[STK_SYSFS_TEXT_BYTES];
    va_list args;
    va_start(args, fmt);
    bool is_ok = read_text(text, sizeof text, fmt, args) && parse_u64(text, out);
    va_end(args);
    return is_ok;
}

bool stk_sysfs_field(uint64_t *out, const char *key, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    FILE *file = open_path(fmt, args);
    va_end(args);
    if (!file)
        return false;
    char line[STK_SYSFS_TEXT_BYTES];
    size_t length = strlen(key);
    bool is_found = false;
    while (!is_found && fgets(line, sizeof line, file)) {
        if (strncmp(line, key, length) != 0 || !isspace((unsigned char)line[length]))
            continue;
        is_found = parse_u64(line + length + strspn(line + length, " \t"), out);
    }
    fclose(file);
    return is_found;
}
