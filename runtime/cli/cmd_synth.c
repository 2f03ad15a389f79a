// stoker synth: writes a random-weight model of a real shape.
#include "cli/synth_vocab.h"
#include "model/synth.h"

#include <argp.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int stk_cmd_synth(int argc, char **argv);

enum { SEED = 256, VOCAB, WINDOW, GATING, VOCAB_DIR, SKEW, TRANSPOSE, SHIFT, FORCE };

static const struct argp_option flags[] = {
    {"output", 'o', "FILE", 0, "the model to write (required)", 0},
    {"seed", SEED, "S", 0, "seed of the weights (1)", 0},
    {"vocab", VOCAB, "N", 0, "tokens in the vocabulary (151936)", 0},
    {"vocab-dir", VOCAB_DIR, "DIR", 0, "take tokens from DIR/vocab.json and DIR/merges.txt", 0},
    {"window", WINDOW, "N", 0, "sliding window in place of the shape's own; 0: none", 0},
    {"gating", GATING, "KIND", 0, "sigmoid (default), softmax or missing", 0},
    {"skew", SKEW, "X", 0, "std of an expert's bias over that of the router's noise (1.2)", 0},
    {"sparsity-shift", SHIFT, "X", 0, "how many std below zero the gates are (0.45)", 0},
    {"transpose-down", TRANSPOSE, NULL, 0, "store down with one row per neuron", 0},
    {"force", FORCE, NULL, 0, "replace FILE if it exists", 0},
    {0},
};

typedef struct arguments {
    stk_synth_options synth;
    const char *vocab_dir;
} arguments;

// Whole argument as a number in [min, max], or a usage error.
static double number(struct argp_state *state, const char *flag, const char *text, double min,
                     double max)
{
    char *end;
    double value = strtod(text, &end);
    if (end == text || *end || !(value >= min && value <= max))
        argp_error(state, "--%s: '%s' is not a number from %g to %g", flag, text, min, max);
    return value;
}

static uint64_t integer(struct argp_state *state, const char *flag, const char *text, uint64_t max)
{
    char *end;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    if (end == text || *end || *text == '-' || errno || value > max)
        argp_error(state, "--%s: '%s' is not an integer from 0 to %llu", flag, text,
                   (unsigned long long)max);
    return value;
}

static stk_synth_gating gating(struct argp_state *state, const char *text)
{
    static const char *const names[] = {
        [STK_SYNTH_SIGMOID] = "sigmoid",
        [STK_SYNTH_SOFTMAX] = "softmax",
        [STK_SYNTH_MISSING] = "missing",
    };
    for (int i = 0; i < 3; i++) {
        if (strcmp(text, names[i]) == 0)
            return (stk_synth_gating)i;
    }
    argp_error(state, "--gating: '%s' is not sigmoid, softmax or missing", text);
    return STK_SYNTH_SIGMOID;
}

static void take_shape(struct argp_state *state, stk_synth_options *synth, const char *name)
{
    if (synth->shape)
        argp_error(state, "one shape only, '%s' is a second one", name);
    for (uint32_t i = 0; stk_synth_shape_name(i); i++) {
        if (strcmp(stk_synth_shape_name(i), name) == 0)
            synth->shape = stk_synth_shape_name(i);
    }
    if (!synth->shape)
        argp_error(state, "'%s' is not a shape: 4b, 21b, mid or tiny", name);
}

static error_t parse(int key, char *text, struct argp_state *state)
{
    arguments *a = state->input;
    switch (key) {
    case 'o':
        a->synth.path = text;
        break;
    case SEED:
        a->synth.seed = integer(state, "seed", text, UINT64_MAX);
        break;
    case VOCAB:
        a->synth.vocab_count = (uint32_t)integer(state, "vocab", text, 1 << 24);
        break;
    case WINDOW:
        a->synth.window = (int64_t)integer(state, "window", text, UINT32_MAX);
        break;
    case GATING:
        a->synth.gating = gating(state, text);
        break;
    case VOCAB_DIR:
        a->vocab_dir = text;
        break;
    case SKEW:
        a->synth.skew = number(state, "skew", text, 0, 1000);
        break;
    case SHIFT:
        a->synth.sparsity_shift = number(state, "sparsity-shift", text, -10, 10);
        break;
    case TRANSPOSE:
        a->synth.transpose_down = true;
        break;
    case FORCE:
        a->synth.overwrite = true;
        break;
    case ARGP_KEY_ARG:
        take_shape(state, &a->synth, text);
        break;
    case ARGP_KEY_END:
        if (!a->synth.shape || !a->synth.path)
            argp_error(state, "a shape and -o FILE are needed");
        break;
    default:
        return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

static void print_line(void *user, stk_log_level level, const char *line)
{
    (void)user;
    (void)level;
    fprintf(stderr, "stoker: %s\n", line);
}

static void print_progress(void *user, const char *what, uint64_t done, uint64_t total)
{
    unsigned *shown = user, percent = total ? (unsigned)(done * 100.0 / (double)total) : 100;
    if (percent != *shown)
        fprintf(stderr, "\r%s %u%%%s", what, percent, done == total ? "\n" : "");
    *shown = percent;
}

static atomic_int interrupted;

static void on_interrupt(int signal_number)
{
    (void)signal_number;
    atomic_store_explicit(&interrupted, 1, memory_order_relaxed);
}

int stk_cmd_synth(int argc, char **argv)
{
    static const struct argp argp = {
        .options = flags,
        .parser = parse,
        .args_doc = "4b|21b|mid|tiny -o FILE",
        .doc = "Writes a SmallThinker model with random weights: real shapes, and the expert "
               "popularity and neuron sparsity of the technical report. For measuring speed.",
    };
    arguments a = {.synth = stk_synth_defaults()};
    unsigned shown = 101;
    const stk_log log = {
        .write = print_line,
        .progress = isatty(STDERR_FILENO) ? print_progress : NULL,
        .user = &shown,
        .level_max = STK_LOG_WARN,
    };
    argp_err_exit_status = 2;
    argp_parse(&argp, argc, argv, 0, NULL, &a);

    struct sigaction action = {.sa_handler = on_interrupt, .sa_flags = (int)SA_RESETHAND};
    sigaction(SIGINT, &action, NULL); // the second Ctrl-C kills
    a.synth.stop = &interrupted;
    stk_synth_vocab vocab = {0};
    stk_status status = STK_OK;
    if (a.vocab_dir) {
        status = stk_synth_vocab_read(a.vocab_dir, &log, &vocab);
        a.synth.tokens = vocab.tokens;
        a.synth.merges = vocab.merges;
        a.synth.token_count = vocab.token_count;
        a.synth.merge_count = vocab.merge_count;
    }
    if (status == STK_OK)
        status = stk_synth_write(&a.synth, &log);
    stk_synth_vocab_free(&vocab);
    return status == STK_OK ? 0 : 1;
}
