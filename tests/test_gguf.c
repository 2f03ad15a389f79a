// GGUF files as they should be: what the writer writes the reader gives back, both versions,
// split sets from any of their files, and the failures of a set and of a full disk.
#include "gguf_make.h"

#include <errno.h>
#include <signal.h>
#include <sys/resource.h>

static stk_gguf *open_ok(const char *path)
{
    stk_gguf *gguf = NULL;
    last_line[0] = 0;
    stk_status status = stk_gguf_open(path, &test_log, &gguf);
    if (status != STK_OK)
        fail_msg("%s: %s: %s", path, stk_status_name(status), last_line);
    assert_string_equal(last_line, "");
    return gguf;
}

static void check_scalars(const stk_gguf *gguf)
{
    static const struct {
        const char *key;
        uint64_t value;
    } integers[] = {{"k.u8", 200},          {"k.u16", 65535},      {"k.i16", 1234},
                    {"k.u32", 4000000000u}, {"k.u64", UINT64_MAX}, {"k.i64", INT64_MAX},
                    {"k.bool", 1}};
    uint64_t u = 99;
    double f = 99;
    bool b = false;
    stk_str s;
    for (size_t i = 0; i < sizeof integers / sizeof integers[0]; i++) {
        assert_true(stk_gguf_u64(gguf, integers[i].key, &u));
        assert_true(u == integers[i].value);
    }
    u = 99;
    assert_false(stk_gguf_u64(gguf, "k.i8", &u)); // negative
    assert_false(stk_gguf_u64(gguf, "k.i32", &u));
    assert_false(stk_gguf_u64(gguf, "k.f32", &u));
    assert_false(stk_gguf_u64(gguf, "k.words", &u));
    assert_false(stk_gguf_u64(gguf, "general.architecture", &u));
    assert_false(stk_gguf_u64(gguf, "absent", &u));
    assert_true(u == 99);
    assert_false(stk_gguf_f64(gguf, "k.u8", &f));
    assert_true(f == 99);
    assert_true(stk_gguf_f64(gguf, "k.f32", &f) && f == 1.5);
    assert_true(stk_gguf_f64(gguf, "k.f64", &f) && f == -2.25);
    assert_false(stk_gguf_bool(gguf, "k.u8", &b));
    assert_true(stk_gguf_bool(gguf, "k.bool", &b) && b);
    assert_false(stk_gguf_string(gguf, "k.u8", &s));
    assert_true(stk_gguf_string(gguf, "general.architecture", &s) && stk_str_is(s, "test"));
    assert_true(stk_gguf_has(gguf, "k.none"));
    assert_false(stk_gguf_has(gguf, "k.non"));
}

static void check_arrays(const stk_gguf *gguf)
{
    stk_gguf_array array;
    float f;
    assert_false(stk_gguf_get_array(gguf, "k.u8", &array));
    assert_true(stk_gguf_get_array(gguf, "k.words", &array));
    assert_int_equal(array.count, 3);
    assert_true(stk_str_is(array.strings[0], "alpha"));
    assert_int_equal(array.strings[1].len_bytes, 0);
    assert_int_equal(array.strings[2].len_bytes, 10);
    assert_memory_equal(array.strings[2].data, "nul\0inside", 10);
    assert_true(stk_gguf_get_array(gguf, "k.shorts", &array));
    assert_null(array.strings);
    assert_int_equal(stk_gguf_array_i64(&array, 0), -2);
    assert_int_equal(stk_gguf_array_i64(&array, 1), 300);
    assert_true(stk_gguf_get_array(gguf, "k.floats", &array));
    assert_int_equal(array.kind, STK_GGUF_F32);
    memcpy(&f, array.data + 4, 4);
    assert_true(f == -1);
    assert_true(stk_gguf_get_array(gguf, "k.bools", &array));
    assert_int_equal(stk_gguf_array_i64(&array, 2), 1);
    assert_true(stk_gguf_get_array(gguf, "k.none", &array));
    assert_int_equal(array.count, 0);
}

static void check_tensor(const stk_gguf *gguf, const char *name, uint64_t size, uint8_t first,
                         uint64_t alignment)
{
    const stk_gguf_tensor *tensor = stk_gguf_tensor_find(gguf, name);
    uint8_t data[512];
    assert_non_null(tensor);
    assert_true(stk_str_is(tensor->name, name));
    assert_int_equal(tensor->size_bytes, size);
    assert_int_equal(tensor->offset_bytes % alignment, 0);
    int fd = open(stk_gguf_file_path(gguf, tensor->file_index), O_RDONLY);
    assert_int_equal(pread(fd, data, size, (off_t)tensor->offset_bytes), size);
    close(fd);
    for (uint64_t i = 0; i < size; i++)
        assert_int_equal(data[i], (uint8_t)(first + i));
}

static void test_round_trip(void **unused)
{
    (void)unused;
    static const uint32_t alignments[] = {0, 1, 8, 4096};
    for (uint32_t version = 2; version <= 3; version++) {
        for (size_t a = 0; a < 4; a++) {
            const char *path = in_folder("small.gguf");
            write_small(path, version, alignments[a]);
            stk_gguf *gguf = open_ok(path);
            uint64_t alignment = alignments[a] ? alignments[a] : 32;
            assert_int_equal(stk_gguf_version(gguf), version);
            assert_int_equal(stk_gguf_file_count(gguf), 1);
            assert_string_equal(stk_gguf_file_path(gguf, 0), path);
            check_scalars(gguf);
            check_arrays(gguf);
            assert_int_equal(stk_gguf_tensor_count(gguf), 3);
            check_tensor(gguf, "a", 12, 1, alignment);
            check_tensor(gguf, "b", 216, 2, alignment);
            check_tensor(gguf, "c", 2, 3, alignment);
            assert_null(stk_gguf_tensor_find(gguf, "d"));
            const stk_gguf_tensor *b = stk_gguf_tensor_at(gguf, 1);
            assert_ptr_equal(b, stk_gguf_tensor_find(gguf, "b"));
            assert_ptr_equal(b->type, stk_type_by_name("Q4_0"));
            assert_int_equal(b->dim_count, 3);
            assert_int_equal(b->dims[0], 64);
            assert_int_equal(b->dims[1], 2);
            assert_int_equal(b->dims[2], 3);
            assert_int_equal(b->dims[3], 1);
            stk_gguf_close(&gguf);
            assert_null(gguf);
        }
    }
}

static void test_bundled_model(void **unused)
{
    (void)unused;
    stk_gguf *gguf = open_ok(STK_MODELS "/stories-q4_0.gguf");
    stk_gguf_array tokens;
    stk_str architecture;
    assert_true(stk_gguf_string(gguf, "general.architecture", &architecture));
    assert_true(stk_str_is(architecture, "smallthinker"));
    assert_true(stk_gguf_get_array(gguf, "tokenizer.ggml.tokens", &tokens));
    const stk_gguf_tensor *embedding = stk_gguf_tensor_find(gguf, "token_embd.weight");
    assert_non_null(embedding);
    assert_int_equal(embedding->dims[1], tokens.count);
    stk_gguf_close(&gguf);
}

// One file of a set of 3; no and count may be wrong on purpose.
static void write_split(const char *path, uint16_t no, uint16_t count, int32_t tensors)
{
    stk_gguf_writer *w = start(path, 3, 0);
    char name[] = "t0";
    name[1] = (char)('0' + no);
    if (no == 0)
        stk_gguf_writer_string(w, "general.architecture", stk_str_of("first"));
    stk_gguf_writer_u16(w, "split.no", no);
    stk_gguf_writer_u16(w, "split.count", count);
    stk_gguf_writer_i32(w, "split.tensors.count", tensors);
    if (no > 0) { // the first file holds metadata only, as llama.cpp's tool can write it
        stk_gguf_writer_tensor(w, name, stk_type_by_name("F32"), (uint64_t[]){4}, 1);
        append_pattern(w, (uint8_t)(10 * no), 16);
    }
    assert_int_equal(stk_gguf_writer_finish(&w), STK_OK);
}

static const char *split_names[] = {"m-00001-of-00003.gguf", "m-00002-of-00003.gguf",
                                    "m-00003-of-00003.gguf"};

static void write_set(void)
{
    for (uint16_t i = 0; i < 3; i++)
        write_split(in_folder(split_names[i]), i, 3, 2);
}

static void test_splits(void **unused)
{
    (void)unused;
    write_set();
    for (size_t i = 0; i < 3; i++) {
        stk_gguf *gguf = open_ok(in_folder(split_names[i]));
        stk_str architecture;
        assert_int_equal(stk_gguf_file_count(gguf), 3);
        assert_true(stk_gguf_string(gguf, "general.architecture", &architecture));
        assert_true(stk_str_is(architecture, "first"));
        assert_int_equal(stk_gguf_tensor_count(gguf), 2);
        assert_int_equal(stk_gguf_tensor_find(gguf, "t1")->file_index, 1);
        check_tensor(gguf, "t1", 16, 10, 32);
        check_tensor(gguf, "t2", 16, 20, 32);
        stk_gguf_close(&gguf);
    }
}

static void open_fails(const char *path, stk_status expected, const char *part, const char *more)
{
    stk_gguf *gguf = NULL;
    last_line[0] = 0;
    error_lines = 0;
    stk_status status = stk_gguf_open(path, &test_log, &gguf);
    assert_null(gguf);
    assert_int_equal(error_lines, 1);
    if (status != expected || !strstr(last_line, part) || !strstr(last_line, more))
        fail_msg("%s, '%s' lacks '%s' or '%s'", stk_status_name(status), last_line, part, more);
}

static void test_split_failures(void **unused)
{
    (void)unused;
    write_set();
    unlink(in_folder(split_names[1]));
    for (size_t i = 0; i < 3; i++)
        open_fails(in_folder(split_names[i]), STK_IO, split_names[1], "split 2 of 3");
    write_split(in_folder(split_names[1]), 1, 4, 2);
    open_fails(in_folder(split_names[0]), STK_FORMAT, split_names[1], "'split.count': is 4");
    write_split(in_folder(split_names[1]), 2, 3, 2);
    open_fails(in_folder(split_names[0]), STK_FORMAT, split_names[1], "'split.no': is 2");
    write_split(in_folder(split_names[1]), 1, 3, 2);
    write_split(in_folder(split_names[0]), 0, 3, 7);
    open_fails(in_folder(split_names[2]), STK_FORMAT, split_names[0], "'split.tensors.count'");
    write_split(in_folder("alone.gguf"), 1, 3, 2);
    open_fails(in_folder("alone.gguf"), STK_FORMAT, "alone.gguf", "-of-00003.gguf");
    // The same tensor in two files.
    write_set();
    stk_gguf_writer *w = start(in_folder(split_names[2]), 3, 0);
    stk_gguf_writer_u16(w, "split.no", 2);
    stk_gguf_writer_u16(w, "split.count", 3);
    stk_gguf_writer_tensor(w, "t1", stk_type_by_name("F32"), (uint64_t[]){4}, 1);
    append_pattern(w, 0, 16);
    assert_int_equal(stk_gguf_writer_finish(&w), STK_OK);
    open_fails(in_folder(split_names[0]), STK_FORMAT, split_names[2], "'t1': appears twice");
}

static void test_not_a_file(void **unused)
{
    (void)unused;
    const char *fifo = in_folder("fifo"), *empty = in_folder("empty");
    assert_int_equal(mkfifo(fifo, 0600), 0);
    close(open(empty, O_CREAT | O_WRONLY, 0600));
    open_fails(fifo, STK_IO, fifo, "not a regular file");
    open_fails(folder, STK_IO, folder, "not a regular file");
    open_fails(empty, STK_FORMAT, empty, "empty");
    open_fails(in_folder("absent"), STK_IO, "absent", strerror(ENOENT));
    open_fails("", STK_IO, "cannot open", "");
}

static unsigned files_in_folder(void)
{
    char command[128];
    unsigned count = 99;
    snprintf(command, sizeof command, "ls '%s' | wc -l", folder);
    FILE *pipe = popen(command, "r");
    assert_int_equal(fscanf(pipe, "%u", &count), 1);
    pclose(pipe);
    return count;
}

static void test_writer_failures(void **unused)
{
    (void)unused;
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'/*", folder);
    assert_int_equal(system(command), 0);
    // A limit on the file's size stands for a full disk.
    struct rlimit old, small;
    getrlimit(RLIMIT_FSIZE, &old);
    small = old;
    small.rlim_cur = 300;
    signal(SIGXFSZ, SIG_IGN);
    stk_gguf_writer *w = start(in_folder("full.gguf"), 3, 0);
    stk_gguf_writer_tensor(w, "a", stk_type_by_name("F32"), (uint64_t[]){256}, 1);
    uint8_t data[1024] = {0};
    setrlimit(RLIMIT_FSIZE, &small);
    error_lines = 0;
    stk_status status = stk_gguf_writer_append(w, data, sizeof data);
    setrlimit(RLIMIT_FSIZE, &old);
    assert_int_equal(status, STK_IO);
    assert_non_null(strstr(last_line, "full.gguf"));
    assert_non_null(strstr(last_line, strerror(EFBIG)));
    assert_int_equal(stk_gguf_writer_append(w, data, 1), STK_IO);
    assert_int_equal(stk_gguf_writer_finish(&w), STK_IO);
    assert_null(w);
    assert_int_equal(error_lines, 1);
    assert_int_equal(files_in_folder(), 0);
    // Too much and too little data, and a file in the way.
    w = start(in_folder("x.gguf"), 3, 0);
    assert_int_equal(stk_gguf_writer_append(w, data, 1), STK_INVALID);
    stk_gguf_writer_abandon(&w);
    w = start(in_folder("x.gguf"), 3, 0);
    stk_gguf_writer_tensor(w, "a", stk_type_by_name("F32"), (uint64_t[]){256}, 1);
    assert_int_equal(stk_gguf_writer_finish(&w), STK_INVALID);
    assert_int_equal(files_in_folder(), 0);
    write_small(in_folder("x.gguf"), 3, 0);
    const stk_gguf_writer_options again = {.path = in_folder("x.gguf")};
    assert_int_equal(stk_gguf_writer_open(&again, &test_log, &w), STK_INVALID);
    const stk_gguf_writer_options nowhere = {.path = in_folder("no/x.gguf")};
    assert_int_equal(stk_gguf_writer_open(&nowhere, &test_log, &w), STK_IO);
    assert_non_null(strstr(last_line, strerror(ENOENT)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip), cmocka_unit_test(test_bundled_model),
        cmocka_unit_test(test_splits),     cmocka_unit_test(test_split_failures),
        cmocka_unit_test(test_not_a_file), cmocka_unit_test(test_writer_failures),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
