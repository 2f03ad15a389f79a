// engine/option_tables.h: the options of the engine, its sessions, the sampler and drafts.
#ifndef STK_ENGINE_OPTION_TABLES_H
#define STK_ENGINE_OPTION_TABLES_H

#include "base/options.h"

#define STK_CPU_MASK_DOC "widest kernels to use: scalar, avx2, avxvnni, avx512, amx, neon"

extern const stk_option_table stk_engine_option_table;  // over stk_engine_options
extern const stk_option_table stk_memory_option_table;  // over stk_engine_options too
extern const stk_option_table stk_gpu_option_table;     // and that
extern const stk_option_table stk_cluster_option_table; // and that
extern const stk_option_table stk_session_option_table; // over stk_session_options
extern const stk_option_table stk_sampler_option_table; // over stk_sampler_options
extern const stk_option_table stk_draft_option_table;   // over stk_draft_options; 0 tokens: off

#endif
