#include "cli/perplexity.h"

#include <math.h>
#include <stdlib.h>
#include <time.h>

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

double stk_perplexity_value(const stk_perplexity *p)
{
    return p->scored_tokens ? exp(p->nll / (double)p->scored_tokens) : NAN;
}

double stk_perplexity_error(const stk_perplexity *p)
{
    double n = (double)p->scored_tokens;
    if (n < 2)
        return 0;
    double mean = p->nll / n, variance = p->nll_squared / n - mean * mean;
    return variance > 0 ? sqrt(variance / (n - 1)) * exp(mean) : 0;
}

double stk_perplexity_nll(const float *logits, uint32_t vocab_size, int32_t target)
{
    float best = logits[0];
    double sum = 0;
    for (uint32_t i = 1; i < vocab_size; i++)
        best = logits[i] > best ? logits[i] : best;
    for (uint32_t i = 0; i < vocab_size; i++)
        sum += exp((double)logits[i] - (double)best);
    return log(sum) - ((double)logits[target] - (double)best);
}

static stk_status measure_chunk(const stk_perplexity_options *o, int32_t *tokens, stk_row *rows,
                                stk_perplexity *out)
{
    uint32_t batch = stk_session_batch_rows_max(o->session);
    stk_status status = stk_session_truncate(o->session, 0, 0);
    if (o->bos >= 0)
        tokens[0] = o->bos;
    for (uint32_t done = 0; done < o->context && status == STK_OK;) {
        uint32_t count = o->context - done < batch ? o->context - done : batch;
        if (o->cancel && atomic_load_explicit(o->cancel, memory_order_relaxed))
            return STK_CANCELLED;
        for (uint32_t i = 0; i < count; i++) {
            uint32_t at = done + i;
            rows[i] = (stk_row){.position = at,
                                .token = tokens[at],
                                .logits = at >= o->context / 2 && at + 1 < o->context};
        }
        status = stk_session_forward(o->session, rows, count);
        for (uint32_t i = 0; i < count && status == STK_OK; i++) {
            if (!rows[i].logits)
                continue;
            double nll = stk_perplexity_nll(stk_session_logits(o->session, i), o->vocab_size,
                                            tokens[done + i + 1]);
            out->nll += nll;
            out->nll_squared += nll * nll;
            out->scored_tokens++;
        }
        done += count;
    }
    return status;
}

stk_status stk_perplexity_measure(const stk_perplexity_options *options, stk_perplexity *out)
{
    const stk_perplexity_options *o = options;
    *out = (stk_perplexity){.chunk_count = o->count / o->context};
    if (out->chunk_count == 0)
        return stk_fail(o->log, STK_INVALID, "the text has %u tokens, one chunk needs %u", o->count,
                        o->context);
    if (o->chunks_max && o->chunks_max < out->chunk_count)
        out->chunk_count = o->chunks_max;
    stk_row *rows = malloc(stk_session_batch_rows_max(o->session) * sizeof *rows);
    if (!rows)
        return stk_fail(o->log, STK_NO_MEMORY, "no memory for the rows of a batch");
    uint64_t start = now_ns();
    stk_status status = STK_OK;
    while (out->chunks < out->chunk_count && status == STK_OK) {
        stk_perplexity next = *out; // a chunk counts as a whole or not at all
        status = measure_chunk(o, o->tokens + (size_t)out->chunks * o->context, rows, &next);
        if (status != STK_OK)
            break;
        next.chunks++;
        *out = next;
        stk_info(o->log, "chunk %u of %u: perplexity %.4f", out->chunks, out->chunk_count,
                 stk_perplexity_value(out));
        stk_progress(o->log, "measuring perplexity", out->chunks, out->chunk_count);
    }
    out->elapsed_ns = now_ns() - start;
    free(rows);
    return status;
}
