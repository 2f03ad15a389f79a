// engine/together.h: what the ranks of a job settle before they run a model together: that it is
// the same model, who has which layers, and that everybody is ready.
#ifndef STK_ENGINE_TOGETHER_H
#define STK_ENGINE_TOGETHER_H

#include "engine/engine.h"

// All are called by every rank of options->cluster, in the same order, whether or not it has
// failed: `mine` is its own status so far. They return a failure everywhere when one rank has one;
// rank 0 then logs whose it was.

// Compares the model files, agrees on the layers of each rank and cuts engine->model to those of
// this one. Fills *prediction, with 0 where it does not know.
STK_CHECKED stk_status stk_together_split(stk_engine *engine, const stk_engine_options *options,
                                          stk_status mine, stk_engine_prediction *prediction);
// Agrees on a context and on rows per batch that every rank has planned for: the smallest.
STK_CHECKED stk_status stk_together_session(stk_engine *engine, stk_status mine,
                                            uint32_t *context_tokens, uint32_t *batch_rows);
// Nothing but whether all have come so far.
STK_CHECKED stk_status stk_together_ready(stk_engine *engine, stk_status mine);

#endif
