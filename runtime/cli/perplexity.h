// cli/perplexity.h: the perplexity of a token list, by llama.cpp's convention.
//
// The list is cut into chunks of `context` tokens; what is left over at the end is dropped. Each
// chunk is a fresh sequence and only its second half is scored: positions context/2 ..
// context - 2 predict tokens context/2 + 1 .. context - 1. Where the vocabulary wants one, the
// first token of each chunk is replaced by BOS.
#ifndef STK_CLI_PERPLEXITY_H
#define STK_CLI_PERPLEXITY_H

#include "engine/session.h"
#include <stdatomic.h>

typedef struct stk_perplexity_options {
    stk_session *session;    // borrowed, context_tokens >= context
    const stk_log *log;      // borrowed
    int32_t *tokens;         // [count], borrowed; chunk starts are overwritten by bos
    uint32_t count, context; // context >= 4
    uint32_t vocab_size;
    uint32_t chunks_max;      // 0: all
    int32_t bos;              // -1: none is put in
    const atomic_int *cancel; // may be NULL
} stk_perplexity_options;

typedef struct stk_perplexity {
    uint32_t chunks, chunk_count; // done, to do
    uint64_t scored_tokens;
    double nll, nll_squared; // sums over the scored tokens, nats
    uint64_t elapsed_ns;
} stk_perplexity;

double stk_perplexity_value(const stk_perplexity *p); // exp(mean nll)
double stk_perplexity_error(const stk_perplexity *p); // standard error of it; 0 for one token

// -log softmax(logits)[target], computed in double.
double stk_perplexity_nll(const float *logits, uint32_t vocab_size, int32_t target);

// STK_INVALID: fewer than one chunk of tokens; STK_CANCELLED: *out holds what was done.
STK_CHECKED stk_status stk_perplexity_measure(const stk_perplexity_options *options,
                                              stk_perplexity *out);

#endif
