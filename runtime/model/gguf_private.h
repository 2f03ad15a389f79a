// model/gguf_private.h: what the files of the GGUF reader share; nobody else includes it.
//
// gguf_file.c maps and parses one file (gguf_value.c its metadata values), gguf_split.c finds the
// files of a set, gguf.c merges them and answers queries. Everything parsed borrows from the
// mapping, so a file must stay open as long as the directory is used.
#ifndef STK_MODEL_GGUF_PRIVATE_H
#define STK_MODEL_GGUF_PRIVATE_H

#include "model/gguf.h"

// Far above any real model (a few dozen keys, a few thousand tensors, 250,000 tokens); they bound
// what a hostile file can make us allocate.
enum {
    STK_GGUF_KEYS_MAX = 1 << 16,
    STK_GGUF_TENSORS_MAX = 1 << 20,
    STK_GGUF_STRINGS_MAX = 1 << 24,
    STK_GGUF_NAME_BYTES_MAX = 65535, // of a key or tensor name
    STK_GGUF_NESTING_MAX = 4,
    STK_GGUF_QUOTE_BYTES = 72,
};

typedef struct stk_gguf_entry { // one metadata key
    stk_str key;
    stk_gguf_kind kind;
    const uint8_t *scalar; // unaligned, of the kind's width; NULL for strings and arrays
    stk_str string;
    stk_gguf_array array; // kind STK_GGUF_ARRAY inside means nested: skipped, not exposed
    uint64_t at;          // byte offset of the key in the file
} stk_gguf_entry;

typedef struct stk_gguf_record { // one tensor
    stk_gguf_tensor tensor;
    uint64_t at; // byte offset of its entry in the file
} stk_gguf_record;

typedef struct stk_gguf_file {
    char *path;            // owned
    uint32_t index, count; // place in the set
    const uint8_t *map;    // while parsing the whole file, then a copy of its header
    uint64_t map_bytes;
    uint64_t size_bytes; // of the file
    uint32_t version;
    stk_gguf_entry *entries;
    uint32_t entry_count;
    const stk_gguf_entry **by_key; // [entry_count], sorted
    stk_gguf_record *records;      // in file order
    uint32_t record_count;
} stk_gguf_file;

// A place in one file's header, with what is being read for error messages.
typedef struct stk_gguf_cursor {
    const stk_gguf_file *file;
    const stk_log *log;
    uint64_t at;
    char field[STK_GGUF_QUOTE_BYTES + 32]; // "key 'general.name'"
} stk_gguf_cursor;

// --- gguf_value.c

// Ends a message about something that the file is too short for.
#define STK_GGUF_DAMAGED "; the file is truncated or damaged, download it again"

// Bytes of a scalar of this kind; 0 for strings, arrays and unknown kinds.
uint32_t stk_gguf_kind_bytes(uint32_t kind);
// Points *out at the next `count` bytes and moves on. STK_FORMAT past the end of the file.
STK_CHECKED stk_status stk_gguf_take(stk_gguf_cursor *cursor, uint64_t count, const char *what,
                                     const uint8_t **out);
STK_CHECKED stk_status stk_gguf_take_u32(stk_gguf_cursor *cursor, const char *what, uint32_t *out);
STK_CHECKED stk_status stk_gguf_take_u64(stk_gguf_cursor *cursor, const char *what, uint64_t *out);
STK_CHECKED stk_status stk_gguf_take_string(stk_gguf_cursor *cursor, const char *what,
                                            stk_str *out);
// Reads the value of entry->kind. String tables are allocated here and owned by the entry.
STK_CHECKED stk_status stk_gguf_take_value(stk_gguf_cursor *cursor, stk_gguf_entry *entry);
// Logs "FILE: FIELD: text, at byte N" and returns STK_FORMAT.
stk_status stk_gguf_malformed(const stk_gguf_cursor *cursor, uint64_t at, const char *fmt, ...)
    STK_PRINTF(3, 4);
// Text of a name from the file that is safe to log: printable ASCII, shortened. Returns buffer.
const char *stk_gguf_quote(stk_str name, char buffer[STK_GGUF_QUOTE_BYTES]);
int stk_gguf_str_compare(stk_str a, stk_str b);

// --- gguf_file.c

// Maps and parses file->path. On failure the file is left closeable.
STK_CHECKED stk_status stk_gguf_file_open(stk_gguf_file *file, const stk_log *log);
void stk_gguf_file_close(stk_gguf_file *file);
const stk_gguf_entry *stk_gguf_file_find(const stk_gguf_file *file, const char *key);
// Value of an integer or bool entry that is not negative; false otherwise.
bool stk_gguf_entry_u64(const stk_gguf_entry *entry, uint64_t *out);

// --- gguf_split.c

// Allocates *files with the path of every file of the set that `path` belongs to.
STK_CHECKED stk_status stk_gguf_split_paths(const char *path, const stk_log *log,
                                            stk_gguf_file **files, uint32_t *count);
// Checks the split.* keys of an opened file against its name.
STK_CHECKED stk_status stk_gguf_split_check(const stk_gguf_file *file, const stk_log *log);

#endif
