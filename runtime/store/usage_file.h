// store/usage_file.h: how often experts were used, kept beside the model from run to run.
//
// The file: magic, version, layers, experts, tokens, then a rate per expert, then a hash. It is a
// hint: whatever is wrong with it, it is as if it were not there. Rates are uses per token, 0..1.
#ifndef STK_STORE_USAGE_FILE_H
#define STK_STORE_USAGE_FILE_H

#include "base/log.h"
#include <stdint.h>

enum { STK_USAGE_TOKENS_MAX = 512 }; // earlier runs should weigh at most as much as so many tokens

// Fills rates[layer_count][expert_count]. Returns the tokens they are of; 0: there is none, or it
// is of another model (said at info), and rates may hold anything.
uint32_t stk_usage_read(const char *path, uint32_t layer_count, uint32_t expert_count,
                        const stk_log *log, float *rates);

// Replaces the file at once. A failure is no reason to complain (debug): the next run starts cold.
void stk_usage_write(const char *path, uint32_t layer_count, uint32_t expert_count,
                     const stk_log *log, const float *rates, uint32_t tokens);

#endif
