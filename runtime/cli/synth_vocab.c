#include "cli/synth_vocab.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

enum { MERGES_BYTES_MAX = 1 << 28 };

static stk_status take_token(const char *path, const stk_log *log, const char *token, json_t *id,
                             stk_synth_vocab *v)
{
    json_int_t i = json_is_integer(id) ? json_integer_value(id) : -1;
    if (i < 0 || i >= (json_int_t)v->token_count) {
        return stk_fail(log, STK_FORMAT, "%s: token '%.60s': its id is not in 0..%" PRIu32, path,
                        token, v->token_count - 1);
    }
    if (v->tokens[i].data) {
        return stk_fail(log, STK_FORMAT, "%s: tokens '%.60s' and '%.60s' have the same id", path,
                        v->tokens[i].data, token);
    }
    v->tokens[i] = stk_str_of(token);
    return STK_OK;
}

static stk_status read_tokens(const char *path, const stk_log *log, stk_synth_vocab *v)
{
    json_error_t error;
    json_t *json = json_load_file(path, JSON_REJECT_DUPLICATES, &error);
    v->json = json;
    if (!json) {
        return stk_fail(log, error.line < 0 ? STK_IO : STK_FORMAT, "%s:%d:%d: %s", path, error.line,
                        error.column, error.text);
    }
    if (!json_is_object(json) || json_object_size(json) == 0 || json_object_size(json) > 1 << 24)
        return stk_fail(log, STK_FORMAT, "%s: not an object from token to id", path);
    v->token_count = (uint32_t)json_object_size(json);
    v->tokens = calloc(v->token_count, sizeof *v->tokens);
    if (!v->tokens)
        return stk_fail(log, STK_NO_MEMORY, "%s: no memory for its tokens", path);
    const char *token;
    json_t *id;
    stk_status status = STK_OK;
    json_object_foreach(json, token, id)
    {
        if (status == STK_OK)
            status = take_token(path, log, token, id, v);
    }
    return status;
}

static stk_status read_text(const char *path, const stk_log *log, char **out, size_t *out_size)
{
    FILE *file = fopen(path, "rb");
    if (!file)
        return stk_fail(log, STK_IO, "%s: cannot open: %s", path, strerror(errno));
    stk_status status = STK_OK;
    long size = fseek(file, 0, SEEK_END) == 0 ? ftell(file) : -1;
    char *text = NULL;
    if (size < 0 || size > MERGES_BYTES_MAX || fseek(file, 0, SEEK_SET) != 0)
        status = stk_fail(log, STK_IO, "%s: not a text file of a sane size", path);
    else if (!(text = malloc((size_t)size + 1)))
        status = stk_fail(log, STK_NO_MEMORY, "%s: no memory for %ld bytes", path, size);
    else if (fread(text, 1, (size_t)size, file) != (size_t)size)
        status = stk_fail(log, STK_IO, "%s: cannot read: %s", path, strerror(errno));
    fclose(file);
    if (status != STK_OK) {
        free(text);
        return status;
    }
    *out = text;
    *out_size = (size_t)size;
    return STK_OK;
}

static stk_status read_merges(const char *path, const stk_log *log, stk_synth_vocab *v)
{
    size_t size = 0, lines = 1;
    stk_status status = read_text(path, log, &v->merges_text, &size);
    if (status != STK_OK)
        return status;
    for (size_t i = 0; i < size; i++)
        lines += v->merges_text[i] == '\n';
    v->merges = malloc(lines * sizeof *v->merges);
    if (!v->merges)
        return stk_fail(log, STK_NO_MEMORY, "%s: no memory for its lines", path);
    const char *end = v->merges_text + size;
    for (const char *line = v->merges_text, *next; line < end; line = next + 1) {
        next = memchr(line, '\n', (size_t)(end - line));
        if (!next)
            next = end;
        stk_str text = {line, (size_t)(next - line)};
        bool is_version = text.len_bytes >= 8 && memcmp(line, "#version", 8) == 0;
        if (text.len_bytes && !is_version)
            v->merges[v->merge_count++] = text;
    }
    return STK_OK;
}

stk_status stk_synth_vocab_read(const char *folder, const stk_log *log, stk_synth_vocab *out)
{
    stk_synth_vocab v = {0};
    char *vocab = NULL, *merges = NULL;
    stk_status status;
    if (asprintf(&vocab, "%s/vocab.json", folder) < 0 ||
        asprintf(&merges, "%s/merges.txt", folder) < 0) {
        status = stk_fail(log, STK_NO_MEMORY, "%s: no memory for its path", folder);
    } else {
        status = read_tokens(vocab, log, &v);
        if (status == STK_OK)
            status = read_merges(merges, log, &v);
    }
    free(vocab);
    free(merges);
    if (status == STK_OK)
        *out = v;
    else
        stk_synth_vocab_free(&v);
    return status;
}

void stk_synth_vocab_free(stk_synth_vocab *vocab)
{
    free(vocab->tokens);
    free(vocab->merges);
    free(vocab->merges_text);
    json_decref(vocab->json);
    *vocab = (stk_synth_vocab){0};
}
