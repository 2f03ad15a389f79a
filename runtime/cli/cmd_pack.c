// cli/cmd_pack.c: stoker pack MODEL: the experts in kernel layout, beside the model.
#include "cli/arguments.h"
#include "cli/commands.h"
#include "cli/console.h"
#include "cli/interrupt.h"
#include "store/sidecar.h"
#include <stdio.h>

typedef struct pack_options {
    const char *output;
} pack_options;

static const stk_option pack_table_options[] = {
    {.flag = "output",
     .letter = 'o',
     .type = STK_OPTION_STRING,
     .unit = "FILE",
     .doc = "where to write; the default is MODEL.stoker, where the other commands look",
     .offset = offsetof(pack_options, output)},
};
static const stk_option_table pack_table = {"Pack", pack_table_options, 1};

static stk_status pack(const char *path, const char *output, const stk_log *log)
{
    stk_gguf *gguf = NULL;
    stk_model model = {0};
    stk_status status = stk_gguf_open(path, log, &gguf);
    if (status == STK_OK)
        status = stk_model_load(gguf, log, &model);
    if (status == STK_OK)
        status = stk_sidecar_write(output, gguf, &model, log, stk_interrupt_flag());
    stk_model_free(&model);
    stk_gguf_close(&gguf);
    return status;
}

int stk_cmd_pack(int argc, char **argv)
{
    pack_options options = {0};
    stk_console_options console_options = {0};
    const char *path;
    char default_path[4096];
    const stk_option_binding bindings[] = {
        {&pack_table, &options},
        {&stk_console_option_table, &console_options},
    };
    const stk_arguments arguments = {
        .positional_doc = "MODEL",
        .doc = "Writes a sidecar with every expert as one page-aligned run in the layout the "
               "kernels use. Running from disk is faster with it; it takes as much disk as the "
               "experts. An interrupted run goes on where it stopped.",
        .bindings = bindings,
        .binding_count = sizeof bindings / sizeof *bindings,
        .positional_min = 1,
        .positional_max = 1,
        .positionals = &path,
    };
    int exit_code;
    if (!stk_arguments_parse(&arguments, argc, argv, &exit_code))
        return exit_code;
    if (!options.output && !stk_sidecar_default_path(path, default_path, sizeof default_path))
        return stk_arguments_misused(argv[0],
                                     "the model's path is too long; name the sidecar with -o");
    stk_console console;
    stk_console_open(&console_options, &console);
    stk_status status = pack(path, options.output ? options.output : default_path, &console.log);
    stk_console_close(&console);
    return stk_exit_code(status);
}
