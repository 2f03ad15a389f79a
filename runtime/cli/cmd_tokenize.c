// cli/cmd_tokenize.c: stoker tokenize, the tokens of a text.
//
// Reads only the header of the model.
#include "base/utf8.h"
#include "cli/arguments.h"
#include "cli/commands.h"
#include "cli/console.h"
#include "cli/interrupt.h"
#include "cli/read_text.h"
#include "model/gguf.h"
#include "model/tokenizer.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

typedef struct tokenize_options {
    bool ids, json, has_special, has_bos;
} tokenize_options;

#define FLAG(text, field, what)                                                                    \
    {                                                                                              \
        .flag = text, .type = STK_OPTION_BOOL, .doc = what,                                        \
        .offset = offsetof(tokenize_options, field)                                                \
    }
static const stk_option tokenize_table_options[] = {
    FLAG("ids", ids, "print the ids on one line"),
    FLAG("json", json, "print a JSON list"),
    FLAG("special", has_special, "control tokens written in the text count as such"),
    FLAG("bos", has_bos, "begin with the model's beginning-of-text token if it wants one"),
};
static const stk_option_table tokenize_table = {"Tokens", tokenize_table_options,
                                                sizeof tokenize_table_options /
                                                    sizeof *tokenize_table_options};

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
    for (size_t i = 0; i < count && !ferror(stdout); ++i) { // main reports it
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

// The text as given or, without one, standard input, which the caller frees as *owned.
static stk_status take_text(const char *given, const stk_log *log, stk_str *text, char **owned)
{
    if (given) {
        *text = stk_str_of(given);
        return STK_OK;
    }
    stk_status status = stk_text_read("-", log, text);
    if (status == STK_OK)
        *owned = (char *)text->data;
    return status;
}

static stk_status tokenize(const tokenize_options *options, const stk_log *log,
                           const stk_tokenizer *tokenizer, const char *given)
{
    unsigned flags = (options->has_special ? STK_ENCODE_SPECIAL : 0u) |
                     (options->has_bos ? STK_ENCODE_BOS : 0u);
    char *owned = NULL;
    stk_str text;
    size_t count = 0;
    const int32_t *ids = NULL;
    stk_encoder *encoder = NULL;
    stk_status status = take_text(given, log, &text, &owned);
    if (status == STK_OK)
        status = stk_encoder_open(tokenizer, log, &encoder);
    if (status == STK_OK)
        status = stk_encoder_encode(encoder, text.data, text.len_bytes, flags, &ids, &count);
    if (status == STK_OK)
        print_tokens(options, tokenizer, ids, count);
    stk_encoder_close(&encoder);
    free(owned);
    return status;
}

int stk_cmd_tokenize(int argc, char **argv)
{
    tokenize_options options = {0};
    stk_console_options messages = {0};
    const char *positionals[2]; // MODEL, TEXT
    const stk_option_binding bindings[] = {
        {&tokenize_table, &options},
        {&stk_console_option_table, &messages},
    };
    const stk_arguments arguments = {
        .positional_doc = "MODEL [TEXT]",
        .doc = "Shows the tokens of a text, one a line: its id and its text.\vWithout TEXT it is "
               "read from standard input.",
        .bindings = bindings,
        .binding_count = sizeof bindings / sizeof *bindings,
        .positional_min = 1,
        .positional_max = 2,
        .positionals = positionals,
    };
    int exit_code;
    if (!stk_arguments_parse(&arguments, argc, argv, &exit_code))
        return exit_code;
    if (options.ids && options.json)
        return stk_arguments_misused(argv[0], "--ids and --json exclude each other");
    stk_interrupt_end_at_once();
    stk_console console;
    stk_console_open(&messages, &console);
    stk_gguf *gguf = NULL;
    stk_vocab_source source = {0};
    stk_tokenizer *tokenizer = NULL;
    stk_status status = stk_gguf_open(positionals[0], &console.log, &gguf);
    if (status == STK_OK)
        status = stk_vocab_source_from_gguf(gguf, &console.log, &source);
    if (status == STK_OK)
        status = stk_tokenizer_open(&source, &console.log, &tokenizer);
    if (status == STK_OK)
        status = tokenize(&options, &console.log, tokenizer, positionals[1]);
    stk_tokenizer_close(&tokenizer);
    stk_vocab_source_free(&source);
    stk_gguf_close(&gguf);
    stk_console_close(&console);
    return stk_exit_code(status);
}
