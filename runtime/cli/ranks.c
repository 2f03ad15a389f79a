#include "cli/ranks.h"

#include "cli/arguments.h"
#include "cli/commands.h"
#include "cli/interrupt.h"
#include "cluster/launcher.h"
#include "engine/pipeline.h"
#include "scheduler/split.h"
#include "stk_commit.h"
#include <stdio.h>
#include <string.h>

bool stk_ranks_know(const char *command)
{
    static const char *const known[] = {"run", "logits", "ppl", "bench"};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strcmp(command, known[i]) == 0)
            return true;
    return false;
}

// Reads the number of layers only: a mistake should not cost the loading of a model.
static const char *wrong_split(const stk_engine_options *engine, uint32_t ranks, char *error,
                               size_t size)
{
    stk_gguf *gguf = NULL;
    stk_model model = {0};
    char why[160];
    uint32_t first[STK_SPLIT_RANKS_MAX + 1];
    const char *wrong = NULL;
    // What is wrong with the file is said when it is opened in earnest.
    if (stk_gguf_open(engine->model_path, NULL, &gguf) == STK_OK &&
        stk_model_load(gguf, NULL, &model) == STK_OK &&
        stk_split_parse(engine->split, ranks, model.layer_total, first, why, sizeof why) !=
            STK_OK) {
        snprintf(error, size, "--split: %s", why);
        wrong = error;
    }
    stk_model_free(&model);
    stk_gguf_close(&gguf);
    return wrong;
}

bool stk_ranks_meet(stk_engine_options *engine, const char *name, int *exit_code)
{
    stk_launch launch;
    char error[256];
    const stk_cluster_options options = {.log = engine->log,
                                         .version = STK_VERSION " (" STK_COMMIT ")"};
    bool is_launched = stk_launch_detect(&launch);
    if (is_launched) // ranks that wait for others look at nothing
        stk_interrupt_only_from_keyboard();
    if (!is_launched && engine->split)
        stk_info(engine->log, "--split means nothing to one process");
    const char *wrong = is_launched && engine->split
                            ? wrong_split(engine, launch.count, error, sizeof error)
                            : NULL;
    if (wrong) {
        *exit_code = stk_arguments_misused(name, wrong);
        return false;
    }
    stk_status status = stk_cluster_open(&options, &engine->cluster);
    *exit_code = stk_exit_code(status);
    return status == STK_OK;
}

int stk_ranks_serve(const stk_engine_options *options, const stk_session_options *planned)
{
    stk_engine *engine = NULL;
    stk_engine_options all = *options;
    all.planned_session = planned;
    stk_status status = stk_engine_open(&all, &engine);
    if (status == STK_OK)
        status = stk_engine_serve(engine);
    stk_engine_close(&engine);
    return stk_exit_code(status);
}

void stk_ranks_part(stk_engine_options *engine)
{
    stk_cluster_close(&engine->cluster);
}

bool stk_ranks_join(stk_engine_options *engine, const stk_session_options *planned,
                    const char *name, int *exit_code)
{
    if (!stk_ranks_meet(engine, name, exit_code))
        return false;
    if (!engine->cluster || stk_cluster_rank(engine->cluster) == 0)
        return true;
    *exit_code = stk_ranks_serve(engine, planned);
    stk_ranks_part(engine);
    return false;
}
