// Prints docs/configuration.md from the option tables. A test compares, so that it cannot rot.
#include "cli/config_tables.h"

#include "base/size.h"
#include <stdio.h>

static const char head[] =
    "# Device configuration\n"
    "\n"
    "<!-- Written by the target update_docs from the option tables: do not edit. -->\n"
    "\n"
    "`--config FILE` reads options from a YAML file. Flags on the command line win over the file, "
    "the\nfile over the defaults. The keys of a group are written inside it:\n"
    "\n"
    "```yaml\n"
    "cpu:\n"
    "  threads: 4\n"
    "session: {context: 8192, batch: auto}\n"
    "```\n"
    "\n"
    "One file serves every command that runs or plans a model: a key that a command has no use for "
    "is checked and left "
    "alone.\nAn unknown key, a key given twice or a value out of its limits is an error with file, "
    "line and column.\nA file has at most 64 KiB, one document, and no tags of its own; anchors "
    "and "
    "aliases work.\nThe folder `configs/` holds examples.\n";

static void print_number(const stk_option *option, double value)
{
    char text[STK_SIZE_TEXT_BYTES];
    if (option->type == STK_OPTION_SIZE)
        fputs(stk_size_format((uint64_t)value, text), stdout);
    else
        printf("%.9g", value);
}

static void print_values(const stk_option *option)
{
    static const char *const kinds[] = {
        [STK_OPTION_BOOL] = "true or false", [STK_OPTION_U32] = "whole number",
        [STK_OPTION_U64] = "whole number",   [STK_OPTION_SIZE] = "size, as 512MiB",
        [STK_OPTION_F32] = "number",         [STK_OPTION_STRING] = "text",
        [STK_OPTION_ENUM] = "one of",
    };
    fputs(kinds[option->type], stdout);
    for (uint32_t i = 0; option->type == STK_OPTION_ENUM && option->choices[i]; i++)
        printf("%s`%s`", i ? ", " : " ", option->choices[i]);
    if (option->max > 0 || option->min > 0) {
        fputs(option->max > 0 ? ", " : ", at least ", stdout);
        print_number(option, option->min);
        if (option->max > 0) {
            fputs(" to ", stdout);
            print_number(option, option->max);
        }
    }
    if (option->has_auto)
        fputs(", or `auto`", stdout);
}

static void print_table(const stk_option_table *table)
{
    printf("\n## %s\n\n| key | flag | value | default | meaning |\n|---|---|---|---|---|\n",
           table->title);
    for (uint32_t i = 0; i < table->count; i++) {
        const stk_option *option = &table->options[i];
        if (!option->key)
            continue;
        printf("| `%s` | ", option->key);
        if (option->flag)
            printf("`--%s` | ", option->flag);
        else
            fputs("| ", stdout);
        print_values(option);
        const char *fallback = option->type == STK_OPTION_BOOL ? "false" : NULL;
        fallback = option->fallback ? option->fallback : fallback;
        if (fallback)
            printf(" | `%s` | %s |\n", fallback, option->doc);
        else
            printf(" | | %s |\n", option->doc);
    }
}

int main(void)
{
    fputs(head, stdout);
    for (uint32_t t = 0; stk_config_tables[t]; t++)
        print_table(stk_config_tables[t]);
    return fflush(stdout) != 0 || ferror(stdout);
}
