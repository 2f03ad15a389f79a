// store/usage_file.h: how often experts were used, kept beside the model from run to run.
//
// The file: magic, version, layers, experts, tokens, then a rate per expert, then a hash. It is a
// hint: whatever is wrong with it, it is as if it were not there. Rates are uses per token, 0..1.
#ifndef STK_STORE_USAGE_FILE_H
#define STK_STORE_USAGE_FILE_H

#include "base/log.h"
#include <stdbool.h>
#include <stdint.h>

enum { STK_USAGE_TOKENS_MAX = 512 }; // older runs weigh at most as much as this many tokens

// Fills rates[layer_count][expert_count] and *tokens. False: there is none, or it is of another
// model (said at info); nothing was written then.
bool stk_usage_file_read(const char *path, uint32_t layer_count, uint32_t expert_count,
                         const stk_log *log, float *rates, uint32_t *tokens);

// Replaces the file at once. A failure is no reason to complain (debug): the next run starts cold.
void stk_usage_file_write(const char *path, uint32_t layer_count, uint32_t expert_count,
                          const stk_log *log, const float *rates, uint32_t tokens);

#endif
