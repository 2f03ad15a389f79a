// cli/probe_json.h: measurements as JSON and back.
#ifndef STK_CLI_PROBE_JSON_H
#define STK_CLI_PROBE_JSON_H

#include "cli/probe_cache.h"
#include <jansson.h>

// A new object, or NULL without memory.
json_t *stk_probe_to_json(const stk_probe_results *results);

// Reads and checks every number: node indexes are below node_count. False: something is missing or
// impossible, *out is empty.
bool stk_probe_from_json(json_t *json, uint32_t node_count, stk_probe_results *out);

// "nvme0n1": the facts about a disk.
json_t *stk_block_to_json(const stk_block_device *device);

#endif
