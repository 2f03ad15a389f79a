// base/options.h: option tables: one line per option gives its flag, its YAML key and its docs.
//
// A module that has options declares a table over its options struct. The table is data; this
// file turns text into the struct's fields and says precisely what is wrong with a bad value.
// It does not know where text comes from: flags (cli/arguments.h) and YAML keys both end here.
// Invariant: a field is written only with a value inside its option's limits.
#ifndef STK_BASE_OPTIONS_H
#define STK_BASE_OPTIONS_H

#include "base/status.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum stk_option_type { // the type of the field at `offset`
    STK_OPTION_BOOL,           // bool; as a flag it takes no value
    STK_OPTION_U32,            // uint32_t
    STK_OPTION_U64,            // uint64_t
    STK_OPTION_SIZE,           // uint64_t bytes, text as in base/size.h
    STK_OPTION_F32,            // float
    STK_OPTION_F64,            // double
    STK_OPTION_STRING,         // const char *, borrowed: points at the text given
    STK_OPTION_ENUM,           // uint32_t, index into choices
} stk_option_type;

typedef struct stk_option {
    const char *key;  // YAML path, "cpu.threads"; NULL: not a matter of configuration
    const char *flag; // "threads" for --threads; NULL: no flag
    char letter;      // 't' for -t, or 0
    stk_option_type type;
    bool has_auto;              // "auto" is allowed and stores the next, outside any limit
    uint64_t auto_value;        // of whole numbers, as wide as the field; others store 0 or NULL
    double min, max;            // of numbers and sizes; max 0: what the type holds
    const char *unit;           // what a value is, "TOKENS"; shown as --ctx=TOKENS
    const char *const *choices; // of an enum, NULL-terminated
    const char *fallback;       // the default as text; NULL: the field stays zero
    const char *doc;            // one phrase, lowercase, no full stop
    size_t offset;              // offsetof(options struct, field)
} stk_option;

typedef struct stk_option_table {
    const char *title; // heading in --help, "Sampling"
    const stk_option *options;
    uint32_t count;
} stk_option_table;

// A table and the struct its offsets are for.
typedef struct stk_option_binding {
    const stk_option_table *table;
    void *target;
} stk_option_binding;

enum { STK_OPTION_ERROR_BYTES = 256 };

// Sets the field of `option` in *target from text. STK_INVALID: the field keeps its value and
// error[STK_OPTION_ERROR_BYTES] holds a phrase that completes "--temp: ", for example
// "'hot' is not a number from 0 to 100".
STK_CHECKED stk_status stk_option_parse(const stk_option *option, const char *text, void *target,
                                        char *error);

// Sets every field that has a default. Asserts that the table's own defaults are valid.
void stk_options_set_defaults(const stk_option_table *table, void *target);

// Writes the doc with limits and default ("sampling temperature, 0 is greedy (0 to 100, default
// 0.8)") to text[size] and returns the length it needs without the NUL, as snprintf.
int stk_option_describe(const stk_option *option, char *text, size_t size);

// The option with that YAML key, or NULL.
const stk_option *stk_options_find_key(const stk_option_table *table, const char *key);

// The flag (or, with keys, the YAML key) most like `typed` in all bindings, for "did you mean";
// NULL when none is near.
const char *stk_options_nearest(const stk_option_binding *bindings, uint32_t count,
                                const char *typed, bool keys);

#endif
