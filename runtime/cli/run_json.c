#include "cli/run_json.h"

#include "cli/output.h"
#include "engine/metrics.h"
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static json_t *json_generated(stk_run *run)
{
    char *text = NULL;
    size_t length = 0;
    FILE *stream = open_memstream(&text, &length);
    if (!stream)
        return NULL;
    for (uint32_t i = 0; i < run->id_count; i++) {
        stk_str part = stk_text_model_feed(&run->model, run->ids[i]);
        fwrite(part.data, 1, part.len_bytes, stream);
    }
    stk_str rest = stk_detokenizer_flush(run->model.detokenizer);
    fwrite(rest.data, 1, rest.len_bytes, stream);
    json_t *json = fclose(stream) == 0 ? json_stringn(text, length) : NULL;
    free(text);
    return json;
}

static json_t *json_ids(const int32_t *ids, uint32_t count)
{
    json_t *array = json_array();
    for (uint32_t i = 0; i < count; i++)
        if (json_array_append_new(array, json_integer(ids[i])) != 0)
            break;
    return array;
}

static json_t *json_speed(uint32_t tokens, uint64_t ns)
{
    return json_pack("{s:i, s:f, s:f}", "tokens", (int)tokens, "seconds", (double)ns * 1e-9,
                     "tokens_per_s", ns ? tokens * 1e9 / (double)ns : 0);
}

// Bytes of experts by the memory node that holds them.
static json_t *json_nodes(stk_session *session)
{
    const stk_metrics *m = stk_session_metrics(session);
    json_t *array = json_array();
    for (uint32_t i = 0; i < m->node_count; i++)
        json_array_append_new(array, json_pack("{s:I, s:I}", "own_bytes",
                                               (json_int_t)m->nodes[i].own_bytes, "other_bytes",
                                               (json_int_t)m->nodes[i].other_bytes));
    return array;
}

int stk_run_print_json(stk_run *run, const int32_t *prompt_ids, uint32_t prompt_count,
                       const stk_generate_stats *stats)
{
    const stk_engine *engine = run->model.engine;
    uint32_t decoded = stats->generated_tokens ? stats->generated_tokens - 1 : 0;
    json_t *json = json_pack(
        "{s:o, s:o, s:o, s:s, s:I, s:o, s:o, s:{s:i, s:i, s:i}, s:s, s:i}", "text",
        json_generated(run), "prompt_ids", json_ids(prompt_ids, prompt_count), "ids",
        json_ids(run->ids, run->id_count), "finish", stk_finish_name(stats->finish), "seed",
        (json_int_t)run->sampling.seed, "prefill",
        json_speed(stats->prompt_tokens, stats->prompt_ns), "decode",
        json_speed(decoded, stats->decode_ns), "draft", "guessed", (int)stats->drafted_tokens,
        "right", (int)stats->accepted_tokens, "passes", (int)stats->decode_passes, "kernels",
        stk_engine_kernels(engine), "threads", (int)stk_engine_thread_count(engine));
    if (json)
        json_object_set_new(json, "nodes", json_nodes(run->session));
    char *line = json ? json_dumps(json, JSON_REAL_PRECISION(9)) : NULL;
    json_decref(json);
    if (!line)
        return ENOMEM;
    int error = stk_output_write(line, strlen(line));
    free(line);
    return error ? error : stk_output_write("\n", 1);
}
