// engine/generate.h: the loop from a prompt to generated tokens.
//
// Owns nothing: session, sampler and tokens are the caller's. Knows nothing of text. Invariant: on
// return the sequence holds every prompt and generated token except the last one drawn, which
// no forward pass has seen yet; a caller that goes on puts it at the start of the next prompt.
//
// With a draft, guessed tokens ride along in the forward pass of the last one, each asking for its
// logits. Row by row a token is then drawn exactly as without a draft: from the same logits (a
// row's do not depend on the batch), the same penalty window and the same random number. While it
// equals the guess, the next row is the one wanted and a forward pass is saved; at the first that
// differs, the rows after it are dropped. So a draft never changes a token, whatever the
// temperature, and the chance that a guess holds is the probability the model gives it, as in
// rejection sampling (Leviathan et al., "Fast Inference from Transformers via Speculative
// Decoding", 2023, with a draft that is certain of itself).
#ifndef STK_ENGINE_GENERATE_H
#define STK_ENGINE_GENERATE_H

#include "base/log.h"
#include "engine/draft.h"
#include "engine/sampler.h"
#include "engine/session.h"
#include <stdatomic.h>

typedef enum stk_finish {
    STK_FINISH_END,       // an end token was drawn
    STK_FINISH_LENGTH,    // tokens_max were generated
    STK_FINISH_CONTEXT,   // the sequence is full
    STK_FINISH_CANCELLED, // *cancel became non-zero
    STK_FINISH_CALLER,    // on_token returned false
} stk_finish;

// "end", "length", "context", "cancelled", "caller". Never NULL.
const char *stk_finish_name(stk_finish finish);

// Everything is borrowed for the call.
typedef struct stk_generate_options {
    stk_session *session;
    stk_sampler *sampler; // accepts the prompt's tokens, unless known, and the drawn ones
    stk_draft *draft;     // accepts the same tokens; NULL: no speculation
    const stk_log *log;   // progress of the prompt, or NULL
    uint32_t sequence;
    const int32_t *prompt; // appended to the sequence
    uint32_t prompt_count; // at least 1
    uint32_t prompt_known; // the first of them that the sampler has accepted, as drawn tokens are
    uint32_t tokens_max;   // 0: until something else stops it
    // Whether a token ends the text; NULL: none does. It is reported to on_token and counted too.
    bool (*is_end)(void *user, int32_t token);
    // Called with each drawn token; false stops. May be NULL.
    bool (*on_token)(void *user, int32_t token);
    void *user;
    const atomic_int *cancel; // checked before every forward pass; may be NULL
} stk_generate_options;

typedef struct stk_generate_stats {
    stk_finish finish;
    uint32_t prompt_tokens; // that were read, fewer than given when cancelled
    uint32_t generated_tokens;
    uint64_t prompt_ns;       // until the first token was drawn
    uint64_t decode_ns;       // from there on
    uint32_t decode_passes;   // forward passes of it: generated_tokens - 1 without a draft
    uint32_t drafted_tokens;  // that rode along
    uint32_t accepted_tokens; // of them: drawn too, each saved a pass
} stk_generate_stats;

// Reads the prompt in chunks of batch_rows_max, then draws tokens. Does not allocate. *stats is
// always written, so that a failure after some tokens can be reported with them.
// STK_INVALID: the prompt is empty or does not fit into the context (logged); else what
// stk_session_forward returns; the sampler may then have accepted tokens of the prompt that the
// sequence lacks.
STK_CHECKED stk_status stk_generate(const stk_generate_options *options, stk_generate_stats *stats);

#endif
