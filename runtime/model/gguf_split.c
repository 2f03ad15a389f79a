#include "model/gguf_private.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum { SUFFIX_BYTES = sizeof "-00001-of-00003.gguf" - 1 };

// Parses exactly five digits; -1 when there is anything else.
static int five_digits(const char *p)
{
    int value = 0;
    for (int i = 0; i < 5; i++) {
        if (p[i] < '0' || p[i] > '9')
            return -1;
        value = 10 * value + (p[i] - '0');
    }
    return value;
}

// True when `path` ends in -NNNNN-of-NNNNN.gguf with 1 <= no <= count.
static bool parse_suffix(const char *path, uint32_t *no, uint32_t *count)
{
    size_t len = strlen(path);
    if (len < SUFFIX_BYTES)
        return false;
    const char *suffix = path + len - SUFFIX_BYTES;
    if (suffix[0] != '-' || memcmp(suffix + 6, "-of-", 4) != 0 || strcmp(suffix + 15, ".gguf"))
        return false;
    int i = five_digits(suffix + 1), n = five_digits(suffix + 10);
    if (i < 1 || n < i)
        return false;
    *no = (uint32_t)i;
    *count = (uint32_t)n;
    return true;
}

stk_status stk_gguf_split_paths(const char *path, const stk_log *log, stk_gguf_file **files,
                                uint32_t *count)
{
    uint32_t no, file_count;
    bool named = parse_suffix(path, &no, &file_count);
    if (!named)
        file_count = 1;
    if (file_count > STK_GGUF_FILES_MAX) {
        return stk_fail(log, STK_UNSUPPORTED, "%s: a set of %" PRIu32 " files, more than %d", path,
                        file_count, STK_GGUF_FILES_MAX);
    }
    stk_gguf_file *list = calloc(file_count, sizeof *list);
    bool ok = list != NULL;
    for (uint32_t i = 0; i < file_count && ok; i++) {
        list[i].index = i;
        list[i].count = file_count;
        ok = asprintf(&list[i].path, "%s", path) >= 0;
        if (ok && named) {
            char suffix[SUFFIX_BYTES + 12];
            snprintf(suffix, sizeof suffix, "-%05" PRIu32 "-of-%05" PRIu32 ".gguf", i + 1,
                     file_count);
            memcpy(list[i].path + strlen(path) - SUFFIX_BYTES, suffix, SUFFIX_BYTES);
        } else if (!ok) {
            list[i].path = NULL;
        }
    }
    if (!ok) {
        for (uint32_t i = 0; list && i < file_count; i++)
            free(list[i].path);
        free(list);
        return stk_fail(log, STK_NO_MEMORY, "%s: no memory for its path", path);
    }
    *files = list;
    *count = file_count;
    return STK_OK;
}

stk_status stk_gguf_split_check(const stk_gguf_file *file, const stk_log *log)
{
    const stk_gguf_entry *count_entry = stk_gguf_file_find(file, "split.count");
    const stk_gguf_entry *no_entry = stk_gguf_file_find(file, "split.no");
    uint64_t count = 1, no = 0;
    if (count_entry && !stk_gguf_entry_u64(count_entry, &count)) {
        return stk_fail(log, STK_FORMAT, "%s: key 'split.count': not a count, at byte %" PRIu64,
                        file->path, count_entry->at);
    }
    if (no_entry && !stk_gguf_entry_u64(no_entry, &no)) {
        return stk_fail(log, STK_FORMAT, "%s: key 'split.no': not an index, at byte %" PRIu64,
                        file->path, no_entry->at);
    }
    if (count == 0) // written by tools for a file that is not split
        count = 1;
    if (count != file->count) {
        return stk_fail(log, STK_FORMAT,
                        "%s: key 'split.count': is %" PRIu64 ", but the name says %" PRIu32
                        ", at byte %" PRIu64 "; keep the names NAME-00001-of-%05" PRIu64 ".gguf",
                        file->path, count, file->count, count_entry ? count_entry->at : 0, count);
    }
    if (no != file->index) {
        return stk_fail(log, STK_FORMAT,
                        "%s: key 'split.no': is %" PRIu64 ", but the name says %" PRIu32
                        " (counted from 0), at byte %" PRIu64,
                        file->path, no, file->index, no_entry ? no_entry->at : 0);
    }
    return STK_OK;
}
