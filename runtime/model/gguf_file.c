#include "model/gguf_private.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    ENTRY_BYTES_MIN = 8 + 1 + 4 + 1,          // key length, key, kind, value
    RECORD_BYTES_MIN = 8 + 1 + 4 + 8 + 4 + 8, // name length, name, dims, one dim, type, offset
    ALIGNMENT_DEFAULT = 32,
    ALIGNMENT_MAX = 1 << 30,
};

static stk_status no_memory(const stk_gguf_cursor *cursor, const char *what)
{
    return stk_fail(cursor->log, STK_NO_MEMORY, "%s: no memory for the %s", cursor->file->path,
                    what);
}

// Never blocks: opening a FIFO for reading would wait for a writer.
static stk_status map_file(stk_gguf_file *file, const stk_log *log)
{
    int fd = open(file->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) {
        if (file->count > 1) {
            return stk_fail(log, STK_IO, "%s: cannot open split %" PRIu32 " of %" PRIu32 ": %s",
                            file->path, file->index + 1, file->count, strerror(errno));
        }
        return stk_fail(log, STK_IO, "%s: cannot open: %s", file->path, strerror(errno));
    }
    struct stat info;
    stk_status status = STK_OK;
    if (fstat(fd, &info) != 0)
        status = stk_fail(log, STK_IO, "%s: cannot stat: %s", file->path, strerror(errno));
    else if (!S_ISREG(info.st_mode))
        status = stk_fail(log, STK_IO, "%s: is not a regular file", file->path);
    else if (info.st_size == 0)
        status = stk_fail(log, STK_FORMAT, "%s: the file is empty, at byte 0", file->path);
    if (status == STK_OK) {
        void *map = mmap(NULL, (size_t)info.st_size, PROT_READ, MAP_SHARED, fd, 0);
        if (map == MAP_FAILED) {
            status = stk_fail(log, STK_IO, "%s: cannot map: %s", file->path, strerror(errno));
        } else {
            // Read-ahead would bring megabytes of weights into the page cache.
            madvise(map, (size_t)info.st_size, MADV_RANDOM);
            file->map = map;
            file->size_bytes = file->map_bytes = (uint64_t)info.st_size;
        }
    }
    close(fd);
    return status;
}

// Puts a copy of the header in the place of its mapping, so that names and metadata outlive a file
// that is cut or replaced, and drops the rest.
static stk_status keep_header(stk_gguf_file *file, uint64_t header_bytes, const stk_log *log)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t kept = ((size_t)header_bytes + page - 1) / page * page;
    size_t mapped = ((size_t)file->map_bytes + page - 1) / page * page;
    uint8_t *start = (uint8_t *)(uintptr_t)file->map;
    void *copy = mmap(NULL, kept, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (copy == MAP_FAILED)
        return stk_fail(log, STK_NO_MEMORY, "%s: no memory for its header", file->path);
    memcpy(copy, start, header_bytes);
    mprotect(copy, kept, PROT_READ);
    if (mremap(copy, kept, kept, MREMAP_MAYMOVE | MREMAP_FIXED, start) == MAP_FAILED) {
        munmap(copy, kept);
        return stk_fail(log, STK_NO_MEMORY, "%s: cannot keep its header: %s", file->path,
                        strerror(errno));
    }
    if (mapped > kept)
        munmap(start + kept, mapped - kept);
    file->map_bytes = kept;
    return STK_OK;
}

static stk_status parse_version(stk_gguf_cursor *cursor, uint32_t *version)
{
    const char *path = cursor->file->path;
    const uint8_t *magic;
    stk_status status = stk_gguf_take(cursor, 4, "magic", &magic);
    if (status != STK_OK)
        return status;
    if (memcmp(magic, "GGUF", 4) != 0) {
        return stk_fail(cursor->log, STK_FORMAT,
                        "%s: not a GGUF file: it starts with %02x %02x %02x %02x, at byte 0", path,
                        magic[0], magic[1], magic[2], magic[3]);
    }
    status = stk_gguf_take_u32(cursor, "version", version);
    if (status != STK_OK || *version == 2 || *version == 3)
        return status;
    if (*version == 1 || (*version & 0xffff) == 0) {
        return stk_fail(cursor->log, STK_UNSUPPORTED,
                        "%s: %s GGUF is not supported, convert the model to version 3, at byte 4",
                        path, *version == 1 ? "version 1" : "big-endian");
    }
    return stk_fail(cursor->log, STK_UNSUPPORTED,
                    "%s: GGUF version %" PRIu32 " is unknown, expected 2 or 3, at byte 4", path,
                    *version);
}

static stk_status take_name(stk_gguf_cursor *cursor, const char *what, stk_str *out)
{
    uint64_t at = cursor->at;
    stk_status status = stk_gguf_take_string(cursor, "name", out);
    if (status != STK_OK)
        return status;
    if (out->len_bytes == 0)
        return stk_gguf_malformed(cursor, at, "empty name");
    if (out->len_bytes > STK_GGUF_NAME_BYTES_MAX)
        return stk_gguf_malformed(cursor, at, "name of %zu bytes", out->len_bytes);
    char quoted[STK_GGUF_QUOTE_BYTES];
    snprintf(cursor->field, sizeof cursor->field, "%s '%s'", what, stk_gguf_quote(*out, quoted));
    return STK_OK;
}

static int compare_entries(const void *a, const void *b)
{
    const stk_gguf_entry *const *x = a, *const *y = b;
    return stk_gguf_str_compare((*x)->key, (*y)->key);
}

static stk_status parse_entries(stk_gguf_cursor *cursor, stk_gguf_file *file)
{
    stk_status status = STK_OK;
    for (uint32_t i = 0; i < file->entry_count && status == STK_OK; i++) {
        stk_gguf_entry *entry = &file->entries[i];
        uint32_t kind;
        snprintf(cursor->field, sizeof cursor->field, "key %" PRIu32 " of %" PRIu32, i + 1,
                 file->entry_count);
        entry->at = cursor->at;
        status = take_name(cursor, "key", &entry->key);
        if (status == STK_OK)
            status = stk_gguf_take_u32(cursor, "kind", &kind);
        if (status == STK_OK) {
            entry->kind = (stk_gguf_kind)kind;
            status = stk_gguf_take_value(cursor, entry);
        }
        file->by_key[i] = entry;
    }
    if (status != STK_OK)
        return status;
    qsort(file->by_key, file->entry_count, sizeof *file->by_key, compare_entries);
    for (uint32_t i = 1; i < file->entry_count; i++) {
        const stk_gguf_entry *a = file->by_key[i - 1], *b = file->by_key[i];
        if (stk_str_equal(a->key, b->key)) {
            char quoted[STK_GGUF_QUOTE_BYTES];
            uint64_t first = a->at < b->at ? a->at : b->at, second = a->at + b->at - first;
            return stk_fail(cursor->log, STK_FORMAT,
                            "%s: key '%s': appears twice, at byte %" PRIu64 " and %" PRIu64,
                            file->path, stk_gguf_quote(a->key, quoted), first, second);
        }
    }
    return STK_OK;
}

static stk_status parse_dims(stk_gguf_cursor *cursor, stk_gguf_tensor *tensor, uint64_t *elements)
{
    uint64_t at = cursor->at;
    stk_status status = stk_gguf_take_u32(cursor, "dimension count", &tensor->dim_count);
    if (status != STK_OK)
        return status;
    if (tensor->dim_count < 1 || tensor->dim_count > STK_GGUF_DIMS_MAX) {
        return stk_gguf_malformed(cursor, at, "%" PRIu32 " dimensions, expected 1 to %d",
                                  tensor->dim_count, STK_GGUF_DIMS_MAX);
    }
    *elements = 1;
    for (uint32_t i = 0; i < STK_GGUF_DIMS_MAX; i++)
        tensor->dims[i] = 1;
    for (uint32_t i = 0; i < tensor->dim_count; i++) {
        at = cursor->at;
        status = stk_gguf_take_u64(cursor, "dimension", &tensor->dims[i]);
        if (status != STK_OK)
            return status;
        if (tensor->dims[i] == 0)
            return stk_gguf_malformed(cursor, at, "dimension %" PRIu32 " is 0", i);
        if (tensor->dims[i] > INT64_MAX / *elements) {
            return stk_gguf_malformed(cursor, at,
                                      "dimension %" PRIu32 " is %" PRIu64
                                      ", the tensor has more than 2^63 elements",
                                      i, tensor->dims[i]);
        }
        *elements *= tensor->dims[i];
    }
    return STK_OK;
}

// Leaves tensor->offset_bytes relative to the start of the data, which is known only later.
static stk_status parse_record(stk_gguf_cursor *cursor, stk_gguf_record *record)
{
    stk_gguf_tensor *tensor = &record->tensor;
    uint64_t elements = 0, size, type_at;
    uint32_t type;
    record->at = cursor->at;
    stk_status status = take_name(cursor, "tensor", &tensor->name);
    if (status == STK_OK)
        status = parse_dims(cursor, tensor, &elements);
    type_at = cursor->at;
    if (status == STK_OK)
        status = stk_gguf_take_u32(cursor, "type", &type);
    if (status == STK_OK)
        status = stk_gguf_take_u64(cursor, "offset", &tensor->offset_bytes);
    if (status != STK_OK)
        return status;
    tensor->type = stk_type_find(type);
    if (!tensor->type) {
        const char *name = stk_type_foreign_name(type);
        return stk_fail(cursor->log, STK_UNSUPPORTED,
                        "%s: %s: tensor type %" PRIu32 "%s%s%s is not supported, at byte %" PRIu64
                        "; quantise to Q4_0, or to another type up to Q8_0 but not below Q3_K",
                        cursor->file->path, cursor->field, type, name ? " (" : "", name ? name : "",
                        name ? ")" : "", type_at);
    }
    if (tensor->dims[0] % tensor->type->block_len) {
        return stk_gguf_malformed(cursor, type_at,
                                  "rows of %" PRIu64 " values are not whole %s blocks of %" PRIu32,
                                  tensor->dims[0], tensor->type->name, tensor->type->block_len);
    }
    if (__builtin_mul_overflow(elements / tensor->type->block_len,
                               (uint64_t)tensor->type->block_bytes, &size))
        return stk_gguf_malformed(cursor, record->at, "more than 2^64 bytes");
    tensor->size_bytes = size;
    tensor->file_index = cursor->file->index;
    return STK_OK;
}

static stk_status parse_alignment(const stk_gguf_cursor *cursor, uint64_t *alignment)
{
    const stk_gguf_entry *entry = stk_gguf_file_find(cursor->file, "general.alignment");
    *alignment = ALIGNMENT_DEFAULT;
    if (!entry)
        return STK_OK;
    if (!stk_gguf_entry_u64(entry, alignment) || *alignment == 0 || *alignment > ALIGNMENT_MAX ||
        (*alignment & (*alignment - 1))) {
        return stk_fail(cursor->log, STK_FORMAT,
                        "%s: key 'general.alignment': is not a power of two up to 2^30, at byte "
                        "%" PRIu64,
                        cursor->file->path, entry->at);
    }
    return STK_OK;
}

// Makes every offset absolute and checks it against the file's size. data_at may lie past the end
// of a file that has no tensors.
static stk_status place_tensors(stk_gguf_cursor *cursor, stk_gguf_file *file, uint64_t alignment)
{
    uint64_t data_at = (cursor->at + alignment - 1) & ~(alignment - 1);
    for (uint32_t i = 0; i < file->record_count; i++) {
        stk_gguf_tensor *tensor = &file->records[i].tensor;
        uint64_t at = file->records[i].at, offset = tensor->offset_bytes;
        char quoted[STK_GGUF_QUOTE_BYTES];
        snprintf(cursor->field, sizeof cursor->field, "tensor '%s'",
                 stk_gguf_quote(tensor->name, quoted));
        if (offset & (alignment - 1)) {
            return stk_gguf_malformed(
                cursor, at, "offset %" PRIu64 " is not a multiple of the alignment %" PRIu64,
                offset, alignment);
        }
        uint64_t room = data_at < file->size_bytes ? file->size_bytes - data_at : 0;
        if (offset > room || tensor->size_bytes > room - offset) {
            return stk_fail(cursor->log, STK_FORMAT,
                            "%s: %s: offset %" PRIu64 " + %" PRIu64
                            " bytes of data that starts at byte %" PRIu64
                            " is past the end of the file (%" PRIu64 " bytes), at byte %" PRIu64
                            " of the header; the file is truncated, download it again",
                            file->path, cursor->field, offset, tensor->size_bytes, data_at,
                            file->size_bytes, at);
        }
        tensor->offset_bytes = data_at + offset;
    }
    return STK_OK;
}

static int compare_offsets(const void *a, const void *b)
{
    const stk_gguf_record *const *x = a, *const *y = b;
    uint64_t i = (*x)->tensor.offset_bytes, j = (*y)->tensor.offset_bytes;
    return (i > j) - (i < j);
}

static stk_status check_overlaps(const stk_gguf_cursor *cursor, const stk_gguf_file *file)
{
    const stk_gguf_record **sorted = malloc((file->record_count + 1) * sizeof *sorted);
    if (!sorted)
        return no_memory(cursor, "tensor index");
    for (uint32_t i = 0; i < file->record_count; i++)
        sorted[i] = &file->records[i];
    qsort(sorted, file->record_count, sizeof *sorted, compare_offsets);
    stk_status status = STK_OK;
    for (uint32_t i = 1; i < file->record_count && status == STK_OK; i++) {
        const stk_gguf_tensor *a = &sorted[i - 1]->tensor, *b = &sorted[i]->tensor;
        char name_a[STK_GGUF_QUOTE_BYTES], name_b[STK_GGUF_QUOTE_BYTES];
        if (a->size_bytes > b->offset_bytes - a->offset_bytes) {
            status = stk_fail(cursor->log, STK_FORMAT,
                              "%s: tensor '%s': overlaps tensor '%s' at byte %" PRIu64
                              " of the file, at byte %" PRIu64 " of the header",
                              file->path, stk_gguf_quote(b->name, name_b),
                              stk_gguf_quote(a->name, name_a), b->offset_bytes, sorted[i]->at);
        }
    }
    free(sorted);
    return status;
}

static stk_status parse_counts(stk_gguf_cursor *cursor, stk_gguf_file *file)
{
    uint64_t records, entries;
    stk_status status = stk_gguf_take_u64(cursor, "tensor count", &records);
    if (status == STK_OK)
        status = stk_gguf_take_u64(cursor, "key count", &entries);
    if (status != STK_OK)
        return status;
    uint64_t rest = file->size_bytes - cursor->at;
    if (records > STK_GGUF_TENSORS_MAX || records > rest / RECORD_BYTES_MIN) {
        return stk_gguf_malformed(cursor, 8,
                                  "tensor count %" PRIu64 " cannot fit in a file of %" PRIu64
                                  " bytes or is above %d" STK_GGUF_DAMAGED,
                                  records, file->size_bytes, STK_GGUF_TENSORS_MAX);
    }
    if (entries > STK_GGUF_KEYS_MAX || entries > rest / ENTRY_BYTES_MIN) {
        return stk_gguf_malformed(cursor, 16,
                                  "key count %" PRIu64 " cannot fit in a file of %" PRIu64
                                  " bytes or is above %d" STK_GGUF_DAMAGED,
                                  entries, file->size_bytes, STK_GGUF_KEYS_MAX);
    }
    file->entries = calloc(entries + 1, sizeof *file->entries);
    file->by_key = calloc(entries + 1, sizeof *file->by_key);
    file->records = calloc(records + 1, sizeof *file->records);
    if (!file->entries || !file->by_key || !file->records)
        return no_memory(cursor, "header");
    file->entry_count = (uint32_t)entries;
    file->record_count = (uint32_t)records;
    return STK_OK;
}

stk_status stk_gguf_file_open(stk_gguf_file *file, const stk_log *log)
{
    stk_status status = map_file(file, log);
    if (status != STK_OK)
        return status;
    stk_gguf_cursor cursor = {.file = file, .log = log, .field = "header"};
    uint64_t alignment;
    status = parse_version(&cursor, &file->version);
    if (status == STK_OK)
        status = parse_counts(&cursor, file);
    if (status == STK_OK)
        status = parse_entries(&cursor, file);
    if (status == STK_OK)
        status = parse_alignment(&cursor, &alignment);
    for (uint32_t i = 0; i < file->record_count && status == STK_OK; i++) {
        snprintf(cursor.field, sizeof cursor.field, "tensor %" PRIu32 " of %" PRIu32, i + 1,
                 file->record_count);
        status = parse_record(&cursor, &file->records[i]);
    }
    if (status == STK_OK)
        status = place_tensors(&cursor, file, alignment);
    if (status == STK_OK)
        status = check_overlaps(&cursor, file);
    if (status == STK_OK)
        status = keep_header(file, cursor.at, log);
    return status;
}

void stk_gguf_file_close(stk_gguf_file *file)
{
    for (uint32_t i = 0; i < file->entry_count; i++)
        free((void *)file->entries[i].array.strings);
    free(file->entries);
    free(file->by_key);
    free(file->records);
    if (file->map)
        munmap((void *)file->map, (size_t)file->map_bytes);
    free(file->path);
}

const stk_gguf_entry *stk_gguf_file_find(const stk_gguf_file *file, const char *key)
{
    const stk_gguf_entry wanted = {.key = stk_str_of(key)}, *probe = &wanted;
    const stk_gguf_entry **hit = bsearch(&probe, file->by_key, file->entry_count,
                                         sizeof *file->by_key, compare_entries);
    return hit ? *hit : NULL;
}
