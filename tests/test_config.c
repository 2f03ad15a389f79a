// YAML configs: values into fields, precedence, and the place and words of every mistake.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/config.h"

typedef struct sample {
    uint32_t threads;
    uint64_t memory_bytes;
    float temperature;
    const char *mask;
    bool direct;
    uint32_t guard;
} sample;

static const stk_option sample_options[] = {
    {.key = "cpu.threads",
     .type = STK_OPTION_U32,
     .has_auto = true,
     .min = 1,
     .max = 64,
     .offset = offsetof(sample, threads)},
    {.key = "cpu.mask", .type = STK_OPTION_STRING, .offset = offsetof(sample, mask)},
    {.key = "memory", .type = STK_OPTION_SIZE, .offset = offsetof(sample, memory_bytes)},
    {.key = "sampling.temperature",
     .type = STK_OPTION_F32,
     .max = 100,
     .offset = offsetof(sample, temperature)},
    {.key = "store.direct", .type = STK_OPTION_BOOL, .offset = offsetof(sample, direct)},
    {.flag = "only-a-flag", .type = STK_OPTION_U32, .offset = offsetof(sample, guard)},
};
static const stk_option_table table = {"Sample", sample_options,
                                       sizeof sample_options / sizeof *sample_options};

static const stk_option other_options[] = {
    {.key = "gpu.layers", .type = STK_OPTION_U32, .max = 99, .offset = 1 << 20},
};
static const stk_option_table other = {"Other", other_options, 1};
static const stk_option_table *const known[] = {&table, &other, NULL};

static void keep_line(void *user, stk_log_level level, const char *line)
{
    (void)level;
    snprintf(user, 1024, "%s", line);
}

static stk_status parse(const char *text, size_t size, sample *s, char line[1024], stk_config **out)
{
    const stk_log log = {.write = keep_line, .user = line, .level_max = STK_LOG_DEBUG};
    const stk_option_binding binding = {&table, s};
    const stk_config_options options = {.bindings = &binding, .binding_count = 1, .known = known};
    line[0] = '\0';
    return stk_config_parse("x.yaml", text, size, &options, &log, out);
}

static void accepts(void **state)
{
    (void)state;
    static const char text[] = "# a comment\n"
                               "cpu: {threads: 8, mask: 'avx2'}\n"
                               "memory: 1.5GiB\n"
                               "sampling:\n"
                               "  temperature: 0.25\n"
                               "store: {direct: true}\n"
                               "gpu: {layers: 12}\n";
    sample s = {.guard = 0xfeed};
    char line[1024];
    stk_config *config = NULL;
    assert_int_equal(parse(text, sizeof text - 1, &s, line, &config), STK_OK);
    assert_string_equal(line, "");
    assert_int_equal(s.threads, 8);
    assert_string_equal(s.mask, "avx2");
    assert_int_equal(s.memory_bytes, UINT64_C(3) << 29);
    assert_true(s.temperature == 0.25f);
    assert_true(s.direct);
    assert_int_equal(s.guard, 0xfeed);
    stk_config_close(&config);
    assert_null(config);
}

static void keeps_what_is_not_named(void **state)
{
    (void)state;
    static const char *const texts[] = {"",   "# nothing\n", "---\n",
                                        "~",  "cpu:\n",      "cpu: {}\n",
                                        "{}", "---\n...\n",  "gpu: {layers: 1}"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        sample s = {.threads = 7, .memory_bytes = 9};
        char line[1024];
        stk_config *config = NULL;
        assert_int_equal(parse(texts[i], strlen(texts[i]), &s, line, &config), STK_OK);
        assert_int_equal(s.threads, 7);
        assert_int_equal(s.memory_bytes, 9);
        stk_config_close(&config);
    }
}

static void aliases_work(void **state)
{
    (void)state;
    static const char text[] = "memory: &m 4MiB\ncpu: {threads: auto, mask: *m}\n";
    sample s = {.threads = 3};
    char line[1024];
    stk_config *config = NULL;
    assert_int_equal(parse(text, sizeof text - 1, &s, line, &config), STK_OK);
    assert_int_equal(s.threads, 0);
    assert_string_equal(s.mask, "4MiB");
    stk_config_close(&config);
}

static void refuses(void **state)
{
    (void)state;
    static const struct {
        const char *text, *line;
        stk_status status;
    } cases[] = {
        {"cpu:\n  thraeds: 3\n",
         "x.yaml:2:3: there is no key 'cpu.thraeds', did you mean 'cpu.threads'?", STK_INVALID},
        {"cup:\n  threads: 3\n",
         "x.yaml:1:1: there is no key 'cup.threads', did you mean 'cpu.threads'?", STK_INVALID},
        {"gpu: {layer: 3}\n", "x.yaml:1:7: there is no key 'gpu.layer', did you mean 'gpu.layers'?",
         STK_INVALID},
        {"colour: red\n", "x.yaml:1:1: there is no key 'colour'", STK_INVALID},
        {"colour: {}\n", "x.yaml:1:1: there is no key 'colour'", STK_INVALID},
        {"only-a-flag: 1\n", "x.yaml:1:1: there is no key 'only-a-flag'", STK_INVALID},
        {"cpu: {threads: 65}\n",
         "x.yaml:1:16: cpu.threads: '65' is not a whole number from 1 to 64 or auto", STK_INVALID},
        {"gpu:\n    layers: 100\n",
         "x.yaml:2:13: gpu.layers: '100' is not a whole number from 0 to 99", STK_INVALID},
        {"cpu: 4\n", "x.yaml:1:6: 'cpu' is a group of keys, not a value", STK_INVALID},
        {"cpu: [4]\n", "x.yaml:1:6: 'cpu' is a group of keys, not a value", STK_INVALID},
        {"memory: [1]\n", "x.yaml:1:9: 'memory' takes one value, not a list", STK_INVALID},
        {"memory: {a: 1}\n", "x.yaml:1:9: 'memory' takes one value, not a group of keys",
         STK_INVALID},
        {"memory:\n", "x.yaml:1:8: 'memory' has no value", STK_INVALID},
        {"cpu: {mask: null}\n", "x.yaml:1:13: 'cpu.mask' has no value", STK_INVALID},
        {"memory: 1\nmemory: 2\n", "x.yaml:2:1: 'memory' is given twice", STK_INVALID},
        {"cpu: {threads: 1}\ncpu: {mask: a}\n", "x.yaml:2:1: 'cpu' is given twice", STK_INVALID},
        {"cpu: {threads: 1}\ncpu.threads: 2\n", "x.yaml:2:1: 'cpu.threads' is given twice",
         STK_INVALID},
        {"- cpu\n", "x.yaml:1:1: keys and values are expected", STK_INVALID},
        {"[a]: 1\n", "x.yaml:1:1: a key has to be a single word", STK_INVALID},
        {"memory: !mine 4\n", "x.yaml:1:9: the tag !mine is not known", STK_INVALID},
        {"cpu: {mask: \"a\\0b\"}\n", "x.yaml:1:13: the text contains a zero byte", STK_INVALID},
        {"memory: 1\n--- \nmemory: 2\n", "x.yaml:3:1: a second document begins here", STK_FORMAT},
        {"cpu: {threads: 1\n",
         "x.yaml:2:1: did not find expected ',' or '}' while parsing a flow mapping", STK_FORMAT},
        {"cpu: *nobody\n", "x.yaml:1:6: found undefined alias", STK_FORMAT},
        {"memory: 1\xff\n", "x.yaml: byte 9: invalid leading UTF-8 octet", STK_FORMAT},
        {"cpu: &a {b: *a}\n", "x.yaml:1:6: more than 8 groups inside each other", STK_INVALID},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        sample s = {.guard = 0xfeed};
        char line[1024];
        stk_config *config = NULL;
        stk_status status = parse(cases[i].text, strlen(cases[i].text), &s, line, &config);
        assert_string_equal(line, cases[i].line);
        assert_int_equal(status, cases[i].status);
        assert_null(config);
        assert_int_equal(s.guard, 0xfeed);
    }
}

static void bounds_hostile_files(void **state)
{
    (void)state;
    char *text = malloc(STK_CONFIG_BYTES_MAX + 1), line[1024];
    assert_non_null(text);
    sample s = {0};
    stk_config *config = NULL;
    memset(text, ' ', STK_CONFIG_BYTES_MAX + 1);
    assert_int_equal(parse(text, STK_CONFIG_BYTES_MAX, &s, line, &config), STK_OK);
    stk_config_close(&config);
    assert_int_equal(parse(text, STK_CONFIG_BYTES_MAX + 1, &s, line, &config), STK_FORMAT);
    assert_string_equal(line, "x.yaml: more than 65536 bytes");
    memset(text, '[', STK_CONFIG_BYTES_MAX);
    assert_int_equal(parse(text, STK_CONFIG_BYTES_MAX, &s, line, &config), STK_FORMAT);
    assert_string_equal(line, "x.yaml: more than 512 brackets");
    for (int i = 0; i < STK_CONFIG_BYTES_MAX; i += 2)
        memcpy(text + i, "- ", 2);
    assert_int_not_equal(parse(text, STK_CONFIG_BYTES_MAX, &s, line, &config), STK_OK);
    for (int i = 0; i < STK_CONFIG_BYTES_MAX; i += 2)
        memcpy(text + i, "? ", 2);
    assert_int_not_equal(parse(text, STK_CONFIG_BYTES_MAX, &s, line, &config), STK_OK);
    size_t size = 0;
    for (int i = 0; i < STK_CONFIG_KEYS_MAX + 1; i++)
        size += (size_t)sprintf(text + size, "k%d: 1\n", i);
    assert_int_equal(parse(text, size, &s, line, &config), STK_INVALID);
    assert_string_equal(line, "x.yaml:1:1: more than 256 keys in one group");
    memset(text, 'k', 2000);
    memcpy(text + 1000, ": 1", 3);
    assert_int_equal(parse(text, 1003, &s, line, &config), STK_INVALID);
    free(text);
}

static void reads_files(void **state)
{
    (void)state;
    char line[1024] = "", path[] = "/tmp/stoker-config-XXXXXX";
    const stk_log log = {.write = keep_line, .user = line, .level_max = STK_LOG_DEBUG};
    sample s = {0};
    const stk_option_binding binding = {&table, &s};
    const stk_config_options options = {.bindings = &binding, .binding_count = 1, .known = NULL};
    stk_config *config = NULL;
    assert_int_equal(stk_config_open("/no/such/file.yaml", &options, &log, &config), STK_IO);
    assert_string_equal(line, "/no/such/file.yaml: No such file or directory");
    assert_int_equal(stk_config_open("/", &options, &log, &config), STK_IO);
    assert_string_equal(line, "/: Is a directory");
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    FILE *file = fdopen(fd, "w");
    assert_non_null(file);
    fputs("cpu: {mask: scalar}\n", file);
    fclose(file);
    assert_int_equal(stk_config_open(path, &options, &log, &config), STK_OK);
    remove(path);
    assert_string_equal(s.mask, "scalar"); // owned by config, not by the file
    stk_config_close(&config);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(accepts),
        cmocka_unit_test(keeps_what_is_not_named),
        cmocka_unit_test(aliases_work),
        cmocka_unit_test(refuses),
        cmocka_unit_test(bounds_hostile_files),
        cmocka_unit_test(reads_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
