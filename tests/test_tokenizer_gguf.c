// The vocabulary of a GGUF, and `stoker tokenize` on it.
#include "cli/commands.h"
#include "cli/output.h"
#include "model/gguf.h"
#include "model/tokenizer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#define STORIES STK_MODELS "/stories-q4_0.gguf"

static void test_stories(void **state)
{
    (void)state;
    static const char text[] = "Once upon a time, \xc3\xa9l \xf0\x9f\x98\x80\n<|im_end|>";
    stk_gguf *gguf = NULL;
    stk_vocab_source source;
    stk_tokenizer *tokenizer = NULL;
    stk_encoder *encoder = NULL;
    const int32_t *ids = NULL;
    size_t count = 0, at = 0;
    assert_int_equal(stk_gguf_open(STORIES, NULL, &gguf), STK_OK);
    assert_int_equal(stk_vocab_source_from_gguf(gguf, NULL, &source), STK_OK);
    assert_int_equal(source.token_count, 4096);
    assert_int_equal(source.merge_count, 3837);
    assert_true(stk_str_is(source.pre, "qwen2"));
    assert_int_equal(source.eos, 4093);
    assert_int_equal(source.eot, -1);
    assert_false(source.add_bos);
    assert_int_equal(stk_tokenizer_open(&source, NULL, &tokenizer), STK_OK);
    stk_vocab_source_free(&source);
    assert_int_equal(stk_encoder_open(tokenizer, NULL, &encoder), STK_OK);
    assert_int_equal(
        stk_encoder_encode(encoder, text, sizeof text - 1, STK_ENCODE_SPECIAL, &ids, &count),
        STK_OK);
    assert_true(count < 24); // a vocabulary without its merges would need 40
    assert_int_equal(ids[count - 1], 4095);
    for (size_t i = 0; i < count; ++i) {
        stk_str bytes = stk_tokenizer_bytes(tokenizer, ids[i]);
        assert_memory_equal(bytes.data, text + at, bytes.len_bytes);
        at += bytes.len_bytes;
    }
    assert_int_equal(at, sizeof text - 1);
    stk_encoder_close(&encoder);
    stk_tokenizer_close(&tokenizer);
    stk_gguf_close(&gguf);
}

// Writes GGUF files of nothing but metadata.
typedef struct builder {
    char bytes[2048];
    size_t len;
    uint64_t keys;
} builder;

static void put(builder *b, const void *data, size_t len)
{
    memcpy(b->bytes + b->len, data, len);
    b->len += len;
}

static void put_u(builder *b, uint64_t value, size_t len)
{
    put(b, &value, len); // little endian, as the file is
}

static void put_text(builder *b, const char *text)
{
    put_u(b, strlen(text), 8);
    put(b, text, strlen(text));
}

static void put_key(builder *b, const char *key, uint32_t kind)
{
    put_text(b, key);
    put_u(b, kind, 4);
    ++b->keys;
}

static void put_strings(builder *b, const char *key, const char *const *texts, size_t count)
{
    put_key(b, key, STK_GGUF_ARRAY);
    put_u(b, STK_GGUF_STRING, 4);
    put_u(b, count, 8);
    for (size_t i = 0; i < count; ++i)
        put_text(b, texts[i]);
}

static void keep_line(void *user, stk_log_level level, const char *line)
{
    if (level == STK_LOG_ERROR)
        snprintf(user, 256, "%s", line);
}

static stk_status load(const builder *b, char line[256])
{
    char path[] = "/tmp/stoker-vocab-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    struct {
        uint32_t magic, version;
        uint64_t tensors, keys;
    } header = {0x46554747, 3, 0, b->keys};
    assert_int_equal(write(fd, &header, sizeof header), sizeof header);
    assert_int_equal(write(fd, b->bytes, b->len), b->len);
    close(fd);
    stk_log log = {.write = keep_line, .user = line, .level_max = STK_LOG_ERROR};
    stk_gguf *gguf = NULL;
    stk_vocab_source source = {0};
    stk_status status = stk_gguf_open(path, &log, &gguf);
    unlink(path);
    assert_int_equal(status, STK_OK);
    status = stk_vocab_source_from_gguf(gguf, &log, &source);
    if (status == STK_OK) {
        stk_tokenizer *tokenizer = NULL;
        status = stk_tokenizer_open(&source, &log, &tokenizer);
        stk_tokenizer_close(&tokenizer);
    }
    stk_vocab_source_free(&source);
    stk_gguf_close(&gguf);
    return status;
}

enum {
    NO_MODEL = 1,
    OTHER_MODEL = 2,
    NO_TOKENS = 4,
    NO_MERGES = 8,
    FEW_TYPES = 16,
    BAD_TYPE = 32,
    BAD_EOS = 64,
    EOS_TEXT = 128
};

static void build(builder *b, unsigned faults)
{
    static const char *const tokens[] = {"a", "b", "ab"}, *const merges[] = {"a b"};
    *b = (builder){0};
    if (!(faults & NO_MODEL)) {
        put_key(b, "tokenizer.ggml.model", STK_GGUF_STRING);
        put_text(b, faults & OTHER_MODEL ? "llama" : "gpt2");
    }
    if (!(faults & NO_TOKENS))
        put_strings(b, "tokenizer.ggml.tokens", tokens, 3);
    if (!(faults & NO_MERGES))
        put_strings(b, "tokenizer.ggml.merges", merges, 1);
    put_key(b, "tokenizer.ggml.token_type", STK_GGUF_ARRAY);
    put_u(b, STK_GGUF_I32, 4);
    put_u(b, faults & FEW_TYPES ? 2 : 3, 8);
    for (int i = 0; i < (faults & FEW_TYPES ? 2 : 3); ++i)
        put_u(b, faults & BAD_TYPE ? 9 : 1, 4);
    put_key(b, "tokenizer.ggml.eos_token_id", faults & EOS_TEXT ? STK_GGUF_STRING : STK_GGUF_U32);
    if (faults & EOS_TEXT)
        put_text(b, "b");
    else
        put_u(b, faults & BAD_EOS ? 3 : 2, 4);
}

static void test_faults(void **state)
{
    (void)state;
    const struct {
        unsigned fault;
        stk_status status;
        const char *names;
    } cases[] = {
        {0, STK_OK, ""},
        {NO_MODEL, STK_FORMAT, "tokenizer.ggml.model"},
        {OTHER_MODEL, STK_UNSUPPORTED, "\"llama\""},
        {NO_TOKENS, STK_FORMAT, "tokenizer.ggml.tokens"},
        {NO_MERGES, STK_FORMAT, "tokenizer.ggml.merges"},
        {FEW_TYPES, STK_FORMAT, "tokenizer.ggml.token_type"},
        {BAD_TYPE, STK_FORMAT, "tokenizer.ggml.token_type"},
        {BAD_EOS, STK_FORMAT, "tokenizer.ggml.eos_token_id"},
        {EOS_TEXT, STK_FORMAT, "tokenizer.ggml.eos_token_id"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; ++i) {
        builder b;
        char line[256] = "";
        build(&b, cases[i].fault);
        assert_int_equal(load(&b, line), cases[i].status);
        assert_non_null(strstr(line, cases[i].names));
    }
}

// Runs the command in a child, for it may exit; returns its exit code and what it printed.
static int run(char *const *args, int argc, const char *input, char *out, size_t out_max)
{
    FILE *in_file = tmpfile(), *out_file = tmpfile();
    assert_non_null(in_file);
    assert_non_null(out_file);
    fwrite(input, 1, strlen(input), in_file);
    rewind(in_file);
    fflush(NULL);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        char *argv[8] = {(char[]){"stoker tokenize"}};
        for (int i = 0; i < argc; ++i)
            argv[i + 1] = args[i];
        dup2(fileno(in_file), 0);
        dup2(fileno(out_file), 1);
        if (!freopen("/dev/null", "w", stderr))
            _exit(99);
        _exit(stk_output_finish(stk_cmd_tokenize(argc + 1, argv)));
    }
    int status = 0;
    waitpid(child, &status, 0);
    rewind(out_file);
    size_t len = fread(out, 1, out_max - 1, out_file);
    out[len] = 0;
    fclose(in_file);
    fclose(out_file);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void test_command(void **state)
{
    (void)state;
    char model[] = STORIES, ids[] = "--ids", json[] = "--json", special[] = "--special";
    char text[] = "the\n\xff<|im_end|>", none[] = "/nonexistent.gguf", wrong[] = "--no-such";
    char out[512];
    assert_int_equal(run((char *[]){model, text, special}, 3, "", out, sizeof out), 0);
    const char *line = strchr(out, '\t');
    assert_non_null(line);
    assert_memory_equal(line, "\tthe\n", 5);
    assert_non_null(strstr(out, "\t\\n\n"));
    assert_non_null(strstr(out, "\t\\xff\n"));
    assert_non_null(strstr(out, "4095\t<|im_end|>\n"));
    assert_int_equal(
        run((char *[]){model, ids, special}, 3, "<|im_end|><|im_start|>", out, sizeof out), 0);
    assert_string_equal(out, "4095 4094\n");
    assert_int_equal(run((char *[]){model, ids}, 2, "", out, sizeof out), 0);
    assert_string_equal(out, "\n");
    assert_int_equal(run((char *[]){model, json}, 2, "\"\xff", out, sizeof out), 0);
    assert_string_equal(out,
                        "[{\"id\": 34, \"text\": \"\\\"\"},\n {\"id\": 255, \"bytes\": [255]}]\n");
    assert_int_equal(run((char *[]){none, text}, 2, "", out, sizeof out), 1);
    assert_int_equal(run((char *[]){model, wrong}, 2, "", out, sizeof out), 2);
    assert_int_equal(run((char *[]){model, ids, json}, 3, "", out, sizeof out), 2);
    assert_int_equal(run(NULL, 0, "", out, sizeof out), 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stories),
        cmocka_unit_test(test_faults),
        cmocka_unit_test(test_command),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
