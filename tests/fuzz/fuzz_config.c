// libFuzzer target for YAML device configs: whatever the text, either every field that was set is
// inside its limits, or one line names the file.
#include "base/config.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

typedef struct fields {
    uint32_t threads, guard;
    uint64_t size_bytes;
    float ratio;
    const char *name;
} fields;

static const stk_option options[] = {
    {.key = "cpu.threads",
     .type = STK_OPTION_U32,
     .has_auto = true,
     .min = 1,
     .max = 64,
     .offset = offsetof(fields, threads)},
    {.key = "size", .type = STK_OPTION_SIZE, .offset = offsetof(fields, size_bytes)},
    {.key = "ratio", .type = STK_OPTION_F32, .max = 1, .offset = offsetof(fields, ratio)},
    {.key = "name", .type = STK_OPTION_STRING, .offset = offsetof(fields, name)},
};
static const stk_option_table table = {"Fuzz", options, sizeof options / sizeof *options};

static void count_line(void *user, stk_log_level level, const char *line)
{
    (void)level;
    if (strncmp(line, "fuzz.yaml:", 10) != 0)
        abort();
    ++*(int *)user;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fields f = {.guard = 0xfeed};
    int lines = 0;
    const stk_log log = {.write = count_line, .user = &lines, .level_max = STK_LOG_DEBUG};
    const stk_option_binding binding = {&table, &f};
    const stk_config_options config_options = {
        .bindings = &binding, .binding_count = 1, .known = NULL};
    stk_config *config = NULL;
    stk_status status = stk_config_parse("fuzz.yaml", (const char *)data, size, &config_options,
                                         &log, &config);
    if ((status == STK_OK) != (config != NULL) || lines != (status != STK_OK))
        abort();
    if (f.guard != 0xfeed || f.threads > 64 || !(f.ratio >= 0 && f.ratio <= 1))
        abort();
    if (config && f.name && strlen(f.name) > size * 4)
        abort();
    stk_config_close(&config);
    return 0;
}
