// base/config.h: a YAML file into the structs of option tables.
//
// Nested mappings spell a key: `cpu: {threads: 4}` is the option with the key "cpu.threads". Owns
// the document, because string options point into it. Knows no option by name, and yaml.h stays
// in config.c. Every mistake is logged as FILE:LINE:COLUMN: what is wrong, and the nearest key.
// The file may be hostile: its size, depth and number of keys are bounded.
#ifndef STK_BASE_CONFIG_H
#define STK_BASE_CONFIG_H

#include "base/log.h"
#include "base/options.h"
#include <stddef.h>

enum {
    STK_CONFIG_BYTES_MAX = 64 << 10,
    STK_CONFIG_DEPTH_MAX = 8,
    STK_CONFIG_KEYS_MAX = 256, // in one mapping
};

// Thread-safety: immutable once open.
typedef struct stk_config stk_config;

typedef struct stk_config_options {
    const stk_option_binding *bindings; // what to fill; borrowed for the call
    uint32_t binding_count;
    // Tables whose keys are right, too, but not used here: their values are checked and dropped,
    // so that one file serves several commands. A table may be in both lists.
    const stk_option_table *const *known; // NULL-terminated, or NULL
    // Told of every value that was set, with its line (from 1); NULL: nobody asks.
    void (*on_value)(void *user, const stk_option *option, size_t line);
    void *user;
} stk_config_options;

// Reads the file and sets the fields whose keys are in it; the others keep their values. *out is
// written only on STK_OK; until it is closed, string options may point into it. On failure some
// fields may have been set, and those of type string must not be used.
// STK_IO: it cannot be read; STK_FORMAT: not YAML, or more than the limits; STK_INVALID: a key or
// value is wrong; STK_NO_MEMORY.
STK_CHECKED stk_status stk_config_open(const char *path, const stk_config_options *options,
                                       const stk_log *log, stk_config **out);

// The same for text[size_bytes]; `name` stands for the file in messages.
STK_CHECKED stk_status stk_config_parse(const char *name, const char *text, size_t size_bytes,
                                        const stk_config_options *options, const stk_log *log,
                                        stk_config **out);

void stk_config_close(stk_config **config); // sets it to NULL; NULL is allowed

#endif
