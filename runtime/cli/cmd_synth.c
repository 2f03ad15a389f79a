// cli/cmd_synth.c: stoker synth SHAPE: writes a random-weight model of a real shape.
#include "base/nearest.h"
#include "cli/arguments.h"
#include "cli/commands.h"
#include "cli/console.h"
#include "cli/interrupt.h"
#include "cli/synth_vocab.h"
#include "model/synth.h"
#include <stdio.h>
#include <string.h>
#include <unistd.h>

typedef struct synth_flags {
    const char *path, *vocab_dir;
    uint64_t seed;
    uint32_t vocab_count, window, gating, weights; // window: UINT32_MAX, the shape's
    double skew, sparsity_shift;
    bool transpose_down, overwrite;
} synth_flags;

static const char *const gatings[] = {[STK_SYNTH_SIGMOID] = "sigmoid",
                                      [STK_SYNTH_SOFTMAX] = "softmax",
                                      [STK_SYNTH_MISSING] = "missing",
                                      NULL};

static const char *const weights[] = {
    [STK_SYNTH_PURE_Q4_0] = "pure-q4_0", [STK_SYNTH_Q4_0] = "q4_0",     [STK_SYNTH_Q8_0] = "q8_0",
    [STK_SYNTH_Q6_K] = "q6_k",           [STK_SYNTH_Q4_K_M] = "q4_k_m", NULL};

#define FIELD(name) .offset = offsetof(synth_flags, name)
static const stk_option synth_options[] = {
    {.flag = "output",
     .letter = 'o',
     .type = STK_OPTION_STRING,
     .unit = "FILE",
     .doc = "the model to write (required)",
     FIELD(path)},
    {.flag = "seed",
     .type = STK_OPTION_U64,
     .unit = "S",
     .fallback = "1",
     .doc = "seed of the weights",
     FIELD(seed)},
    {.flag = "vocab",
     .type = STK_OPTION_U32,
     .min = 259,
     .max = 1 << 24,
     .unit = "N",
     .fallback = "151936",
     .doc = "tokens in the vocabulary",
     FIELD(vocab_count)},
    {.flag = "vocab-dir",
     .type = STK_OPTION_STRING,
     .unit = "DIR",
     .doc = "take tokens from DIR/vocab.json and DIR/merges.txt",
     FIELD(vocab_dir)},
    {.flag = "window",
     .type = STK_OPTION_U32,
     .has_auto = true,
     .auto_value = UINT32_MAX,
     .unit = "TOKENS",
     .fallback = "auto",
     .doc = "sliding window; 0 is none, auto the shape's own",
     FIELD(window)},
    {.flag = "gating",
     .type = STK_OPTION_ENUM,
     .choices = gatings,
     .unit = "KIND",
     .fallback = "sigmoid",
     .doc = "how router logits become weights: sigmoid, softmax or missing",
     FIELD(gating)},
    {.flag = "weights",
     .type = STK_OPTION_ENUM,
     .choices = weights,
     .unit = "TYPE",
     .fallback = "pure-q4_0",
     .doc = "types of the weights: pure-q4_0, q4_0 (embedding and head in Q6_K), q8_0, q6_k or "
            "q4_k_m (a mixture of Q4_K and Q6_K)",
     FIELD(weights)},
    {.flag = "skew",
     .type = STK_OPTION_F64,
     .max = 1000,
     .unit = "X",
     .fallback = "1.2",
     .doc = "std of an expert's bias over that of the router's noise",
     FIELD(skew)},
    {.flag = "sparsity-shift",
     .type = STK_OPTION_F64,
     .min = -10,
     .max = 10,
     .unit = "X",
     .fallback = "0.45",
     .doc = "how many std below zero the gates are",
     FIELD(sparsity_shift)},
    {.flag = "transpose-down",
     .type = STK_OPTION_BOOL,
     .doc = "store down with one row per neuron",
     FIELD(transpose_down)},
    {.flag = "force",
     .type = STK_OPTION_BOOL,
     .doc = "replace FILE if it exists",
     FIELD(overwrite)},
};
static const stk_option_table synth_table = {"Model", synth_options,
                                             sizeof synth_options / sizeof *synth_options};

// The shape of that name, or NULL after filling message.
static const char *find_shape(const char *name, char *message, size_t message_bytes)
{
    const char *nearest = NULL;
    for (uint32_t i = 0; stk_synth_shape_name(i); i++) {
        if (strcmp(stk_synth_shape_name(i), name) == 0)
            return stk_synth_shape_name(i);
        if (!nearest && stk_name_is_near(name, stk_synth_shape_name(i)))
            nearest = stk_synth_shape_name(i);
    }
    int length = snprintf(message, message_bytes, "there is no shape '%.64s'%s%s%s; there are",
                          name, nearest ? ", did you mean '" : "", nearest ? nearest : "",
                          nearest ? "'?" : "");
    for (uint32_t i = 0; stk_synth_shape_name(i) && (size_t)length < message_bytes; i++)
        length += snprintf(message + length, message_bytes - (size_t)length, "%s %s", i ? "," : "",
                           stk_synth_shape_name(i));
    return NULL;
}

static stk_status write_model(const synth_flags *flags, const char *shape, const stk_log *log)
{
    stk_synth_options synth = {
        .shape = shape,
        .path = flags->path,
        .overwrite = flags->overwrite,
        .seed = flags->seed,
        .vocab_count = flags->vocab_count,
        .window = flags->window == UINT32_MAX ? STK_SYNTH_WINDOW_OF_SHAPE : (int64_t)flags->window,
        .gating = (stk_synth_gating)flags->gating,
        .weights = (stk_synth_weights)flags->weights,
        .skew = flags->skew,
        .sparsity_shift = flags->sparsity_shift,
        .transpose_down = flags->transpose_down,
        .stop = stk_interrupt_flag(),
    };
    stk_synth_vocab vocab = {0};
    stk_status status = STK_OK;
    if (flags->vocab_dir)
        status = stk_synth_vocab_read(flags->vocab_dir, log, &vocab);
    if (flags->vocab_dir && status == STK_OK) {
        synth.tokens = vocab.tokens;
        synth.merges = vocab.merges;
        synth.token_count = vocab.token_count;
        synth.merge_count = vocab.merge_count;
    }
    if (status == STK_OK)
        status = stk_synth_write(&synth, log);
    stk_synth_vocab_free(&vocab);
    return status;
}

int stk_cmd_synth(int argc, char **argv)
{
    synth_flags flags = {0};
    stk_console_options messages = {0};
    const char *name;
    char message[192];
    const stk_option_binding bindings[] = {
        {&synth_table, &flags},
        {&stk_console_option_table, &messages},
    };
    const stk_arguments arguments = {
        .positional_doc = "SHAPE",
        .doc =
            "Writes a SmallThinker model with random weights: the real shapes 4b and 21b, or "
            "mid, small or tiny, with the expert popularity and neuron sparsity of the technical "
            "report. For measuring speed.",
        .bindings = bindings,
        .binding_count = sizeof bindings / sizeof *bindings,
        .positional_min = 1,
        .positional_max = 1,
        .positionals = &name,
    };
    int exit_code;
    if (!stk_arguments_parse(&arguments, argc, argv, &exit_code))
        return exit_code;
    const char *shape = find_shape(name, message, sizeof message);
    if (!shape)
        return stk_arguments_misused(argv[0], message);
    if (!flags.path)
        return stk_arguments_misused(argv[0], "name the model to write with -o FILE");
    stk_console console;
    stk_console_open(&messages, &console);
    if (!flags.overwrite && access(flags.path, F_OK) == 0) { // before the vocabulary is read
        stk_error(&console.log, "%s: exists already; --force replaces it", flags.path);
        stk_console_close(&console);
        return STK_EXIT_FAILED;
    }
    stk_status status = write_model(&flags, shape, &console.log);
    stk_console_close(&console);
    return stk_exit_code(status);
}
