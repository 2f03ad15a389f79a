// cli/bench_trace.c: one decoded token as Chrome trace events, for Perfetto or chrome://tracing.
#include "cli/bench.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

// A complete event; times in nanoseconds since the trace began.
static void write_event(FILE *to, const char *name, const char *category, uint32_t worker,
                        uint32_t layer, uint64_t begin_ns, uint64_t end_ns)
{
    fprintf(to,
            ",\n{\"name\":\"%s\",\"cat\":\"%s\",\"ph\":\"X\",\"pid\":1,\"tid\":%u,\"ts\":%.3f,"
            "\"dur\":%.3f,\"args\":{\"layer\":%u}}",
            name, category, worker, (double)begin_ns * 1e-3, (double)(end_ns - begin_ns) * 1e-3,
            layer);
}

// Lane `worker` of the picture; the one after the last worker is the GPU's.
static void write_worker(FILE *to, uint32_t worker, bool is_gpu, const stk_span *spans,
                         uint32_t count, uint64_t origin_ns)
{
    fprintf(to,
            "%s{\"name\":\"thread_name\",\"ph\":\"M\",\"pid\":1,\"tid\":%u,"
            "\"args\":{\"name\":\"%s %u\"}}",
            worker ? ",\n" : "", worker, is_gpu ? "gpu" : "worker", is_gpu ? 0 : worker);
    for (uint32_t i = 0; i < count; i++) {
        const stk_span *s = &spans[i];
        write_event(to, stk_phase_name(s->phase), "work", worker, s->layer, s->begin_ns - origin_ns,
                    s->end_ns - origin_ns);
        if (is_gpu)
            continue;
        write_event(to, "wait", "barrier", worker, s->layer, s->end_ns - origin_ns,
                    s->released_ns - origin_ns);
    }
}

static uint64_t first_ns(const stk_session *session, uint32_t threads, stk_span *spans,
                         uint32_t max)
{
    uint64_t first = UINT64_MAX;
    for (uint32_t w = 0; w < threads; w++)
        if (stk_session_spans(session, w, spans, max) > 0 && spans[0].begin_ns < first)
            first = spans[0].begin_ns;
    return first;
}

stk_status stk_bench_trace(stk_bench_run *run, uint32_t depth, const char *path)
{
    const stk_model *m = stk_engine_model(run->model.engine);
    uint32_t max = (m->layer_count + 1) * STK_PHASE_COUNT;
    double unused;
    stk_status status = stk_bench_once(run, false, 2, depth, &unused); // warm
    stk_session_metrics_reset(run->session);
    if (status == STK_OK)
        status = stk_session_truncate(run->session, 0, depth + 1);
    stk_session_set_timing(run->session, true);
    if (status == STK_OK)
        status = stk_bench_once(run, false, 1, depth + 1, &unused);
    stk_session_set_timing(run->session, false);
    if (status != STK_OK)
        return status;
    stk_span *spans = calloc(max, sizeof *spans);
    FILE *to = spans ? fopen(path, "we") : NULL;
    if (!to) {
        status = stk_fail(run->log, spans ? STK_IO : STK_NO_MEMORY, "%s: %s", path,
                          strerror(errno));
        free(spans);
        return status;
    }
    uint64_t origin = first_ns(run->session, run->threads, spans, max);
    fputs("{\"displayTimeUnit\":\"ns\",\"traceEvents\":[\n", to);
    for (uint32_t w = 0; w <= run->threads; w++) {
        uint32_t count = stk_session_spans(run->session, w, spans, max);
        if (w < run->threads || count > 0)
            write_worker(to, w, w == run->threads, spans, count, origin);
    }
    fputs("\n]}\n", to);
    free(spans);
    bool failed = ferror(to);
    failed |= fclose(to) != 0;
    return failed ? stk_fail(run->log, STK_IO, "%s: %s", path, strerror(errno)) : STK_OK;
}
