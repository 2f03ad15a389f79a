#include "cli/arguments.h"

#include "base/nearest.h"
#include "cli/commands.h"
#include "cluster/launcher.h"
#include <argp.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { OPTIONS_MAX = 64, DOC_BYTES = 192, KEY_FIRST = 256, KEY_HELP = 'h' };

static const stk_option config_option = {.flag = "config",
                                         .type = STK_OPTION_STRING,
                                         .unit = "FILE",
                                         .doc = "take options from a YAML file; flags win"};

typedef struct parse {
    const stk_arguments *arguments;
    const char *name;
    struct argp_option options[OPTIONS_MAX]; // ends with a zero
    const stk_option *source[OPTIONS_MAX];   // NULL: a heading or --help
    void *target[OPTIONS_MAX];
    const char *given[OPTIONS_MAX]; // the flags so far: they win over a file that comes later
    const char *config_path;
    char docs[OPTIONS_MAX][DOC_BYTES];
    uint32_t option_count, positional_count;
    bool wants_help, is_reported;
} parse;

static error_t mistake(parse *p, const char *fmt, ...) STK_PRINTF(2, 3);
static error_t mistake(parse *p, const char *fmt, ...)
{
    if (!p->is_reported && !stk_launch_is_mute()) {
        va_list args;
        va_start(args, fmt);
        fprintf(stderr, "%s: ", p->name);
        vfprintf(stderr, fmt, args);
        fprintf(stderr, "\nTry '%s --help'.\n", p->name);
        va_end(args);
    }
    p->is_reported = true;
    return EINVAL;
}

int stk_arguments_misused(const char *name, const char *message)
{
    mistake(&(parse){.name = name}, "%s", message);
    return STK_EXIT_USAGE;
}

static void add_heading(parse *p, const char *title, int group)
{
    struct argp_option *o = &p->options[p->option_count++];
    *o = (struct argp_option){.doc = p->docs[o - p->options], .group = group};
    snprintf(p->docs[o - p->options], DOC_BYTES, "%s:", title);
}

static void add_option(parse *p, const stk_option *option, void *target, int group)
{
    uint32_t i = p->option_count++;
    stk_option_describe(option, p->docs[i], DOC_BYTES);
    p->source[i] = option;
    p->target[i] = target;
    p->options[i] = (struct argp_option){
        .name = option->flag,
        .key = option->letter ? option->letter : (int)(KEY_FIRST + i),
        .arg = option->type == STK_OPTION_BOOL ? NULL
               : option->unit                  ? option->unit
                                               : "VALUE",
        .doc = p->docs[i],
        .group = group,
    };
}

static void build_options(parse *p)
{
    int group = 1;
    for (uint32_t b = 0; b < p->arguments->binding_count; b++, group++) {
        const stk_option_binding *binding = &p->arguments->bindings[b];
        if (p->option_count + binding->table->count + 4 > OPTIONS_MAX)
            abort(); // a programmer's mistake: raise OPTIONS_MAX
        add_heading(p, binding->table->title, group);
        for (uint32_t i = 0; i < binding->table->count; i++)
            if (binding->table->options[i].flag)
                add_option(p, &binding->table->options[i], binding->target, group);
    }
    if (p->arguments->config)
        add_option(p, &config_option, &p->config_path, group - 1);
    p->options[p->option_count++] = (struct argp_option){
        .name = "help", .key = KEY_HELP, .doc = "print this and exit", .group = group - 1};
}

static int32_t find_option(const parse *p, int key)
{
    for (uint32_t i = 0; i < p->option_count; i++)
        if (p->source[i] && p->options[i].key == key)
            return (int32_t)i;
    return -1;
}

// getopt only says that something was wrong with a flag; this finds out what.
static error_t explain_long(parse *p, const char *arg)
{
    char typed[64];
    snprintf(typed, sizeof typed, "%.*s", (int)strcspn(arg + 2, "="), arg + 2);
    size_t length = strlen(typed), matches = 0;
    const struct argp_option *match = NULL;
    for (uint32_t i = 0; i < p->option_count; i++) {
        const struct argp_option *o = &p->options[i];
        if (!o->name || strncmp(o->name, typed, length) != 0)
            continue;
        match = o;
        matches++;
        if (o->name[length] == '\0') {
            matches = 1;
            break;
        }
    }
    if (matches > 1)
        return mistake(p, "--%s could be several options; write more of it", typed);
    if (matches == 1 && match->arg)
        return mistake(p, "--%s needs a value: --%s=%s", match->name, match->name, match->arg);
    if (matches == 1)
        return mistake(p, "--%s takes no value", match->name);
    const char *nearest = stk_options_nearest(p->arguments->bindings, p->arguments->binding_count,
                                              typed, false);
    if (nearest)
        return mistake(p, "there is no option --%s, did you mean --%s?", typed, nearest);
    return mistake(p, "there is no option --%s", typed);
}

static error_t explain_short(parse *p, const char *arg)
{
    for (const char *letter = arg + 1; *letter; letter++) {
        int32_t i = find_option(p, *letter);
        if (i < 0 && *letter != KEY_HELP)
            return mistake(p, "there is no option -%c", *letter);
        if (i >= 0 && p->options[i].arg)
            return mistake(p, "-%c needs a value: -%c %s", *letter, *letter, p->options[i].arg);
    }
    return mistake(p, "%s is not understood", arg);
}

static error_t explain(parse *p, const struct argp_state *state)
{
    if (p->is_reported)
        return 0;
    // getopt has stepped over a long flag, but stays on a group of letters until its last one.
    const char *last = state->next > 0 ? state->argv[state->next - 1] : "";
    if (strncmp(last, "--", 2) == 0 && last[2])
        return explain_long(p, last);
    if (last[0] != '-' && state->next < state->argc)
        last = state->argv[state->next];
    return last[0] == '-' ? explain_short(p, last) : mistake(p, "'%s' is not understood", last);
}

static void report_config(void *user, stk_log_level level, const char *line)
{
    if (level == STK_LOG_ERROR)
        mistake(user, "%s", line);
}

const stk_argument_origin *stk_argument_origin_of(const stk_argument_origins *origins,
                                                  const char *flag)
{
    for (uint32_t i = 0; i < origins->count; i++)
        if (origins->items[i].option->flag && strcmp(origins->items[i].option->flag, flag) == 0)
            return &origins->items[i];
    return NULL;
}

static void note_origin(parse *p, const stk_option *option, size_t config_line)
{
    stk_argument_origins *o = p->arguments->origins;
    uint32_t i = 0;
    while (o && i < o->count && o->items[i].option != option)
        i++;
    if (!o || i == STK_ARGUMENT_ORIGINS_MAX || (i < o->count && config_line))
        return; // flags win
    o->items[i] = (stk_argument_origin){option, config_line == 0, config_line};
    o->count += i == o->count;
}

static void note_config(void *user, const stk_option *option, size_t line)
{
    note_origin(user, option, line);
}

// Fills what the file names, then puts the flags before it in force again.
static error_t load_config(parse *p)
{
    const stk_arguments *a = p->arguments;
    const stk_log log = {.write = report_config, .user = p, .level_max = STK_LOG_WARN};
    const stk_config_options options = {a->bindings, a->binding_count, a->config_tables,
                                        note_config, p};
    char error[STK_OPTION_ERROR_BYTES];
    if (*a->config)
        return mistake(p, "--config can be given only once");
    if (stk_config_open(p->config_path, &options, &log, a->config) != STK_OK)
        return EINVAL;
    if (a->origins)
        a->origins->config_path = p->config_path;
    for (uint32_t i = 0; i < p->option_count; i++)
        if (p->given[i] &&
            stk_option_parse(p->source[i], p->given[i], p->target[i], error) != STK_OK)
            abort(); // it was right a moment ago
    return 0;
}

static error_t on_key(int key, char *value, struct argp_state *state)
{
    parse *p = state->input;
    const stk_arguments *a = p->arguments;
    switch (key) {
    case KEY_HELP:
        p->wants_help = true;
        state->next = state->argc; // whatever else is wrong does not matter
        return 0;
    case ARGP_KEY_ARG:
        if (p->positional_count == a->positional_max)
            return mistake(p, "'%s' is one argument too many", value);
        a->positionals[p->positional_count++] = value;
        return 0;
    case ARGP_KEY_END:
        if (p->positional_count < a->positional_min && !p->wants_help)
            return mistake(p, "missing argument: %s %s", p->name, a->positional_doc);
        return 0;
    case ARGP_KEY_ERROR:
        return explain(p, state);
    }
    int32_t i = find_option(p, key);
    if (i < 0)
        return ARGP_ERR_UNKNOWN;
    char error[STK_OPTION_ERROR_BYTES];
    p->given[i] = value ? value : "true";
    if (stk_option_parse(p->source[i], p->given[i], p->target[i], error) != STK_OK)
        return mistake(p, "--%s: %s", p->source[i]->flag, error);
    note_origin(p, p->source[i], 0);
    return p->source[i] == &config_option ? load_config(p) : 0;
}

bool stk_arguments_parse(const stk_arguments *arguments, int argc, char **argv, int *exit_code)
{
    bool go_on = false;
    parse *p = calloc(1, sizeof *p);
    *exit_code = STK_EXIT_FAILED;
    if (!p) {
        fprintf(stderr, "%s: out of memory\n", argv[0]);
        return false;
    }
    p->arguments = arguments;
    p->name = argv[0];
    if (arguments->config)
        *arguments->config = NULL;
    if (arguments->origins)
        *arguments->origins = (stk_argument_origins){0};
    for (uint32_t b = 0; b < arguments->binding_count; b++)
        stk_options_set_defaults(arguments->bindings[b].table, arguments->bindings[b].target);
    for (uint32_t i = 0; i < arguments->positional_max; i++)
        arguments->positionals[i] = NULL;
    build_options(p);

    const struct argp argp = {p->options, on_key, arguments->positional_doc, arguments->doc, NULL,
                              NULL,       NULL};
    error_t failed = argp_parse(&argp, argc, argv, ARGP_NO_ERRS | ARGP_NO_EXIT | ARGP_NO_HELP, NULL,
                                p);
    if (p->wants_help && !p->is_reported) {
        argp_help(&argp, stdout, ARGP_HELP_SHORT_USAGE | ARGP_HELP_PRE_DOC | ARGP_HELP_LONG,
                  argv[0]);
        *exit_code = STK_EXIT_DONE;
    } else if (failed) {
        if (!p->is_reported)
            mistake(p, "%s", strerror(failed));
        *exit_code = STK_EXIT_USAGE;
    } else {
        go_on = true;
    }
    if (!go_on && arguments->config)
        stk_config_close(arguments->config);
    free(p);
    return go_on;
}
