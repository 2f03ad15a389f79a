#include "cli/read_text.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static stk_status read_stream(FILE *file, const char *name, const stk_log *log, stk_str *out)
{
    size_t length = 0, capacity = 1 << 16;
    char *data = malloc(capacity);
    while (data) {
        length += fread(data + length, 1, capacity - length, file);
        if (length < capacity)
            break;
        char *larger = capacity < STK_TEXT_BYTES_MAX ? realloc(data, capacity * 2) : NULL;
        if (!larger) {
            free(data);
            if (capacity >= STK_TEXT_BYTES_MAX)
                return stk_fail(log, STK_INVALID, "%s: more than 1 GiB of text", name);
            data = NULL;
        } else {
            data = larger;
            capacity *= 2;
        }
    }
    if (!data)
        return stk_fail(log, STK_NO_MEMORY, "%s: no memory to read it", name);
    if (ferror(file)) {
        int error = errno;
        free(data);
        return error == EINTR ? STK_CANCELLED // by Ctrl-C, which needs no message
                              : stk_fail(log, STK_IO, "%s: %s", name, strerror(error));
    }
    *out = (stk_str){data, length};
    return STK_OK;
}

stk_status stk_text_read(const char *path, const stk_log *log, stk_str *out)
{
    if (strcmp(path, "-") == 0)
        return read_stream(stdin, "standard input", log, out);
    FILE *file = fopen(path, "rb");
    if (!file)
        return stk_fail(log, STK_IO, "%s: %s", path, strerror(errno));
    stk_status status = read_stream(file, path, log, out);
    fclose(file);
    return status;
}

stk_status stk_ids_parse(stk_str text, uint32_t vocab_size, const stk_log *log, int32_t **ids,
                         uint32_t *count)
{
    // Each id takes a digit and, but for the last, something after it.
    int32_t *list = malloc((text.len_bytes / 2 + 1) * sizeof *list);
    if (!list)
        return stk_fail(log, STK_NO_MEMORY, "no memory for the token ids");
    const char *p = text.data, *end = text.data + text.len_bytes;
    uint32_t used = 0;
    while (p < end) {
        if (isspace((unsigned char)*p) || *p == ',') {
            p++;
            continue;
        }
        uint64_t id = 0;
        const char *first = p;
        for (; p < end && isdigit((unsigned char)*p) && id < UINT32_MAX; p++)
            id = id * 10 + (uint64_t)(*p - '0');
        bool ends = p == end || isspace((unsigned char)*p) || *p == ',';
        if (p == first || !ends || id >= vocab_size) {
            int shown = 0; // text has no NUL to stop at
            while (shown < 16 && first + shown < end && !strchr(", \t\n", first[shown]))
                shown++;
            free(list);
            return stk_fail(log, STK_INVALID,
                            "token id %u, '%.*s', is not a number below the vocabulary's %u",
                            used + 1, shown, first, vocab_size);
        }
        list[used++] = (int32_t)id;
    }
    *ids = list;
    *count = used;
    return STK_OK;
}
