// tests/gguf_make.h: what the GGUF tests share: a folder for files, a log that keeps its lines, and
// a small model file with every kind of metadata.
#ifndef STK_TESTS_GGUF_MAKE_H
#define STK_TESTS_GGUF_MAKE_H

#include "model/gguf.h"
#include "model/gguf_writer.h"
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static char last_line[2048];
static unsigned error_lines;

static void keep_line(void *user, stk_log_level level, const char *line)
{
    (void)user;
    error_lines += level == STK_LOG_ERROR;
    snprintf(last_line, sizeof last_line, "%s", line);
}

static const stk_log test_log = {.write = keep_line, .level_max = STK_LOG_DEBUG};

static char folder[64];

static int make_folder(void **unused)
{
    (void)unused;
    strcpy(folder, "/tmp/stk-gguf-XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **unused)
{
    (void)unused;
    char command[128];
    snprintf(command, sizeof command, "rm -r '%s'", folder);
    return system(command);
}

static inline const char *in_folder(const char *name)
{
    static char paths[4][256];
    static unsigned next;
    char *path = paths[next++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", folder, name);
    return path;
}

static inline stk_gguf_writer *start(const char *path, uint32_t version, uint32_t alignment)
{
    const stk_gguf_writer_options options = {
        .path = path, .overwrite = true, .version = version, .alignment = alignment};
    stk_gguf_writer *writer;
    assert_int_equal(stk_gguf_writer_open(&options, &test_log, &writer), STK_OK);
    return writer;
}

// Appends a tensor's worth of bytes that tell where they belong.
static inline void append_pattern(stk_gguf_writer *writer, uint8_t first, size_t size)
{
    uint8_t *data = malloc(size);
    assert_non_null(data);
    for (size_t i = 0; i < size; i++)
        data[i] = (uint8_t)(first + i);
    assert_int_equal(stk_gguf_writer_append(writer, data, size), STK_OK);
    free(data);
}

// Every kind of key, then tensors a (F32 [3]), b (Q4_0 [64, 2, 3]), c (F16 [1]).
static inline void write_small(const char *path, uint32_t version, uint32_t alignment)
{
    stk_gguf_writer *w = start(path, version, alignment);
    const stk_str words[] = {stk_str_of("alpha"), stk_str_of(""), {"nul\0inside", 10}};
    const int16_t shorts[] = {-2, 300};
    const float floats[] = {0.5f, -1};
    const uint8_t bools[] = {1, 0, 1};
    stk_gguf_writer_string(w, "general.architecture", stk_str_of("test"));
    stk_gguf_writer_u8(w, "k.u8", 200);
    stk_gguf_writer_i8(w, "k.i8", -5);
    stk_gguf_writer_u16(w, "k.u16", 65535);
    stk_gguf_writer_i16(w, "k.i16", 1234);
    stk_gguf_writer_u32(w, "k.u32", 4000000000u);
    stk_gguf_writer_i32(w, "k.i32", -7);
    stk_gguf_writer_u64(w, "k.u64", UINT64_MAX);
    stk_gguf_writer_i64(w, "k.i64", INT64_MAX);
    stk_gguf_writer_f32(w, "k.f32", 1.5f);
    stk_gguf_writer_f64(w, "k.f64", -2.25);
    stk_gguf_writer_bool(w, "k.bool", true);
    stk_gguf_writer_strings(w, "k.words", words, 3);
    stk_gguf_writer_array(w, "k.shorts", STK_GGUF_I16, shorts, 2);
    stk_gguf_writer_array(w, "k.floats", STK_GGUF_F32, floats, 2);
    stk_gguf_writer_array(w, "k.bools", STK_GGUF_BOOL, bools, 3);
    stk_gguf_writer_array(w, "k.none", STK_GGUF_U64, NULL, 0);
    stk_gguf_writer_tensor(w, "a", stk_type_by_name("F32"), (uint64_t[]){3}, 1);
    stk_gguf_writer_tensor(w, "b", stk_type_by_name("Q4_0"), (uint64_t[]){64, 2, 3}, 3);
    stk_gguf_writer_tensor(w, "c", stk_type_by_name("F16"), (uint64_t[]){1}, 1);
    append_pattern(w, 1, 12);
    append_pattern(w, 2, 100);
    append_pattern(w, 102, 116); // one tensor in two pieces
    append_pattern(w, 3, 2);
    assert_int_equal(stk_gguf_writer_finish(&w), STK_OK);
}

#endif
