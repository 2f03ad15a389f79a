// The ranks other than 0: what rank 0 asks for, one message after the other.
#include <stdlib.h>
#include <string.h>

#include "base/half.h"
#include "engine/pipeline_impl.h"

// What concerns every rank goes down the chain before it is done here.
static void relay(stk_pipeline *p, const stk_message *message)
{
    if (p->rank + 1 < p->count)
        stk_pipeline_send(p, p->rank + 1, message);
}

static void reply(stk_pipeline *p, stk_message_type to, stk_status status,
                  const stk_message_stats *stats)
{
    stk_message message = {.type = STK_MESSAGE_REPLY,
                           .u.reply = {.to = to, .status = status, .rank = p->rank}};
    if (stats)
        message.u.reply.stats = *stats;
    stk_pipeline_send(p, 0, &message);
}

static void open_session(stk_engine *e, const stk_message_open *o)
{
    const stk_session_options options = {.context_tokens = o->context_tokens,
                                         .sequence_count = o->sequence_count,
                                         .batch_rows_max = o->batch_rows_max,
                                         .logit_rows_max = o->logit_rows_max,
                                         .full_kv = o->full_kv != 0};
    stk_session *session = NULL;
    stk_status status = stk_session_open(e, &options, &session); // which tells the pipeline
    reply(e->pipeline, STK_MESSAGE_OPEN, status, NULL);
}

static stk_status run(stk_pipeline *p, const stk_message_forward *f)
{
    stk_session *s = p->session;
    if (!s || f->width != s->engine->model.width)
        return stk_fail(p->session ? s->engine->log : NULL, STK_FORMAT,
                        "a residual stream of width %u is not this model's", f->width);
    size_t count = (size_t)f->row_count * f->width;
    const uint16_t *halves = f->hidden;
    for (uint32_t i = 0; i < f->row_count; i++) {
        if (f->rows[i].logits > STK_LOGITS_DRAWN)
            return stk_fail(s->engine->log, STK_FORMAT, "row %u asks for logits in an unknown way",
                            i);
        p->rows_in[i] = (stk_row){f->rows[i].sequence, f->rows[i].position, f->rows[i].token,
                                  (stk_want_logits)f->rows[i].logits};
    }
    if (f->hop == STK_HOP_F32)
        memcpy(s->x, f->hidden, count * sizeof *s->x);
    for (size_t i = 0; f->hop == STK_HOP_F16 && i < count; i++)
        s->x[i] = stk_half_to_float(halves[i]);
    p->computed_ns = f->computed_ns;
    p->draws = f->draw != NULL;
    if (p->draws)
        p->draw = *f->draw;
    return stk_session_forward(s, p->rows_in, f->row_count); // which passes it on
}

// From here on rows no longer fit, so nothing more is computed. Word of it goes the way of the
// forwards and overtakes none: what is under way after this rank is answered before.
static void fail(stk_pipeline *p, stk_status status, uint32_t rank)
{
    if (p->failed != STK_OK)
        return;
    p->failed = status;
    stk_message message = {.type = STK_MESSAGE_FAILED, .u.failed = {status, rank}};
    bool is_last = p->rank + 1 == p->count;
    if (is_last)
        message = (stk_message){
            .type = STK_MESSAGE_REPLY,
            .u.reply = {.to = STK_MESSAGE_FORWARD, .status = status, .rank = rank}};
    stk_pipeline_send(p, is_last ? 0 : p->rank + 1, &message);
}

static void forward(stk_pipeline *p, const stk_message_forward *f)
{
    stk_status status = p->failed == STK_OK ? run(p, f) : STK_OK;
    if (status != STK_OK)
        fail(p, status, p->rank);
}

static void truncate(stk_pipeline *p, const stk_message_truncate *t)
{
    if (p->failed != STK_OK || !p->session)
        return;
    stk_status status = stk_session_truncate(p->session, t->sequence, t->length_tokens);
    if (status != STK_OK)
        fail(p, status, p->rank);
}

static void close_session(stk_pipeline *p)
{
    stk_session *session = p->session;
    stk_session_close(&session);
    p->failed = STK_OK;
}

// False: the end.
static bool act(stk_engine *e, const stk_message *message)
{
    stk_pipeline *p = e->pipeline;
    if (message->type != STK_MESSAGE_FORWARD && message->type != STK_MESSAGE_FAILED &&
        message->type != STK_MESSAGE_REPLY)
        relay(p, message);
    switch (message->type) {
    case STK_MESSAGE_OPEN:
        open_session(e, &message->u.open);
        return true;
    case STK_MESSAGE_FORWARD:
        forward(p, &message->u.forward);
        return true;
    case STK_MESSAGE_FAILED:
        fail(p, (stk_status)message->u.failed.status, message->u.failed.rank);
        return true;
    case STK_MESSAGE_TRUNCATE:
        truncate(p, &message->u.truncate);
        return true;
    case STK_MESSAGE_CLOSE:
        close_session(p);
        return true;
    case STK_MESSAGE_STATS:
        if (p->session) {
            stk_message_stats stats = stk_pipeline_take_stats(p);
            reply(p, STK_MESSAGE_STATS, p->failed, &stats);
        }
        return true;
    default:
        return message->type != STK_MESSAGE_QUIT;
    }
}

stk_status stk_engine_serve(stk_engine *e)
{
    stk_pipeline *p = e->pipeline;
    for (bool goes_on = true; goes_on;) {
        stk_message message;
        size_t size;
        uint64_t begin = stk_pipeline_now_ns();
        const void *data = stk_cluster_receive(p->cluster, &size);
        p->stats.idle_ns += stk_pipeline_now_ns() - begin;
        stk_status status = stk_message_decode(data, size, p->session ? p->rows_max : 0, &message);
        if (status == STK_OK) {
            goes_on = act(e, &message);
            continue;
        }
        fail(p, status, p->rank); // rank 0 then quits
    }
    close_session(p);
    return STK_OK;
}
