#include "base/config.h"

#include "base/nearest.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

enum { KEY_BYTES = 128, OPTIONS_MAX = 512, BRACKETS_MAX = 512 };

struct stk_config {
    yaml_document_t document; // its scalars are the values of string options
};

// A reading in progress.
typedef struct reader {
    const char *name;
    yaml_document_t *document;
    const stk_config_options *options;
    const stk_log *log;
    const stk_option *seen[OPTIONS_MAX]; // options that have a value already
    uint32_t seen_count;
} reader;

static stk_status refuse(const reader *r, yaml_mark_t at, const char *fmt, ...) STK_PRINTF(3, 4);
static stk_status refuse(const reader *r, yaml_mark_t at, const char *fmt, ...)
{
    char text[2 * STK_OPTION_ERROR_BYTES];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    return stk_fail(r->log, STK_INVALID, "%s:%zu:%zu: %s", r->name, at.line + 1, at.column + 1,
                    text);
}

// --- keys among bindings and known tables

// The option of the known tables with this key: what a file may say, also to a command whose own
// option of that key takes more.
static const stk_option *find_known(const reader *r, const char *key)
{
    const stk_option *option = NULL;
    for (uint32_t t = 0; r->options->known && r->options->known[t] && !option; t++)
        option = stk_options_find_key(r->options->known[t], key);
    return option;
}

static const stk_option *find(const reader *r, const char *key, void **target)
{
    const stk_config_options *o = r->options;
    const stk_option *option = NULL;
    *target = NULL;
    for (uint32_t b = 0; b < o->binding_count && !option; b++) {
        option = stk_options_find_key(o->bindings[b].table, key);
        *target = o->bindings[b].target;
    }
    if (!option) {
        option = find_known(r, key);
        *target = NULL;
    }
    return option;
}

static bool table_has_group(const stk_option_table *table, const char *group)
{
    size_t length = strlen(group);
    for (uint32_t i = 0; i < table->count; i++) {
        const char *key = table->options[i].key;
        if (key && strncmp(key, group, length) == 0 && key[length] == '.')
            return true;
    }
    return false;
}

static bool has_group(const reader *r, const char *group)
{
    const stk_config_options *o = r->options;
    for (uint32_t b = 0; b < o->binding_count; b++)
        if (table_has_group(o->bindings[b].table, group))
            return true;
    for (uint32_t t = 0; o->known && o->known[t]; t++)
        if (table_has_group(o->known[t], group))
            return true;
    return false;
}

static const char *nearest(const reader *r, const char *key)
{
    const stk_config_options *o = r->options;
    const char *best = stk_options_nearest(o->bindings, o->binding_count, key, true);
    for (uint32_t t = 0; o->known && o->known[t]; t++) {
        const stk_option_binding one = {o->known[t], NULL};
        const char *other = stk_options_nearest(&one, 1, key, true);
        if (other && (!best || stk_name_distance(key, other) < stk_name_distance(key, best)))
            best = other;
    }
    return best;
}

static stk_status refuse_key(const reader *r, yaml_mark_t at, const char *key)
{
    const char *near = nearest(r, key);
    if (near)
        return refuse(r, at, "there is no key '%s', did you mean '%s'?", key, near);
    return refuse(r, at, "there is no key '%s'", key);
}

// --- values

static bool is_nothing(const yaml_node_t *node, const char *text)
{
    return node->data.scalar.style == YAML_PLAIN_SCALAR_STYLE &&
           (!*text || strcmp(text, "~") == 0 || strcmp(text, "null") == 0);
}

// A scalar's text. Tags other than YAML's own ask for something that is not done here.
static stk_status scalar_text(const reader *r, const yaml_node_t *node, const char **out)
{
    static const char yaml_tags[] = "tag:yaml.org,2002:";
    const char *text = (const char *)node->data.scalar.value;
    if (strlen(text) != node->data.scalar.length)
        return refuse(r, node->start_mark, "the text contains a zero byte");
    if (node->tag && strncmp((const char *)node->tag, yaml_tags, sizeof yaml_tags - 1) != 0)
        return refuse(r, node->start_mark, "the tag %.64s is not known", (const char *)node->tag);
    *out = text;
    return STK_OK;
}

static stk_status set_value(reader *r, const stk_option *option, void *target,
                            const yaml_node_t *node, yaml_mark_t key_mark)
{
    const char *text;
    char error[STK_OPTION_ERROR_BYTES];
    if (node->type != YAML_SCALAR_NODE)
        return refuse(r, node->start_mark, "'%s' takes one value, not a %s", option->key,
                      node->type == YAML_SEQUENCE_NODE ? "list" : "group of keys");
    for (uint32_t i = 0; i < r->seen_count; i++)
        if (r->seen[i] == option)
            return refuse(r, key_mark, "'%s' is given twice", option->key);
    if (r->seen_count == OPTIONS_MAX)
        return refuse(r, key_mark, "more than %d keys", OPTIONS_MAX);
    r->seen[r->seen_count++] = option;
    stk_status status = scalar_text(r, node, &text);
    if (status != STK_OK)
        return status;
    if (is_nothing(node, text))
        return refuse(r, node->start_mark, "'%s' has no value", option->key);
    uint64_t dropped[2]; // any field fits, at offset 0
    const stk_option *known = find_known(r, option->key);
    stk_option check = known ? *known : *option;
    check.offset = 0;
    if (stk_option_parse(&check, text, dropped, error) != STK_OK ||
        (target && stk_option_parse(option, text, target, error) != STK_OK))
        return refuse(r, node->start_mark, "%s: %s", option->key, error);
    if (r->options->on_value)
        r->options->on_value(r->options->user, option, node->start_mark.line + 1);
    return STK_OK;
}

// --- mappings

static stk_status refuse_repeated(const reader *r, const yaml_node_t *mapping)
{
    const yaml_node_pair_t *pairs = mapping->data.mapping.pairs.start;
    size_t count = (size_t)(mapping->data.mapping.pairs.top - pairs);
    if (count > STK_CONFIG_KEYS_MAX)
        return refuse(r, mapping->start_mark, "more than %d keys in one group",
                      STK_CONFIG_KEYS_MAX);
    for (size_t i = 0; i < count; i++) {
        const yaml_node_t *a = yaml_document_get_node(r->document, pairs[i].key);
        if (!a || a->type != YAML_SCALAR_NODE)
            return refuse(r, a ? a->start_mark : mapping->start_mark,
                          "a key has to be a single word");
        for (size_t j = 0; j < i; j++) {
            const yaml_node_t *b = yaml_document_get_node(r->document, pairs[j].key);
            if (strcmp((const char *)a->data.scalar.value, (const char *)b->data.scalar.value) == 0)
                return refuse(r, a->start_mark, "'%.64s' is given twice",
                              (const char *)a->data.scalar.value);
        }
    }
    return STK_OK;
}

// What a key and its value say. `unknown_at`: where the enclosing groups stopped being known, or
// NULL. *group: the value is a group of keys, to be descended into.
static stk_status take_pair(reader *r, const char *key, const yaml_node_t *key_node,
                            const yaml_node_t *value, const yaml_mark_t *unknown_at, bool *group)
{
    void *target;
    const stk_option *option = find(r, key, &target);
    *group = false;
    if (option)
        return set_value(r, option, target, value, key_node->start_mark);
    if (value->type == YAML_MAPPING_NODE &&
        value->data.mapping.pairs.start != value->data.mapping.pairs.top) {
        *group = true; // what is inside gives the better hint
        return STK_OK;
    }
    if (has_group(r, key) && value->type == YAML_MAPPING_NODE)
        return STK_OK; // an empty group
    if (has_group(r, key) && value->type == YAML_SCALAR_NODE &&
        is_nothing(value, (const char *)value->data.scalar.value))
        return STK_OK; // the same, with its keys commented out
    if (has_group(r, key))
        return refuse(r, value->start_mark, "'%s' is a group of keys, not a value", key);
    return refuse_key(r, unknown_at ? *unknown_at : key_node->start_mark, key);
}

// Recursion is bounded by STK_CONFIG_DEPTH_MAX; an alias that contains itself ends there, too.
static stk_status take_mapping(reader *r, const yaml_node_t *mapping, const char *prefix,
                               uint32_t depth, const yaml_mark_t *unknown_at)
{
    if (depth > STK_CONFIG_DEPTH_MAX)
        return refuse(r, mapping->start_mark, "more than %d groups inside each other",
                      STK_CONFIG_DEPTH_MAX);
    stk_status status = refuse_repeated(r, mapping);
    for (yaml_node_pair_t *pair = mapping->data.mapping.pairs.start;
         status == STK_OK && pair < mapping->data.mapping.pairs.top; pair++) {
        const yaml_node_t *key_node = yaml_document_get_node(r->document, pair->key);
        const yaml_node_t *value = yaml_document_get_node(r->document, pair->value);
        const char *word;
        char key[KEY_BYTES];
        bool is_group;
        status = scalar_text(r, key_node, &word);
        if (status != STK_OK)
            return status;
        int length = snprintf(key, sizeof key, "%s%s%s", prefix, *prefix ? "." : "", word);
        if (length < 0 || (size_t)length >= sizeof key)
            return refuse(r, key_node->start_mark, "there is no key '%.32s...'", key);
        status = take_pair(r, key, key_node, value, unknown_at, &is_group);
        if (status != STK_OK || !is_group)
            continue;
        const yaml_mark_t *at = unknown_at || has_group(r, key) ? unknown_at
                                                                : &key_node->start_mark;
        status = take_mapping(r, value, key, depth + 1, at);
    }
    return status;
}

// --- the file

static stk_status refuse_yaml(const char *name, const yaml_parser_t *parser, const stk_log *log)
{
    const char *problem = parser->problem ? parser->problem : "not YAML";
    if (parser->error == YAML_MEMORY_ERROR)
        return stk_fail(log, STK_NO_MEMORY, "%s: no memory for it", name);
    if (parser->error == YAML_READER_ERROR)
        return stk_fail(log, STK_FORMAT, "%s: byte %zu: %s", name, parser->problem_offset, problem);
    return stk_fail(log, STK_FORMAT, "%s:%zu:%zu: %s%s%s", name, parser->problem_mark.line + 1,
                    parser->problem_mark.column + 1, problem, parser->context ? " " : "",
                    parser->context ? parser->context : "");
}

// Loads the only document of the text.
static stk_status load(const char *name, yaml_parser_t *parser, const stk_log *log,
                       yaml_document_t *out)
{
    yaml_document_t second;
    if (!yaml_parser_load(parser, out))
        return refuse_yaml(name, parser, log);
    if (!yaml_document_get_root_node(out)) // nothing at all: there is no second one
        return STK_OK;
    if (!yaml_parser_load(parser, &second)) {
        stk_status status = refuse_yaml(name, parser, log);
        yaml_document_delete(out);
        return status;
    }
    const yaml_node_t *root = yaml_document_get_root_node(&second);
    stk_status status = STK_OK;
    if (root)
        status = stk_fail(log, STK_FORMAT, "%s:%zu:%zu: a second document begins here", name,
                          root->start_mark.line + 1, root->start_mark.column + 1);
    yaml_document_delete(&second);
    if (status != STK_OK)
        yaml_document_delete(out);
    return status;
}

static stk_status take_document(const char *name, yaml_document_t *document,
                                const stk_config_options *options, const stk_log *log)
{
    reader r = {.name = name, .document = document, .options = options, .log = log};
    const yaml_node_t *root = yaml_document_get_root_node(document);
    if (!root ||
        (root->type == YAML_SCALAR_NODE && is_nothing(root, (const char *)root->data.scalar.value)))
        return STK_OK; // only comments
    if (root->type != YAML_MAPPING_NODE)
        return refuse(&r, root->start_mark, "keys and values are expected");
    return take_mapping(&r, root, "", 1, NULL);
}

// libyaml takes time with the square of the depth of brackets: 10 s for 64 KiB of '['.
static bool has_many_brackets(const char *text, size_t size_bytes)
{
    uint32_t count = 0;
    for (size_t i = 0; i < size_bytes; i++)
        count += text[i] == '[' || text[i] == '{';
    return count > BRACKETS_MAX;
}

stk_status stk_config_parse(const char *name, const char *text, size_t size_bytes,
                            const stk_config_options *options, const stk_log *log, stk_config **out)
{
    yaml_parser_t parser;
    if (size_bytes > STK_CONFIG_BYTES_MAX)
        return stk_fail(log, STK_FORMAT, "%s: more than %d bytes", name, STK_CONFIG_BYTES_MAX);
    if (has_many_brackets(text, size_bytes))
        return stk_fail(log, STK_FORMAT, "%s: more than %d brackets", name, BRACKETS_MAX);
    stk_config *config = calloc(1, sizeof *config);
    if (!config || !yaml_parser_initialize(&parser)) {
        free(config);
        return stk_fail(log, STK_NO_MEMORY, "%s: no memory for it", name);
    }
    yaml_parser_set_input_string(&parser, (const unsigned char *)text, size_bytes);
    stk_status status = load(name, &parser, log, &config->document);
    yaml_parser_delete(&parser);
    if (status != STK_OK) {
        free(config);
        return status;
    }
    status = take_document(name, &config->document, options, log);
    if (status == STK_OK)
        *out = config;
    else
        stk_config_close(&config);
    return status;
}

stk_status stk_config_open(const char *path, const stk_config_options *options, const stk_log *log,
                           stk_config **out)
{
    char *text = malloc(STK_CONFIG_BYTES_MAX + 1);
    FILE *file = text ? fopen(path, "re") : NULL;
    stk_status status;
    if (!text) {
        status = stk_fail(log, STK_NO_MEMORY, "%s: no memory for it", path);
    } else if (!file) {
        status = stk_fail(log, STK_IO, "%s: %s", path, strerror(errno));
    } else {
        errno = 0;
        size_t size = fread(text, 1, STK_CONFIG_BYTES_MAX + 1, file);
        status = ferror(file) ? stk_fail(log, STK_IO, "%s: %s", path, strerror(errno))
                              : stk_config_parse(path, text, size, options, log, out);
    }
    if (file)
        fclose(file);
    free(text);
    return status;
}

void stk_config_close(stk_config **config)
{
    if (!*config)
        return;
    yaml_document_delete(&(*config)->document);
    free(*config);
    *config = NULL;
}
