// model/synth.h: writes a random-weight SmallThinker model with real shapes and statistics.
//
// For measuring speed and for tests where trained weights cannot be had. What decides the cost of
// a token follows the technical report (arXiv 2507.20984): a few experts per layer are hot
// (figures 4 and 5), most neurons of a chosen expert are off (figure 6). How: residual channel 0
// carries a constant; column 0 of the router then acts as a bias per expert, and column 0 of the
// gates, scaled by ffn_norm[0], as a negative bias on every neuron. attn_norm[0] is 0, so that
// attention never sees that channel.
//
// Invariant: the bytes depend on the options only, not on the machine.
#ifndef STK_MODEL_SYNTH_H
#define STK_MODEL_SYNTH_H

#include "base/log.h"
#include "base/str.h"
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

typedef enum stk_synth_gating {
    STK_SYNTH_SIGMOID,
    STK_SYNTH_SOFTMAX,
    STK_SYNTH_MISSING, // sigmoid by omission, as one converter writes it
} stk_synth_gating;

// Types of the weights, named as such files are. All can hold the values drawn.
typedef enum stk_synth_weights {
    STK_SYNTH_PURE_Q4_0,
    STK_SYNTH_Q4_0, // embedding and head in Q6_K
    STK_SYNTH_Q8_0,
    STK_SYNTH_Q6_K,
    STK_SYNTH_Q4_K_M, // Q4_K, with Q6_K where values and outputs of some layers and the head are
} stk_synth_weights;

enum { STK_SYNTH_WINDOW_OF_SHAPE = -1 };

typedef struct stk_synth_options {
    const char *shape; // "4b", "21b", "mid", "small" or "tiny"
    const char *path;  // of the model to write
    bool overwrite;    // false: STK_INVALID when `path` exists
    uint64_t seed;
    uint32_t vocab_count; // 259 or more, and 3 more than token_count
    int64_t window;       // sliding window; 0: none; STK_SYNTH_WINDOW_OF_SHAPE
    stk_synth_gating gating;
    stk_synth_weights weights; // rows that do not divide into blocks of a type are Q8_0
    double skew;               // std of an expert's bias over that of the router's noise
    double sparsity_shift;     // mean of a gate in its std, negated; 0.97 are off at 2
    bool transpose_down;       // ffn_down_exps with one row per neuron
    // Vocabulary by id and merges, borrowed; NULL for the 256 bytes and fillers.
    const stk_str *tokens, *merges;
    uint32_t token_count, merge_count;
    const atomic_int *stop; // non-zero asks to stop; NULL: never
} stk_synth_options;

// What `stoker synth` does without flags; shape and path are NULL.
stk_synth_options stk_synth_defaults(void);

// Writes the model, with progress through the log. STK_INVALID: an option; STK_IO: the file;
// STK_CANCELLED: *stop. Nothing is left at `path` unless STK_OK.
STK_CHECKED stk_status stk_synth_write(const stk_synth_options *options, const stk_log *log);

// Name of shape `index`, or NULL past the last.
const char *stk_synth_shape_name(uint32_t index);

#endif
