#include "cli/trace.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { VERSION = 2 };

struct stk_trace {
    FILE *file;
    const stk_log *log;
    uint32_t used;
    char *path;
};

stk_status stk_trace_open(const char *path, const stk_model *model, const stk_log *log,
                          stk_trace **out)
{
    stk_trace *t = calloc(1, sizeof *t);
    if (!t)
        return STK_NO_MEMORY;
    t->log = log;
    t->used = model->expert_used_count;
    t->path = strdup(path);
    t->file = fopen(path, "we");
    if (!t->path || !t->file) {
        stk_status status = stk_fail(log, STK_IO, "%s: %s", path, strerror(errno));
        stk_trace_close(&t);
        return status;
    }
    fprintf(t->file, "stoker-trace %d %u %u %u\n", VERSION, model->layer_count, model->expert_count,
            model->expert_used_count);
    *out = t;
    return STK_OK;
}

void stk_trace_record(void *user, uint32_t layer, uint32_t row_count, const uint32_t *experts,
                      const float *weights)
{
    stk_trace *t = user;
    for (uint32_t row = 0; row < row_count; row++) {
        fprintf(t->file, "%u", layer);
        for (uint32_t k = 0; k < t->used; k++)
            fprintf(t->file, " %u:%.0f", experts[(size_t)row * t->used + k],
                    1000.0 * (double)weights[(size_t)row * t->used + k]);
        fputc('\n', t->file);
    }
}

bool stk_trace_close(stk_trace **trace)
{
    stk_trace *t = *trace;
    bool is_whole = true;
    if (!t)
        return true;
    if (t->file) {
        int failed = ferror(t->file);
        is_whole = fclose(t->file) == 0 && !failed;
        if (!is_whole)
            stk_error(t->log, "%s: the trace could not be written: %s", t->path, strerror(errno));
    }
    free(t->path);
    free(t);
    *trace = NULL;
    return is_whole;
}

static bool make_room(stk_trace_data *d, uint64_t *room)
{
    if (d->use_count < *room)
        return true;
    *room = *room ? 2 * *room : 1 << 14;
    uint32_t *layers = realloc(d->layers, *room * sizeof *layers);
    d->layers = layers ? layers : d->layers;
    uint32_t *experts = realloc(d->experts, *room * d->used * sizeof *experts);
    d->experts = experts ? experts : d->experts;
    float *weights = realloc(d->weights, *room * d->used * sizeof *weights);
    d->weights = weights ? weights : d->weights;
    return layers && experts && weights;
}

// One "id" or "id:weight". False: it is something else.
static bool read_use(FILE *f, const stk_trace_data *d, uint32_t *id, float *weight)
{
    uint32_t thousandths = 1000;
    if (fscanf(f, "%" SCNu32, id) != 1 || *id >= d->expert_count)
        return false;
    if (d->has_weights && (fscanf(f, ":%" SCNu32, &thousandths) != 1 || thousandths > 1000))
        return false;
    *weight = (float)thousandths / 1000.0f;
    return true;
}

static stk_status read_lines(FILE *f, const char *path, const stk_log *log, stk_trace_data *d)
{
    uint64_t room = 0, line = 2;
    for (uint32_t layer; fscanf(f, "%" SCNu32, &layer) == 1; d->use_count++, line++) {
        if (!make_room(d, &room))
            return STK_NO_MEMORY;
        d->layers[d->use_count] = layer;
        for (uint32_t k = 0; k < d->used; k++) {
            uint64_t at = d->use_count * d->used + k;
            if (layer >= d->layer_count || !read_use(f, d, &d->experts[at], &d->weights[at]))
                return stk_fail(log, STK_FORMAT, "%s: line %" PRIu64 ": not %u experts of a layer",
                                path, line, d->used);
        }
    }
    if (!feof(f))
        return stk_fail(log, STK_FORMAT, "%s: line %" PRIu64 ": not a number", path, line);
    return STK_OK;
}

stk_status stk_trace_read(const char *path, const stk_log *log, stk_trace_data *out)
{
    stk_trace_data d = {0};
    FILE *f = fopen(path, "re");
    if (!f)
        return stk_fail(log, STK_IO, "%s: %s", path, strerror(errno));
    stk_status status = STK_OK;
    uint32_t version = 0;
    if (fscanf(f, "stoker-trace %" SCNu32 " %" SCNu32 " %" SCNu32 " %" SCNu32, &version,
               &d.layer_count, &d.expert_count, &d.used) != 4 ||
        version == 0 || version > VERSION || d.layer_count == 0 || d.layer_count > STK_LAYERS_MAX ||
        d.expert_count == 0 || d.expert_count > STK_EXPERTS_MAX || d.used == 0 ||
        d.used > STK_EXPERTS_USED_MAX)
        status = ferror(f) ? stk_fail(log, STK_IO, "%s: %s", path, strerror(errno)) // a folder, say
                           : stk_fail(log, STK_FORMAT, "%s: line 1: not a stoker trace", path);
    d.has_weights = version > 1;
    if (status == STK_OK)
        status = read_lines(f, path, log, &d);
    fclose(f);
    if (status == STK_OK)
        *out = d;
    else
        stk_trace_data_free(&d);
    return status;
}

void stk_trace_data_free(stk_trace_data *d)
{
    free(d->layers);
    free(d->experts);
    free(d->weights);
    memset(d, 0, sizeof *d);
}
