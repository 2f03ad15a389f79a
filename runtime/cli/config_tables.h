// cli/config_tables.h: every option table whose keys may stand in a device config.
#ifndef STK_CLI_CONFIG_TABLES_H
#define STK_CLI_CONFIG_TABLES_H

#include "base/options.h"

// NULL-terminated. A command uses some of them and checks the others, so that one file serves all.
extern const stk_option_table *const stk_config_tables[];

#endif
