// cli/bench_draft.c: what guessing tokens brings: the same greedy text with and without a draft.
//
// The model writes here, other than in bench_measure.c: whether a guess holds depends on what the
// model would have said. The text is the same every time, so only the speed varies.
#include "cli/bench.h"
#include "cli/interrupt.h"
#include "engine/generate.h"
#include <stdlib.h>

typedef struct writer {
    stk_bench_run *run;
    stk_sampler *sampler;
    stk_draft *draft; // of the drafted turns
    int32_t *prompt;
    uint32_t prompt_count;
} writer;

static stk_status open_writer(stk_bench_run *run, const stk_bench_draft *d, writer *w)
{
    const stk_sampler_options greedy = {.top_p = 1, .repeat_penalty = 1};
    stk_draft_options drafting = d->options;
    drafting.history_max = d->prompt_tokens + d->tokens + 1;
    uint32_t vocab = stk_engine_model(run->model.engine)->vocab_size;
    *w = (writer){.run = run, .prompt_count = d->prompt_tokens};
    w->prompt = malloc(d->prompt_tokens * sizeof *w->prompt);
    if (!w->prompt)
        return STK_NO_MEMORY;
    for (uint32_t i = 0; i < d->prompt_tokens; i++)
        w->prompt[i] = run->ids[i % run->id_count];
    stk_status status = stk_sampler_open(&greedy, vocab, &w->sampler);
    return status == STK_OK ? stk_draft_open(&drafting, &w->draft) : status;
}

static void close_writer(writer *w)
{
    stk_draft_close(&w->draft);
    stk_sampler_close(&w->sampler);
    free(w->prompt);
}

static stk_status write_text(writer *w, uint32_t tokens, bool is_drafted, stk_generate_stats *stats)
{
    stk_status status = stk_session_truncate(w->run->session, 0, 0);
    if (status != STK_OK)
        return status;
    stk_sampler_reset(w->sampler);
    stk_draft_reset(w->draft);
    const stk_generate_options options = {
        .session = w->run->session,
        .sampler = w->sampler,
        .draft = is_drafted ? w->draft : NULL,
        .prompt = w->prompt,
        .prompt_count = w->prompt_count,
        .tokens_max = tokens + 1, // the first one is the prompt's
        .cancel = stk_interrupt_flag(),
    };
    status = stk_generate(&options, stats);
    return status == STK_OK && stats->finish == STK_FINISH_CANCELLED ? STK_CANCELLED : status;
}

stk_status stk_bench_measure_draft(stk_bench_run *run, uint32_t depth, stk_bench_draft *d)
{
    writer w;
    stk_generate_stats stats;
    d->prompt_tokens = depth;
    if (depth < STK_BENCH_DRAFT_PROMPT_MIN) // a draft quotes: there must be something to quote
        d->prompt_tokens = STK_BENCH_DRAFT_PROMPT_MIN;
    d->threads = run->threads;
    stk_status status = open_writer(run, d, &w);
    if (status != STK_OK)
        status = stk_fail(run->log, status, "cannot draft: %s", stk_status_name(status));
    if (status == STK_OK)
        status = write_text(&w, d->tokens, false, &stats); // warm
    for (uint32_t i = 0; i < 2 * run->reps && status == STK_OK; i++) {
        bool is_drafted = i % 2 != 0;
        status = write_text(&w, d->tokens, is_drafted, &stats);
        if (status != STK_OK || stats.decode_ns == 0)
            continue;
        double speed = 1e9 * (stats.generated_tokens - 1) / (double)stats.decode_ns;
        stk_bench_samples_add(is_drafted ? &d->drafted : &d->plain, speed);
    }
    close_writer(&w);
    if (status != STK_OK)
        return status;
    d->passes = stats.decode_passes;
    d->drafted_tokens = stats.drafted_tokens;
    d->accepted_tokens = stats.accepted_tokens;
    return STK_OK;
}
