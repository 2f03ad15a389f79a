// cli/trace.h: a record of which experts every token used, to replay cache policies on.
//
// Text, one line per token and layer: "layer id:weight id:weight ...", after a header line
// "stoker-trace 2 LAYERS EXPERTS USED". A weight is the router's in thousandths. Prompt tokens come
// layer by layer of their batch. Version 1 had no weights; it is read as if all were equal.
#ifndef STK_CLI_TRACE_H
#define STK_CLI_TRACE_H

#include "base/log.h"
#include "model/model.h"
#include <stdbool.h>

typedef struct stk_trace stk_trace;

STK_CHECKED stk_status stk_trace_open(const char *path, const stk_model *model, const stk_log *log,
                                      stk_trace **out);
// A stk_route_hook; user is the trace.
void stk_trace_record(void *trace, uint32_t layer, uint32_t row_count, const uint32_t *experts,
                      const float *weights);
// False: what was recorded is not all in the file, which was logged. NULL is allowed.
bool stk_trace_close(stk_trace **trace);

// A recorded trace in memory, in the order things happened.
typedef struct stk_trace_data {
    uint32_t layer_count, expert_count, used;
    uint64_t use_count; // lines
    uint32_t *layers;   // [use_count]
    uint32_t *experts;  // [use_count][used]
    float *weights;     // [use_count][used], 0..1
    bool has_weights;   // false: every weight is 1
} stk_trace_data;

// STK_IO, STK_FORMAT (line number named), STK_NO_MEMORY. Free with stk_trace_data_free.
STK_CHECKED stk_status stk_trace_read(const char *path, const stk_log *log, stk_trace_data *out);
void stk_trace_data_free(stk_trace_data *data);

#endif
