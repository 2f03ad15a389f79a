// Hostile GGUF files: every truncation, every flipped bit, and numbers chosen to overflow. Opening
// either succeeds or fails with a status about the file and one line that names it; it never
// crashes, and whatever opens has tensors inside the file.
#include "gguf_make.h"

#include <sys/mman.h>

static char path[256];

static uint8_t *load(const char *from, size_t *size)
{
    int fd = open(from, O_RDONLY);
    struct stat info;
    assert_true(fd >= 0);
    assert_int_equal(fstat(fd, &info), 0);
    uint8_t *data = malloc((size_t)info.st_size);
    assert_int_equal(read(fd, data, (size_t)info.st_size), info.st_size);
    close(fd);
    *size = (size_t)info.st_size;
    return data;
}

static void store(const void *data, size_t size)
{
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, data, size), size);
    close(fd);
}

static stk_status try_open(uint64_t file_bytes)
{
    stk_gguf *gguf = NULL;
    last_line[0] = 0;
    error_lines = 0;
    stk_status status = stk_gguf_open(path, &test_log, &gguf);
    if (status == STK_OK) {
        assert_int_equal(error_lines, 0);
        for (uint32_t i = 0; i < stk_gguf_tensor_count(gguf); i++) {
            const stk_gguf_tensor *tensor = stk_gguf_tensor_at(gguf, i);
            assert_in_range(tensor->offset_bytes, 0, file_bytes);
            assert_in_range(tensor->size_bytes, 1, file_bytes - tensor->offset_bytes);
        }
        stk_gguf_close(&gguf);
        return status;
    }
    assert_null(gguf);
    assert_int_equal(error_lines, 1);
    assert_true(status == STK_FORMAT || status == STK_UNSUPPORTED || status == STK_IO ||
                status == STK_NO_MEMORY);
    if (!strstr(last_line, path))
        fail_msg("'%s' does not name the file", last_line);
    return status;
}

static void test_truncation(void **unused)
{
    (void)unused;
    size_t size;
    uint8_t *data = load(STK_MODELS "/stories-q4_0.gguf", &size);
    store(data, size);
    assert_int_equal(try_open(size), STK_OK);
    for (int percent = 99; percent >= 0; percent--) {
        size_t cut = size * (size_t)percent / 100;
        assert_int_equal(truncate(path, (off_t)cut), 0);
        assert_int_equal(try_open(cut), STK_FORMAT);
        assert_non_null(strstr(last_line, percent ? "download it again" : "empty"));
    }
    free(data);
    write_small(path, 3, 0);
    data = load(path, &size);
    store(data, size);
    for (size_t cut = size; cut-- > 0;) {
        assert_int_equal(truncate(path, (off_t)cut), 0);
        stk_status status = try_open(cut);
        // Only the padding after the last tensor's two bytes may be missing.
        assert_int_equal(status, cut >= size - 30 ? STK_OK : STK_FORMAT);
    }
    free(data);
}

static void test_bit_flips(void **unused)
{
    (void)unused;
    size_t size;
    unsigned opened = 0, refused = 0;
    write_small(path, 3, 0);
    uint8_t *data = load(path, &size);
    int fd = open(path, O_RDWR);
    for (size_t bit = 0; bit < 8 * size; bit++) {
        uint8_t flipped = (uint8_t)(data[bit / 8] ^ 1u << bit % 8);
        assert_int_equal(pwrite(fd, &flipped, 1, (off_t)(bit / 8)), 1);
        if (try_open(size) == STK_OK)
            opened++;
        else
            refused++;
        assert_int_equal(pwrite(fd, &data[bit / 8], 1, (off_t)(bit / 8)), 1);
    }
    assert_true(opened > 1000 && refused > 1000); // both happen, so both are tested
    close(fd);
    free(data);
}

static void test_random_damage(void **unused)
{
    (void)unused;
    size_t size;
    uint64_t state = 1;
    write_small(path, 3, 0);
    uint8_t *data = load(path, &size), *copy = malloc(size);
    for (int round = 0; round < 3000; round++) {
        memcpy(copy, data, size);
        for (int i = 0; i < 1 + round % 8; i++) {
            static const uint64_t nasty[] = {0, UINT64_MAX, INT64_MAX, 1ull << 32, 9, 0xffffffff};
            state = state * 6364136223846793005u + 1442695040888963407u;
            size_t at = 4 + (state >> 33) % (size - 12);
            memcpy(copy + at, &nasty[(state >> 20) % 6], (state >> 10) % 2 ? 8 : 4);
        }
        store(copy, size);
        try_open(size);
    }
    free(copy);
    free(data);
}

// A header made by hand, field by field.
static struct {
    uint8_t data[1 << 17];
    size_t size;
} h;

static void raw(const void *data, size_t size)
{
    memcpy(h.data + h.size, data, size);
    h.size += size;
}

static void u32(uint32_t v)
{
    raw(&v, sizeof v);
}

static void u64(uint64_t v)
{
    raw(&v, sizeof v);
}

static void text(const char *s)
{
    u64(strlen(s));
    raw(s, strlen(s));
}

static void header(uint32_t version, uint64_t tensors, uint64_t keys)
{
    h.size = 0;
    raw("GGUF", 4);
    u32(version);
    u64(tensors);
    u64(keys);
}

static void tensor(const char *name, uint64_t rows, uint32_t type, uint64_t offset)
{
    text(name);
    u32(2);
    u64(32);
    u64(rows);
    u32(type);
    u64(offset);
}

// Pads to 32 and adds data bytes, then opens and checks the message.
static void refused(stk_status expected, size_t data_bytes, const char *part, const char *more)
{
    size_t total = (h.size + 31) / 32 * 32 + data_bytes;
    memset(h.data + h.size, 0, total - h.size);
    store(h.data, total);
    stk_status status = try_open(total);
    if (status != expected || !strstr(last_line, part) || !strstr(last_line, more))
        fail_msg("%s, '%s' lacks '%s' or '%s'", stk_status_name(status), last_line, part, more);
}

static void test_header_fields(void **unused)
{
    (void)unused;
    header(3, 0, 0);
    memcpy(h.data, "GGML", 4);
    refused(STK_FORMAT, 0, "not a GGUF file", "47 47 4d 4c");
    header(1, 0, 0);
    refused(STK_UNSUPPORTED, 0, "version 1", "byte 4");
    header(3u << 24, 0, 0);
    refused(STK_UNSUPPORTED, 0, "big-endian", "byte 4");
    header(4, 0, 0);
    refused(STK_UNSUPPORTED, 0, "version 4", "byte 4");
    header(3, UINT64_MAX, 0);
    refused(STK_FORMAT, 64, "tensor count 18446744073709551615", "byte 8");
    header(3, 0, 1ull << 40);
    refused(STK_FORMAT, 64, "key count 1099511627776", "byte 16");
    header(3, 10, 0);
    refused(STK_FORMAT, 64, "tensor count 10", "byte 8");
}

static void test_values(void **unused)
{
    (void)unused;
    header(3, 0, 1);
    u64(UINT64_MAX - 8);
    refused(STK_FORMAT, 64, "key 1 of 1", "at byte 32");
    header(3, 0, 1);
    text("");
    refused(STK_FORMAT, 64, "empty name", "byte 24");
    char long_name[65537];
    memset(long_name, 'n', 65536);
    long_name[65536] = 0;
    header(3, 0, 1);
    text(long_name);
    refused(STK_FORMAT, 64, "key 1 of 1: name of 65536 bytes", "byte 24");
    header(3, 0, 1);
    text("k");
    u32(13);
    refused(STK_FORMAT, 64, "'k': unknown kind 13", "byte 33");
    header(3, 0, 1);
    text("k");
    u32(STK_GGUF_BOOL);
    raw("\2", 1);
    refused(STK_FORMAT, 64, "'k': bool has the value 2", "byte 37");
    header(3, 0, 1);
    text("k");
    u32(STK_GGUF_STRING);
    u64(1000);
    refused(STK_FORMAT, 64, "'k': string of 1000 bytes", "at byte 45");
    for (uint32_t kind = 0; kind <= STK_GGUF_F64; kind++) {
        header(3, 0, 1);
        text("k");
        u32(STK_GGUF_ARRAY);
        u32(kind);
        u64(1ull << 61); // times 8 wraps to 0
        refused(STK_FORMAT, 64, "'k': array of 2305843009213693952 elements", "byte 41");
    }
    header(3, 0, 1);
    text("k");
    u32(STK_GGUF_ARRAY);
    u32(77);
    u64(0);
    refused(STK_FORMAT, 64, "'k': unknown array element kind 77", "byte 37");
    header(3, 0, 1);
    text("k");
    u32(STK_GGUF_ARRAY);
    for (int i = 0; i < 100; i++) {
        u32(STK_GGUF_ARRAY);
        u64(1);
    }
    refused(STK_FORMAT, 64, "'k': arrays nested more than 4 deep", "byte");
    header(3, 0, 2);
    for (int i = 0; i < 2; i++) {
        text("twin");
        u32(STK_GGUF_U8);
        raw("\1", 1);
    }
    refused(STK_FORMAT, 64, "'twin': appears twice", "at byte 24 and 41");
    for (uint32_t alignment = 0; alignment < 64; alignment += 24) {
        header(3, 0, 1);
        text("general.alignment");
        u32(STK_GGUF_U32);
        u32(alignment);
        refused(STK_FORMAT, 64, "'general.alignment': is not a power of two", "byte 24");
    }
}

static void test_nested_arrays_are_skipped(void **unused)
{
    (void)unused;
    stk_gguf *gguf;
    stk_gguf_array array;
    uint64_t after = 0;
    header(3, 0, 2);
    text("nested");
    u32(STK_GGUF_ARRAY);
    u32(STK_GGUF_ARRAY);
    u64(2);
    u32(STK_GGUF_STRING);
    u64(1);
    text("x");
    u32(STK_GGUF_U16);
    u64(3);
    raw("abcdef", 6);
    text("after");
    u32(STK_GGUF_U32);
    u32(5);
    store(h.data, h.size);
    assert_int_equal(stk_gguf_open(path, &test_log, &gguf), STK_OK);
    assert_true(stk_gguf_has(gguf, "nested"));
    assert_false(stk_gguf_get_array(gguf, "nested", &array));
    assert_true(stk_gguf_u64(gguf, "after", &after) && after == 5);
    stk_gguf_close(&gguf);
}

static void test_dimensions(void **unused)
{
    (void)unused;
    for (uint32_t count = 0; count < 8; count += 5) {
        header(3, 1, 0);
        text("t");
        u32(count);
        refused(STK_FORMAT, 128, "'t'", count ? "5 dimensions" : "0 dimensions");
    }
    header(3, 1, 0);
    tensor("t", 0, 0, 0);
    refused(STK_FORMAT, 128, "'t': dimension 1 is 0", "byte 45");
    header(3, 1, 0);
    tensor("t", 1ull << 58, 0, 0); // times 32 is 2^63
    refused(STK_FORMAT, 128, "'t': dimension 1", "2^63");
    header(3, 1, 0);
    tensor("t", 1ull << 57, 0, 0); // 2^62 elements of 4 bytes
    refused(STK_FORMAT, 128, "'t': more than 2^64 bytes", "byte 24");
    header(3, 1, 0);
    tensor("t", 1, 12, 0);
    refused(STK_FORMAT, 512, "'t': rows of 32 values are not whole Q4_K blocks of 256", "byte 53");
    header(3, 1, 0);
    tensor("t", 1, 4, 0);
    refused(STK_UNSUPPORTED, 512, "'t': tensor type 4", "byte 53");
}

static void test_ranges(void **unused)
{
    (void)unused;
    header(3, 1, 0);
    tensor("t", 1, 0, 16);
    refused(STK_FORMAT, 256, "'t': offset 16 is not a multiple of the alignment 32", "byte 24");
    header(3, 1, 0);
    tensor("t", 3, 0, 0);
    refused(STK_FORMAT, 256, "'t': offset 0 + 384 bytes", "(352 bytes), at byte 24");
    header(3, 1, 0);
    tensor("t", 1, 0, UINT64_MAX - 31); // the end wraps
    refused(STK_FORMAT, 256, "'t': offset 18446744073709551584 + 128", "byte 24");
    header(3, 2, 0);
    tensor("high", 2, 0, 0);
    tensor("low", 1, 0, 128);
    refused(STK_FORMAT, 256, "'low': overlaps tensor 'high'", "byte 68");
    header(3, 2, 0);
    tensor("same", 1, 0, 0);
    tensor("same", 1, 0, 128);
    refused(STK_FORMAT, 256, "'same': appears twice", "byte 24 and 68");
    header(3, 1, 0);
    tensor("odd\n\x1b[2Jname", 1, 4, 0); // nothing from the file reaches a terminal as it is
    refused(STK_UNSUPPORTED, 256, "'odd??[2Jname'", "");
}

static int setup(void **state)
{
    int failed = make_folder(state);
    snprintf(path, sizeof path, "%s/hostile.gguf", folder);
    return failed;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_truncation),    cmocka_unit_test(test_bit_flips),
        cmocka_unit_test(test_random_damage), cmocka_unit_test(test_header_fields),
        cmocka_unit_test(test_values),        cmocka_unit_test(test_nested_arrays_are_skipped),
        cmocka_unit_test(test_dimensions),    cmocka_unit_test(test_ranges),
    };
    return cmocka_run_group_tests(tests, setup, remove_folder);
}
