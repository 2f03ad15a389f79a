// cli/cmd_tokenize.c: stoker tokenize, the tokens of a text.
//
// Reads only the header of the model.
#include "base/utf8.h"
#include "model/gguf.h"
#include "model/tokenizer.h"

#include <argp.h>
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

enum { EXIT_DONE = 0, EXIT_FAILED = 1, EXIT_USAGE = 2, TEXT_BYTES_MAX = 1 << 30 };
enum { OPTION_IDS = 0x100, OPTION_JSON, OPTION_SPECIAL, OPTION_BOS };

int stk_cmd_tokenize(int argc, char **argv);

typedef struct tokenize_options {
    const char *model, *text;
    bool ids, json;
    unsigned flags; // of stk_encode_flags
} tokenize_options;

static const struct argp_option argp_options[] = {
    {"ids", OPTION_IDS, NULL, 0, "print the ids on one line", 0},
    {"json", OPTION_JSON, NULL, 0, "print a JSON list", 0},
    {"special", OPTION_SPECIAL, NULL, 0, "read control tokens in the text as such", 0},
    {"bos", OPTION_BOS, NULL, 0, "begin with the model's beginning-of-text token if it wants one",
     0},
    {0},
};

static error_t parse_option(int key, char *arg, struct argp_state *state)
{
    tokenize_options *options = state->input;
    switch (key) {
    case OPTION_IDS:
        options->ids = true;
        return 0;
    case OPTION_JSON:
        options->json = true;
        return 0;
    case OPTION_SPECIAL:
        options->flags |= STK_ENCODE_SPECIAL;
        return 0;
    case OPTION_BOS:
        options->flags |= STK_ENCODE_BOS;
        return 0;
    case ARGP_KEY_ARG:
        if (state->arg_num == 0)
            options->model = arg;
        else if (state->arg_num == 1)
            options->text = arg;
        else
            argp_error(state, "more than one text; quote it");
        return 0;
    case ARGP_KEY_END:
        if (!options->model)
            argp_error(state, "no model given");
        if (options->ids && options->json)
            argp_error(state, "--ids and --json exclude each other");
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static void write_log(void *user, stk_log_level level, const char *line)
{
    (void)user;
    fprintf(stderr, "stoker: %s%s\n", level == STK_LOG_WARN ? "warning: " : "", line);
}

static stk_status read_stdin(const stk_log *log, char **text, size_t *len_bytes)
{
    size_t capacity = 1 << 16, filled = 0;
    char *buffer = malloc(capacity);
    while (buffer) {
        filled += fread(buffer + filled, 1, capacity - filled, stdin);
        if (ferror(stdin) || filled > TEXT_BYTES_MAX) {
            free(buffer);
            return filled > TEXT_BYTES_MAX
                       ? stk_fail(log, STK_INVALID, "standard input: over %d bytes", TEXT_BYTES_MAX)
                       : stk_fail(log, STK_IO, "standard input: %s", strerror(errno));
        }
        if (filled < capacity) {
            *text = buffer;
            *len_bytes = filled;
            return STK_OK;
        }
        capacity *= 2;
        char *grown = realloc(buffer, capacity);
        if (!grown)
            free(buffer);
        buffer = grown;
    }
    return stk_fail(log, STK_NO_MEMORY, "standard input: out of memory");
}

// One line of printable text: control characters and what is not UTF-8 as \n, \t, \r or \xNN.
static void print_escaped(stk_str bytes)
{
    for (size_t at = 0, len = 0; at < bytes.len_bytes; at += len) {
        const char *p = bytes.data + at;
        bool valid = stk_utf8_step(p, bytes.len_bytes - at, &len) == STK_UTF8_VALID;
        uint32_t c = valid ? stk_utf8_code_point(p, len) : 0;
        if (c == '\n' || c == '\t' || c == '\r' || c == '\\')
            printf("\\%c", c == '\n' ? 'n' : c == '\t' ? 't' : c == '\r' ? 'r' : '\\');
        else if (c < 0x20 || (c >= 0x7f && c < 0xa0))
            for (size_t i = 0; i < len; ++i)
                printf("\\x%02x", (unsigned)(uint8_t)p[i]);
        else
            fwrite(p, 1, len, stdout);
    }
}

// {"id": 1, "text": "a"}; a token that is no text by itself has "bytes" instead.
static json_t *json_token(const stk_tokenizer *tokenizer, int32_t id)
{
    stk_str bytes = stk_tokenizer_bytes(tokenizer, id);
    json_t *token = json_object(), *text = json_stringn(bytes.data, bytes.len_bytes);
    json_object_set_new(token, "id", json_integer(id));
    if (text) {
        json_object_set_new(token, "text", text);
        return token;
    }
    json_t *list = json_array();
    for (size_t i = 0; i < bytes.len_bytes; ++i)
        json_array_append_new(list, json_integer((uint8_t)bytes.data[i]));
    json_object_set_new(token, "bytes", list);
    return token;
}

static void print_tokens(const tokenize_options *options, const stk_tokenizer *tokenizer,
                         const int32_t *ids, size_t count)
{
    if (options->json)
        fputs("[", stdout);
    for (size_t i = 0; i < count; ++i) {
        if (options->ids) {
            printf("%s%d", i ? " " : "", (int)ids[i]);
        } else if (options->json) {
            json_t *token = json_token(tokenizer, ids[i]);
            fputs(i ? ",\n " : "", stdout);
            json_dumpf(token, stdout, JSON_ENCODE_ANY);
            json_decref(token);
        } else {
            printf("%d\t", (int)ids[i]);
            print_escaped(stk_tokenizer_bytes(tokenizer, ids[i]));
            putchar('\n');
        }
    }
    if (options->json)
        fputs("]", stdout);
    if (options->json || options->ids)
        putchar('\n');
}

static stk_status tokenize(const tokenize_options *options, const stk_log *log,
                           const stk_tokenizer *tokenizer)
{
    char *input = NULL;
    size_t len_bytes = options->text ? strlen(options->text) : 0, count = 0;
    const int32_t *ids = NULL;
    stk_encoder *encoder = NULL;
    stk_status status = STK_OK;
    if (!options->text)
        status = read_stdin(log, &input, &len_bytes);
    if (status == STK_OK)
        status = stk_encoder_open(tokenizer, log, &encoder);
    if (status == STK_OK)
        status = stk_encoder_encode(encoder, input ? input : options->text, len_bytes,
                                    options->flags, &ids, &count);
    if (status == STK_OK) {
        print_tokens(options, tokenizer, ids, count);
        if (fflush(stdout) || ferror(stdout))
            status = stk_fail(log, STK_IO, "standard output: %s", strerror(errno));
    }
    stk_encoder_close(&encoder);
    free(input);
    return status;
}

int stk_cmd_tokenize(int argc, char **argv)
{
    static const struct argp argp = {
        .options = argp_options,
        .parser = parse_option,
        .args_doc = "MODEL [TEXT]",
        .doc = "Shows the tokens of a text, which is read from standard input when not given: one "
               "a line, its id and its text.",
    };
    tokenize_options options = {0};
    const stk_log log = {.write = write_log, .level_max = STK_LOG_WARN};
    argp_err_exit_status = EXIT_USAGE;
    if (argp_parse(&argp, argc, argv, 0, NULL, &options) != 0)
        return EXIT_USAGE;
    stk_gguf *gguf = NULL;
    stk_vocab_source source = {0};
    stk_tokenizer *tokenizer = NULL;
    stk_status status = stk_gguf_open(options.model, &log, &gguf);
    if (status == STK_OK)
        status = stk_vocab_source_from_gguf(gguf, &log, &source);
    if (status == STK_OK)
        status = stk_tokenizer_open(&source, &log, &tokenizer);
    if (status == STK_OK)
        status = tokenize(&options, &log, tokenizer);
    stk_tokenizer_close(&tokenizer);
    stk_vocab_source_free(&source);
    stk_gguf_close(&gguf);
    return status == STK_OK ? EXIT_DONE : EXIT_FAILED;
}
