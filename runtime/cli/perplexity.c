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

// A place in the list: batches are submitted at one and collected at another, which follows it.
typedef struct place {
    uint32_t chunk, done; // tokens of the chunk
} place;

static uint32_t batch_at(const stk_perplexity_options *o, const place *at)
{
    uint32_t batch = stk_session_batch_rows_max(o->session), left = o->context - at->done;
    return left < batch ? left : batch;
}

static void go_on(const stk_perplexity_options *o, place *at)
{
    at->done += batch_at(o, at);
    if (at->done < o->context)
        return;
    at->done = 0;
    at->chunk++;
}

static int32_t *tokens_of(const stk_perplexity_options *o, uint32_t chunk)
{
    return o->tokens + (size_t)chunk * o->context;
}

static bool is_scored(const stk_perplexity_options *o, uint32_t position)
{
    return position >= o->context / 2 && position + 1 < o->context;
}

// STK_BUSY: as stk_session_submit.
static stk_status submit(const stk_perplexity_options *o, const place *at, stk_row *rows)
{
    int32_t *tokens = tokens_of(o, at->chunk);
    uint32_t count = batch_at(o, at);
    stk_status status = at->done == 0 ? stk_session_truncate(o->session, 0, 0) : STK_OK;
    if (at->done == 0 && o->bos >= 0)
        tokens[0] = o->bos;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t position = at->done + i;
        rows[i] = (stk_row){
            .position = position, .token = tokens[position], .logits = is_scored(o, position)};
    }
    return status == STK_OK ? stk_session_submit(o->session, rows, count) : status;
}

static stk_status collect(const stk_perplexity_options *o, const place *at, stk_perplexity *out)
{
    const int32_t *tokens = tokens_of(o, at->chunk);
    uint32_t count = batch_at(o, at);
    stk_status status = stk_session_collect(o->session);
    for (uint32_t i = 0; i < count && status == STK_OK; i++) {
        uint32_t position = at->done + i;
        if (!is_scored(o, position))
            continue;
        double nll = stk_perplexity_nll(stk_session_logits(o->session, i), o->vocab_size,
                                        tokens[position + 1]);
        out->nll += nll;
        out->nll_squared += nll * nll;
        out->scored_tokens++;
    }
    return status;
}

static bool is_cancelled(const stk_perplexity_options *o)
{
    return o->cancel && atomic_load_explicit(o->cancel, memory_order_relaxed);
}

// As many batches under way as the session allows, of this chunk and the next ones: their tokens
// are known. A chunk counts as a whole or not at all.
static stk_status measure_chunks(const stk_perplexity_options *o, stk_row *rows,
                                 stk_perplexity *out)
{
    place first = {0, 0}, next = {0, 0}; // to collect, to submit
    uint32_t flights = 0, most = stk_session_inflight_max(o->session);
    stk_perplexity so_far = *out;
    while (out->chunks < out->chunk_count) {
        stk_status status;
        if (flights < most && next.chunk < out->chunk_count) {
            status = is_cancelled(o) ? STK_CANCELLED : submit(o, &next, rows);
            if (status != STK_OK)
                return status;
            go_on(o, &next);
            flights++;
            continue;
        }
        status = collect(o, &first, &so_far);
        if (status != STK_OK)
            return status;
        go_on(o, &first);
        flights--;
        if (first.done > 0)
            continue;
        so_far.chunks++;
        *out = so_far;
        stk_info(o->log, "chunk %u of %u: perplexity %.4f", out->chunks, out->chunk_count,
                 stk_perplexity_value(out));
        stk_progress(o->log, "measuring perplexity", out->chunks, out->chunk_count);
    }
    return STK_OK;
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
    stk_status status = measure_chunks(o, rows, out);
    out->elapsed_ns = now_ns() - start;
    free(rows);
    return status;
}
