#include "model/gguf.h"
#include "model/gguf_private.h"

#include <inttypes.h>
#include <stdlib.h>

struct stk_gguf {
    stk_gguf_file *files;
    uint32_t file_count;
    stk_gguf_record *records;        // of all files, in file order
    const stk_gguf_record **by_name; // sorted
    uint32_t record_count;
};

static int compare_names(const void *a, const void *b)
{
    const stk_gguf_record *const *x = a, *const *y = b;
    return stk_gguf_str_compare((*x)->tensor.name, (*y)->tensor.name);
}

static stk_status check_duplicates(const stk_gguf *gguf, const stk_log *log)
{
    for (uint32_t i = 1; i < gguf->record_count; i++) {
        const stk_gguf_record *a = gguf->by_name[i - 1], *b = gguf->by_name[i];
        char quoted[STK_GGUF_QUOTE_BYTES];
        if (!stk_str_equal(a->tensor.name, b->tensor.name))
            continue;
        if (a > b) {
            const stk_gguf_record *swap = a;
            a = b;
            b = swap;
        }
        return stk_fail(
            log, STK_FORMAT,
            "%s: tensor '%s': appears twice, first in %s, at byte %" PRIu64 " and %" PRIu64,
            gguf->files[b->tensor.file_index].path, stk_gguf_quote(a->tensor.name, quoted),
            gguf->files[a->tensor.file_index].path, a->at, b->at);
    }
    return STK_OK;
}

// Moves the tensors of all files into one directory.
static stk_status merge(stk_gguf *gguf, const stk_log *log)
{
    const stk_gguf_file *first = &gguf->files[0];
    uint64_t total = 0, expected;
    for (uint32_t i = 0; i < gguf->file_count; i++)
        total += gguf->files[i].record_count;
    if (total > STK_GGUF_TENSORS_MAX) {
        return stk_fail(log, STK_FORMAT, "%s: %" PRIu64 " tensors in all splits, more than %d",
                        first->path, total, STK_GGUF_TENSORS_MAX);
    }
    const stk_gguf_entry *entry = stk_gguf_file_find(first, "split.tensors.count");
    if (entry && (!stk_gguf_entry_u64(entry, &expected) || expected != total)) {
        return stk_fail(log, STK_FORMAT,
                        "%s: key 'split.tensors.count': differs from the %" PRIu64
                        " tensors found, at byte %" PRIu64,
                        first->path, total, entry->at);
    }
    gguf->records = malloc((total + 1) * sizeof *gguf->records);
    gguf->by_name = malloc((total + 1) * sizeof *gguf->by_name);
    if (!gguf->records || !gguf->by_name)
        return stk_fail(log, STK_NO_MEMORY, "%s: no memory for the tensor index", first->path);
    for (uint32_t i = 0; i < gguf->file_count; i++) {
        stk_gguf_file *file = &gguf->files[i];
        memcpy(gguf->records + gguf->record_count, file->records,
               file->record_count * sizeof *file->records);
        gguf->record_count += file->record_count;
        free(file->records);
        file->records = NULL;
        file->record_count = 0;
    }
    for (uint32_t i = 0; i < gguf->record_count; i++)
        gguf->by_name[i] = &gguf->records[i];
    qsort(gguf->by_name, gguf->record_count, sizeof *gguf->by_name, compare_names);
    return check_duplicates(gguf, log);
}

stk_status stk_gguf_open(const char *path, const stk_log *log, stk_gguf **out)
{
    stk_gguf *gguf = calloc(1, sizeof *gguf);
    if (!gguf)
        return stk_fail(log, STK_NO_MEMORY, "%s: no memory to open it", path);
    stk_status status = stk_gguf_split_paths(path, log, &gguf->files, &gguf->file_count);
    for (uint32_t i = 0; i < gguf->file_count && status == STK_OK; i++) {
        status = stk_gguf_file_open(&gguf->files[i], log);
        if (status == STK_OK)
            status = stk_gguf_split_check(&gguf->files[i], log);
    }
    if (status == STK_OK)
        status = merge(gguf, log);
    if (status != STK_OK) {
        stk_gguf_close(&gguf);
        return status;
    }
    *out = gguf;
    return STK_OK;
}

void stk_gguf_close(stk_gguf **gguf)
{
    if (!*gguf)
        return;
    for (uint32_t i = 0; i < (*gguf)->file_count; i++)
        stk_gguf_file_close(&(*gguf)->files[i]);
    free((*gguf)->files);
    free((*gguf)->records);
    free((*gguf)->by_name);
    free(*gguf);
    *gguf = NULL;
}

uint32_t stk_gguf_version(const stk_gguf *gguf)
{
    return gguf->files[0].version;
}

uint32_t stk_gguf_file_count(const stk_gguf *gguf)
{
    return gguf->file_count;
}

const char *stk_gguf_file_path(const stk_gguf *gguf, uint32_t file_index)
{
    return gguf->files[file_index].path;
}

uint64_t stk_gguf_file_size_bytes(const stk_gguf *gguf, uint32_t file_index)
{
    return gguf->files[file_index].size_bytes;
}

uint32_t stk_gguf_tensor_count(const stk_gguf *gguf)
{
    return gguf->record_count;
}

const stk_gguf_tensor *stk_gguf_tensor_at(const stk_gguf *gguf, uint32_t index)
{
    return &gguf->records[index].tensor;
}

const stk_gguf_tensor *stk_gguf_tensor_find(const stk_gguf *gguf, const char *name)
{
    const stk_gguf_record wanted = {.tensor.name = stk_str_of(name)}, *probe = &wanted;
    const stk_gguf_record **hit = bsearch(&probe, gguf->by_name, gguf->record_count,
                                          sizeof *gguf->by_name, compare_names);
    return hit ? &(*hit)->tensor : NULL;
}

// Integer of any width or bool at p, sign-extended; false for other kinds. An unsigned value that
// needs 64 bits wraps, as in a cast.
static bool load_integer(stk_gguf_kind kind, const uint8_t *p, int64_t *out)
{
    uint64_t raw = 0;
    uint32_t bytes = stk_gguf_kind_bytes(kind);
    if (kind == STK_GGUF_F32 || kind == STK_GGUF_F64 || bytes == 0)
        return false;
    memcpy(&raw, p, bytes); // little-endian
    switch (kind) {
    case STK_GGUF_I8:
        *out = (int8_t)raw;
        break;
    case STK_GGUF_I16:
        *out = (int16_t)raw;
        break;
    case STK_GGUF_I32:
        *out = (int32_t)raw;
        break;
    default:
        *out = (int64_t)raw;
    }
    return true;
}

bool stk_gguf_entry_u64(const stk_gguf_entry *entry, uint64_t *out)
{
    int64_t value;
    if (!load_integer(entry->kind, entry->scalar, &value))
        return false;
    if (value < 0 && entry->kind != STK_GGUF_U64)
        return false;
    *out = (uint64_t)value;
    return true;
}

bool stk_gguf_has(const stk_gguf *gguf, const char *key)
{
    return stk_gguf_file_find(&gguf->files[0], key) != NULL;
}

bool stk_gguf_u64(const stk_gguf *gguf, const char *key, uint64_t *out)
{
    const stk_gguf_entry *entry = stk_gguf_file_find(&gguf->files[0], key);
    return entry && stk_gguf_entry_u64(entry, out);
}

bool stk_gguf_f64(const stk_gguf *gguf, const char *key, double *out)
{
    const stk_gguf_entry *entry = stk_gguf_file_find(&gguf->files[0], key);
    if (entry && entry->kind == STK_GGUF_F64) {
        memcpy(out, entry->scalar, sizeof *out);
        return true;
    }
    if (entry && entry->kind == STK_GGUF_F32) {
        float value;
        memcpy(&value, entry->scalar, sizeof value);
        *out = (double)value;
        return true;
    }
    return false;
}

bool stk_gguf_bool(const stk_gguf *gguf, const char *key, bool *out)
{
    const stk_gguf_entry *entry = stk_gguf_file_find(&gguf->files[0], key);
    if (!entry || entry->kind != STK_GGUF_BOOL)
        return false;
    *out = *entry->scalar != 0;
    return true;
}

bool stk_gguf_string(const stk_gguf *gguf, const char *key, stk_str *out)
{
    const stk_gguf_entry *entry = stk_gguf_file_find(&gguf->files[0], key);
    if (!entry || entry->kind != STK_GGUF_STRING)
        return false;
    *out = entry->string;
    return true;
}

bool stk_gguf_get_array(const stk_gguf *gguf, const char *key, stk_gguf_array *out)
{
    const stk_gguf_entry *entry = stk_gguf_file_find(&gguf->files[0], key);
    if (!entry || entry->kind != STK_GGUF_ARRAY || entry->array.kind == STK_GGUF_ARRAY)
        return false;
    *out = entry->array;
    return true;
}

int64_t stk_gguf_array_i64(const stk_gguf_array *array, uint64_t index)
{
    int64_t value = 0;
    load_integer(array->kind, array->data + index * stk_gguf_kind_bytes(array->kind), &value);
    return value;
}
