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

static void write_worker(FILE *to, uint32_t worker, const stk_span *spans, uint32_t count,
                         uint64_t origin_ns)
{
    fprintf(to,
            "%s{\"name\":\"thread_name\",\"ph\":\"M\",\"pid\":1,\"tid\":%u,"
            "\"args\":{\"name\":\"worker %u\"}}",
            worker ? ",\n" : "", worker, worker);
    for (uint32_t i = 0; i < count; i++) {
        const stk_span *s = &spans[i];
        write_event(to, stk_phase_name(s->phase), "work", worker, s->layer, s->begin_ns - origin_ns,
                    s->end_ns - origin_ns);
        write_event(to, "wait", "barrier", worker, s->layer, s->end_ns - origin_ns,
                    s->released_ns - origin_ns);
    }
}

static void name_lane(FILE *to, uint32_t lane, const char *name)
{
    fprintf(to,
            ",\n{\"name\":\"thread_name\",\"ph\":\"M\",\"pid\":1,\"tid\":%u,"
            "\"args\":{\"name\":\"%s\"}}",
            lane, name);
}

// The GPU has two lanes below the workers: what it computes and uploads. What worker 0 does for it
// is in the worker's own, inside its experts. Times are the host's: an end is when the host saw it.
static void write_gpu(FILE *to, uint32_t threads, const stk_gpu_span *spans, uint32_t count,
                      uint64_t origin_ns)
{
    static const struct {
        const char *name, *category;
        bool is_worker;
    } kinds[] = {
        [STK_GPU_SPAN_JOB] = {"experts", "gpu", false},
        [STK_GPU_SPAN_ATTEND] = {"attention", "gpu", false},
        [STK_GPU_SPAN_HEAD] = {"head", "gpu", false},
        [STK_GPU_SPAN_UPLOAD] = {"upload", "gpu", false},
        [STK_GPU_SPAN_CHAIN] = {"layers", "gpu", false},
        [STK_GPU_SPAN_SUBMIT] = {"gpu submit", "work", true},
        [STK_GPU_SPAN_WAIT] = {"gpu wait", "barrier", true},
    };
    if (count == 0)
        return;
    name_lane(to, threads, "GPU");
    name_lane(to, threads + 1, "GPU uploads");
    for (uint32_t i = 0; i < count; i++) {
        const stk_gpu_span *s = &spans[i];
        if (s->begin_ns < origin_ns)
            continue;
        uint32_t lane = kinds[s->kind].is_worker ? 0 : threads + (s->kind == STK_GPU_SPAN_UPLOAD);
        write_event(to, kinds[s->kind].name, kinds[s->kind].category, lane, s->layer,
                    s->begin_ns - origin_ns, s->end_ns - origin_ns);
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
    stk_gpu_span *gpu_spans = calloc(max, sizeof *gpu_spans);
    FILE *to = spans && gpu_spans ? fopen(path, "we") : NULL;
    if (!to) {
        status = stk_fail(run->log, spans && gpu_spans ? STK_IO : STK_NO_MEMORY, "%s: %s", path,
                          strerror(errno));
        free(spans);
        free(gpu_spans);
        return status;
    }
    uint64_t origin = first_ns(run->session, run->threads, spans, max);
    fputs("{\"displayTimeUnit\":\"ns\",\"traceEvents\":[\n", to);
    for (uint32_t w = 0; w < run->threads; w++) {
        uint32_t count = stk_session_spans(run->session, w, spans, max);
        write_worker(to, w, spans, count, origin);
    }
    write_gpu(to, run->threads, gpu_spans, stk_session_gpu_spans(run->session, gpu_spans, max),
              origin);
    fputs("\n]}\n", to);
    free(spans);
    free(gpu_spans);
    bool failed = ferror(to);
    failed |= fclose(to) != 0;
    return failed ? stk_fail(run->log, STK_IO, "%s: %s", path, strerror(errno)) : STK_OK;
}
