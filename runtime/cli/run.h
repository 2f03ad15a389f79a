// cli/run.h: what `stoker run` shares with its chat.
#ifndef STK_CLI_RUN_H
#define STK_CLI_RUN_H

#include "cli/console.h"
#include "cli/text_model.h"
#include "cli/text_stop.h"
#include "engine/generate.h"
#include "engine/sampler.h"
#include "engine/session.h"
#include "scheduler/history.h"
#include "store/expert_store.h"

typedef struct stk_run_options {
    const char *prompt; // "-": standard input
    const char *prompt_path;
    const char *system;     // of a chat
    const char *trace_path; // record of the experts used; NULL: none
    uint32_t tokens_max;    // 0: until the text ends
    bool is_chat, is_json, hides_prompt, has_special;
} stk_run_options;

// An open model, ready to generate. Thread-safety: none.
typedef struct stk_run {
    const char *name; // "stoker run"
    stk_run_options options;
    stk_sampler_options sampling;
    stk_draft_options drafting;
    stk_console console;
    stk_text_model model;
    stk_session *session;
    struct stk_trace *trace; // NULL: not recorded
    stk_sampler *sampler;
    stk_draft *draft; // NULL: no speculation
    int32_t *ids;     // generated in this call, room for the whole context
    uint32_t id_count;
    const char *const *stops; // [stop_count] strings that end a text, borrowed
    size_t stop_count;
    stk_text_stop stop;
    struct stk_plan_facts *facts; // of the machine it was planned for; NULL: nothing was planned
    bool compares;                // what was planned with what it takes
    char prompt_report[2048];     // lines of it about the prompt
    stk_expert_store_stats reads; // of experts, when the passes that are compared began
    bool learns;                  // how fast the disk is, from the reads of new tokens
    stk_measured disk_use;        // a speed of 0: nothing learned
    int output_error;             // errno of standard output, ends the run
} stk_run;

// Generates after prompt[0..count) on sequence 0 and, unless --json, streams to standard output.
// The first `known` tokens were drawn by an earlier call.
STK_CHECKED stk_status stk_run_generate(stk_run *run, const int32_t *prompt, uint32_t count,
                                        uint32_t known, stk_generate_stats *stats);

// With --verbose: one line of tokens and speeds.
void stk_run_report(const stk_run *run, const stk_generate_stats *stats);

// Questions and answers until the end of the input. Returns the exit code.
int stk_run_chat(stk_run *run);

#endif
