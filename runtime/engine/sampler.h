// engine/sampler.h: logits to one token.
//
// Owns the candidate buffers, the window of recent tokens and the random state. Knows nothing of
// sessions or text. Invariant: the same options, accepted tokens and logits give the same tokens.
//
// Stages, in this order (llama.cpp's):
//   1. repeat penalty  logits of tokens in the window: divided by it when positive, else multiplied
//   2. temperature 0   stop here with the largest logit (greedy)
//   3. top-k           keep the k largest logits
//   4. top-p           keep the fewest of those, best first, that hold top_p of their probability
//   5. min-p           keep those with at least min_p times the best one's probability
//   6. temperature     softmax(logits / temperature) over what is left
//   7. draw
// The best candidate always stays. Equal logits are ordered by id, lower first. NaN counts as
// -infinity, and -infinity is never drawn unless nothing else is left: then it is token 0.
#ifndef STK_ENGINE_SAMPLER_H
#define STK_ENGINE_SAMPLER_H

#include "base/random.h"
#include "base/status.h"
#include <stdbool.h>
#include <stdint.h>

// What an option table stores for "auto": the caller puts a seed of its own in its place.
#define STK_SEED_FRESH UINT64_MAX

typedef struct stk_sampler_options {
    float temperature;    // 0: greedy
    uint32_t top_k;       // 0: off
    float top_p;          // 1: off
    float min_p;          // 0: off
    float repeat_penalty; // > 0; 1: off
    uint32_t repeat_last; // length of the penalty's window in tokens; 0: off
    uint64_t seed;
} stk_sampler_options;

// A token and its probability after every filter.
typedef struct stk_candidate {
    int32_t id;
    float probability;
} stk_candidate;

// Thread-safety: none.
typedef struct stk_sampler stk_sampler;

// Takes all memory (12 bytes per vocabulary entry); later calls do not allocate. *out is written
// only on STK_OK; the caller closes it. STK_INVALID: an option is out of range or NaN.
STK_CHECKED stk_status stk_sampler_open(const stk_sampler_options *options, uint32_t vocab_size,
                                        stk_sampler **out);
uint64_t stk_sampler_bytes(uint32_t vocab_size); // that takes, about
void stk_sampler_close(stk_sampler **sampler);   // sets it to NULL; NULL is allowed

// Forgets the window and starts the random numbers again at the seed.
void stk_sampler_reset(stk_sampler *sampler);

// Tells the sampler that `token` is now part of the text, prompt or drawn. Ids outside the
// vocabulary are ignored.
void stk_sampler_accept(stk_sampler *sampler, int32_t token);

// Stages 1 to 6 on logits[vocab] (not changed). Writes a borrowed array, valid until the next call,
// and returns its length, at least 1. Probabilities sum to 1 within rounding. Order: best first
// after top-k or top-p, else by id. Uses no random number.
uint32_t stk_sampler_distribution(stk_sampler *sampler, const float *logits,
                                  const stk_candidate **out);

// Stage 7: draws from candidates[0..count), count > 0, in proportion to their probabilities, which
// need not sum to 1 (speculative decoding draws from differences). Uses one random number.
int32_t stk_sampler_draw(stk_sampler *sampler, const stk_candidate *candidates, uint32_t count);

// Whether it takes the largest logit whatever the text so far: then nobody need bring it the
// others.
bool stk_sampler_is_greedy(const stk_sampler *sampler);

// All stages. Does not accept the token. Greedy uses no random number.
int32_t stk_sampler_sample(stk_sampler *sampler, const float *logits);

// What further draws depend on besides logits, so that somebody else can make them.
enum { STK_SAMPLER_WINDOW_MAX = 256 };
typedef struct stk_sampler_state {
    stk_sampler_options options; // without a penalty repeat_last is 0
    stk_random random;
    uint32_t window_count;                  // at most options.repeat_last
    int32_t window[STK_SAMPLER_WINDOW_MAX]; // oldest first
} stk_sampler_state;

// False: the penalty looks further back than STK_SAMPLER_WINDOW_MAX, *out is untouched.
bool stk_sampler_save(const stk_sampler *sampler, stk_sampler_state *out);
// From here on it draws as the one that was saved would, whatever its own options; its repeat_last
// at open must be as large. STK_INVALID: no state of a sampler of this vocabulary, nothing changed.
STK_CHECKED stk_status stk_sampler_restore(stk_sampler *sampler, const stk_sampler_state *state);
// Uses the random number that stk_sampler_sample would, which somebody else has drawn with.
void stk_sampler_skip(stk_sampler *sampler);

// A number in [0, 1) from the sampler's stream, for accepting drafted tokens.
double stk_sampler_random(stk_sampler *sampler);

#endif
