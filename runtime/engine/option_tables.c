#include "engine/option_tables.h"

#include "engine/engine.h"
#include "engine/sampler.h"
#include "engine/session.h"

#define FIELD(type, name) .offset = offsetof(type, name)
#define TABLE(title, options)                                                                      \
    {                                                                                              \
        title, options, sizeof(options) / sizeof *(options)                                        \
    }

static const stk_option engine_options[] = {
    {.key = "cpu.threads",
     .flag = "threads",
     .letter = 't',
     .type = STK_OPTION_U32,
     .has_auto = true,
     .min = 1,
     .max = 4096,
     .unit = "N",
     .fallback = "auto",
     .doc = "worker threads; auto is one per usable core",
     FIELD(stk_engine_options, thread_count)},
    {.key = "cpu.mask",
     .flag = "cpu-mask",
     .type = STK_OPTION_STRING,
     .has_auto = true,
     .unit = "ISA",
     .fallback = "auto",
     .doc = "widest kernels to use: scalar, avx2, avx512",
     FIELD(stk_engine_options, cpu_mask)},
};
const stk_option_table stk_engine_option_table = TABLE("Processor", engine_options);

static const stk_option session_options[] = {
    {.key = "session.context",
     .flag = "ctx",
     .letter = 'c',
     .type = STK_OPTION_U32,
     .has_auto = true,
     .min = 1,
     .unit = "TOKENS",
     .fallback = "auto",
     .doc = "context length; auto is the model's",
     FIELD(stk_session_options, context_tokens)},
    {.key = "session.batch",
     .flag = "batch",
     .type = STK_OPTION_U32,
     .has_auto = true,
     .min = 1,
     .max = 65536,
     .unit = "ROWS",
     .fallback = "auto",
     .doc = "tokens per forward pass while reading a prompt",
     FIELD(stk_session_options, batch_rows_max)},
};
const stk_option_table stk_session_option_table = TABLE("Session", session_options);

static const stk_option sampler_options[] = {
    {.key = "sampling.temperature",
     .flag = "temp",
     .type = STK_OPTION_F32,
     .max = 100,
     .unit = "T",
     .fallback = "0.8",
     .doc = "temperature; 0 takes the most likely token",
     FIELD(stk_sampler_options, temperature)},
    {.key = "sampling.top_k",
     .flag = "top-k",
     .type = STK_OPTION_U32,
     .unit = "K",
     .fallback = "40",
     .doc = "keep the K most likely tokens; 0 keeps all",
     FIELD(stk_sampler_options, top_k)},
    {.key = "sampling.top_p",
     .flag = "top-p",
     .type = STK_OPTION_F32,
     .min = 1e-6,
     .max = 1,
     .unit = "P",
     .fallback = "0.95",
     .doc = "keep the likeliest tokens that together hold P",
     FIELD(stk_sampler_options, top_p)},
    {.key = "sampling.min_p",
     .flag = "min-p",
     .type = STK_OPTION_F32,
     .max = 1,
     .unit = "P",
     .fallback = "0.05",
     .doc = "drop tokens less likely than P times the likeliest",
     FIELD(stk_sampler_options, min_p)},
    {.key = "sampling.repeat_penalty",
     .flag = "repeat-penalty",
     .type = STK_OPTION_F32,
     .min = 0.01,
     .max = 100,
     .unit = "X",
     .fallback = "1",
     .doc = "make recent tokens less likely; 1 is off",
     FIELD(stk_sampler_options, repeat_penalty)},
    {.key = "sampling.repeat_last",
     .flag = "repeat-last",
     .type = STK_OPTION_U32,
     .max = 1048576,
     .unit = "TOKENS",
     .fallback = "64",
     .doc = "how far back the penalty looks",
     FIELD(stk_sampler_options, repeat_last)},
    {.key = "sampling.seed",
     .flag = "seed",
     .type = STK_OPTION_U64,
     .has_auto = true,
     .auto_value = STK_SEED_FRESH,
     .max = 9007199254740991, // 2^53 - 1: exact in JSON
     .unit = "S",
     .fallback = "auto",
     .doc = "seed of the random numbers; auto takes a fresh one",
     FIELD(stk_sampler_options, seed)},
};
const stk_option_table stk_sampler_option_table = TABLE("Sampling", sampler_options);
