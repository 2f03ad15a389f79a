#include "model/gguf_private.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

uint32_t stk_gguf_kind_bytes(uint32_t kind)
{
    static const uint8_t bytes[] = {
        [STK_GGUF_U8] = 1,  [STK_GGUF_I8] = 1,  [STK_GGUF_U16] = 2, [STK_GGUF_I16] = 2,
        [STK_GGUF_U32] = 4, [STK_GGUF_I32] = 4, [STK_GGUF_F32] = 4, [STK_GGUF_BOOL] = 1,
        [STK_GGUF_U64] = 8, [STK_GGUF_I64] = 8, [STK_GGUF_F64] = 8,
    };
    return kind < sizeof bytes ? bytes[kind] : 0;
}

const char *stk_gguf_quote(stk_str name, char buffer[STK_GGUF_QUOTE_BYTES])
{
    size_t room = STK_GGUF_QUOTE_BYTES - 4, n = name.len_bytes < room ? name.len_bytes : room;
    for (size_t i = 0; i < n; i++) {
        char c = name.data[i];
        buffer[i] = c >= ' ' && c <= '~' ? c : '?';
    }
    strcpy(buffer + n, n < name.len_bytes ? "..." : "");
    return buffer;
}

int stk_gguf_str_compare(stk_str a, stk_str b)
{
    size_t n = a.len_bytes < b.len_bytes ? a.len_bytes : b.len_bytes;
    int order = n ? memcmp(a.data, b.data, n) : 0;
    return order ? order : (a.len_bytes > b.len_bytes) - (a.len_bytes < b.len_bytes);
}

stk_status stk_gguf_malformed(const stk_gguf_cursor *cursor, uint64_t at, const char *fmt, ...)
{
    char text[320];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    return stk_fail(cursor->log, STK_FORMAT, "%s: %s: %s, at byte %" PRIu64, cursor->file->path,
                    cursor->field, text, at);
}

stk_status stk_gguf_take(stk_gguf_cursor *cursor, uint64_t count, const char *what,
                         const uint8_t **out)
{
    if (count > cursor->file->size_bytes - cursor->at) {
        return stk_fail(cursor->log, STK_FORMAT,
                        "%s: %s: %s of %" PRIu64 " bytes at byte %" PRIu64
                        " is past the end of the file (%" PRIu64 " bytes)" STK_GGUF_DAMAGED,
                        cursor->file->path, cursor->field, what, count, cursor->at,
                        cursor->file->size_bytes);
    }
    *out = cursor->file->map + cursor->at;
    cursor->at += count;
    return STK_OK;
}

stk_status stk_gguf_take_u32(stk_gguf_cursor *cursor, const char *what, uint32_t *out)
{
    const uint8_t *p = NULL;
    stk_status status = stk_gguf_take(cursor, sizeof *out, what, &p);
    if (status == STK_OK)
        memcpy(out, p, sizeof *out);
    return status;
}

stk_status stk_gguf_take_u64(stk_gguf_cursor *cursor, const char *what, uint64_t *out)
{
    const uint8_t *p = NULL;
    stk_status status = stk_gguf_take(cursor, sizeof *out, what, &p);
    if (status == STK_OK)
        memcpy(out, p, sizeof *out);
    return status;
}

stk_status stk_gguf_take_string(stk_gguf_cursor *cursor, const char *what, stk_str *out)
{
    uint64_t len;
    const uint8_t *p = NULL;
    stk_status status = stk_gguf_take_u64(cursor, what, &len);
    if (status == STK_OK)
        status = stk_gguf_take(cursor, len, what, &p);
    if (status == STK_OK)
        *out = (stk_str){(const char *)p, (size_t)len};
    return status;
}

// Reads an array's element kind and count, refusing a count that cannot fit the file: an element
// takes at least its scalar's bytes, a string its length, a nested array its own header.
static stk_status take_array_header(stk_gguf_cursor *cursor, uint32_t *kind, uint64_t *count)
{
    uint64_t at = cursor->at;
    stk_status status = stk_gguf_take_u32(cursor, "array element kind", kind);
    if (status == STK_OK)
        status = stk_gguf_take_u64(cursor, "array count", count);
    if (status != STK_OK)
        return status;
    uint32_t least = stk_gguf_kind_bytes(*kind);
    if (*kind == STK_GGUF_STRING)
        least = 8;
    else if (*kind == STK_GGUF_ARRAY)
        least = 12;
    else if (least == 0)
        return stk_gguf_malformed(cursor, at, "unknown array element kind %" PRIu32, *kind);
    uint64_t rest = cursor->file->size_bytes - cursor->at;
    if (*count > rest / least) {
        return stk_gguf_malformed(cursor, at + 4,
                                  "array of %" PRIu64 " elements cannot fit in the %" PRIu64
                                  " bytes left in the file" STK_GGUF_DAMAGED,
                                  *count, rest);
    }
    return STK_OK;
}

static stk_status skip_array(stk_gguf_cursor *cursor, uint32_t kind, uint64_t count, uint32_t depth)
{
    const uint8_t *p = NULL;
    stk_str string;
    uint32_t inner_kind;
    uint64_t inner_count;
    if (depth > STK_GGUF_NESTING_MAX) {
        return stk_gguf_malformed(cursor, cursor->at, "arrays nested more than %d deep",
                                  STK_GGUF_NESTING_MAX);
    }
    if (kind != STK_GGUF_STRING && kind != STK_GGUF_ARRAY)
        return stk_gguf_take(cursor, count * stk_gguf_kind_bytes(kind), "array", &p);
    stk_status status = STK_OK;
    for (uint64_t i = 0; i < count && status == STK_OK; i++) {
        if (kind == STK_GGUF_STRING) {
            status = stk_gguf_take_string(cursor, "string", &string);
        } else {
            status = take_array_header(cursor, &inner_kind, &inner_count);
            if (status == STK_OK)
                status = skip_array(cursor, inner_kind, inner_count, depth + 1);
        }
    }
    return status;
}

static stk_status take_string_table(stk_gguf_cursor *cursor, stk_gguf_array *array)
{
    if (array->count > STK_GGUF_STRINGS_MAX) {
        return stk_gguf_malformed(cursor, cursor->at, "%" PRIu64 " strings, more than %d",
                                  array->count, STK_GGUF_STRINGS_MAX);
    }
    stk_str *strings = malloc((array->count + 1) * sizeof *strings);
    if (!strings) {
        return stk_fail(cursor->log, STK_NO_MEMORY, "%s: %s: no memory for %" PRIu64 " strings",
                        cursor->file->path, cursor->field, array->count);
    }
    array->strings = strings;
    stk_status status = STK_OK;
    for (uint64_t i = 0; i < array->count && status == STK_OK; i++)
        status = stk_gguf_take_string(cursor, "string", &strings[i]);
    return status;
}

static stk_status take_array(stk_gguf_cursor *cursor, stk_gguf_array *array)
{
    uint32_t kind;
    uint64_t count;
    stk_status status = take_array_header(cursor, &kind, &count);
    if (status != STK_OK)
        return status;
    array->kind = (stk_gguf_kind)kind;
    array->count = count;
    array->data = cursor->file->map + cursor->at;
    if (kind == STK_GGUF_STRING)
        return take_string_table(cursor, array);
    return skip_array(cursor, kind, count, 1);
}

stk_status stk_gguf_take_value(stk_gguf_cursor *cursor, stk_gguf_entry *entry)
{
    if (entry->kind == STK_GGUF_STRING)
        return stk_gguf_take_string(cursor, "string", &entry->string);
    if (entry->kind == STK_GGUF_ARRAY)
        return take_array(cursor, &entry->array);
    uint32_t bytes = stk_gguf_kind_bytes(entry->kind);
    if (bytes == 0)
        return stk_gguf_malformed(cursor, cursor->at - 4, "unknown kind %u", (unsigned)entry->kind);
    stk_status status = stk_gguf_take(cursor, bytes, "value", &entry->scalar);
    if (status == STK_OK && entry->kind == STK_GGUF_BOOL && *entry->scalar > 1)
        return stk_gguf_malformed(cursor, cursor->at - 1, "bool has the value %u", *entry->scalar);
    return status;
}
