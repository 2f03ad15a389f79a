#include "cli/config_tables.h"

#include "engine/option_tables.h"
#include <stddef.h>

const stk_option_table *const stk_config_tables[] = {
    &stk_engine_option_table,  &stk_memory_option_table,
    &stk_gpu_option_table,     &stk_cluster_option_table,
    &stk_session_option_table, &stk_sampler_option_table,
    &stk_draft_option_table,   NULL,
};
