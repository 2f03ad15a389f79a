// Forwards on their way over the ranks: what each rank passes on, and rank 0's list of those whose
// answers it waits for. Answers come in the order of the forwards, since a rank that fails has its
// word passed down the chain like any other (pipeline_serve.c).
#include <string.h>

#include "base/half.h"
#include "engine/pipeline_impl.h"

_Static_assert((int)STK_MESSAGE_WINDOW_MAX == (int)STK_SAMPLER_WINDOW_MAX,
               "a window fits into a message");

static stk_flight *flight_at(stk_pipeline *p, uint32_t index)
{
    return &p->flights[(p->flight_first + index) % p->flights_max];
}

// ---- rank 0: what the others reply ----

static stk_status complain(stk_pipeline *p, const stk_message_reply *r)
{
    return stk_fail(p->session->engine->log, (stk_status)r->status, "rank %u on %s: %s", r->rank,
                    stk_cluster_host(p->cluster, r->rank), stk_status_name((stk_status)r->status));
}

// The oldest forward that waits for one is answered.
static void note_answer(stk_pipeline *p, const stk_message_reply *r)
{
    uint32_t i = 0;
    while (i < p->flight_count && (flight_at(p, i)->logit_count == 0 || flight_at(p, i)->answered))
        i++;
    if (i == p->flight_count || r->logit_rows != flight_at(p, i)->logit_count) {
        p->failed = stk_fail(p->session->engine->log, STK_FORMAT,
                             "rank %u on %s: logits of %u rows, which nobody asked for", r->rank,
                             stk_cluster_host(p->cluster, r->rank), r->logit_rows);
        return;
    }
    flight_at(p, i)->answered = true;
    flight_at(p, i)->computed_ns = r->computed_ns;
}

enum { NONSENSE = STK_MESSAGE_TYPES }; // what a reply is to that cannot be read

// Takes the next message from another rank and acts on what it says of forwards. False: `waits` is
// false and there was none.
static bool take_reply(stk_pipeline *p, bool waits, stk_message_reply *reply)
{
    stk_message message;
    size_t size;
    const void *data = waits ? stk_cluster_receive(p->cluster, &size)
                             : stk_cluster_poll(p->cluster, &size);
    if (!data)
        return false;
    if (stk_message_decode(data, size, 0, &message) != STK_OK ||
        message.type != STK_MESSAGE_REPLY || message.u.reply.rank >= p->count) {
        p->failed = stk_fail(p->session->engine->log, STK_FORMAT, "a rank's answer makes no sense");
        *reply = (stk_message_reply){.to = NONSENSE, .status = STK_FORMAT};
        return true;
    }
    *reply = message.u.reply;
    if (reply->to != STK_MESSAGE_FORWARD)
        return true;
    if (reply->status == STK_OK)
        note_answer(p, reply);
    else if (p->failed == STK_OK)
        p->failed = complain(p, reply);
    return true;
}

// Before a session opens, forwards that fail were another one's.
stk_status stk_pipeline_await(stk_pipeline *p, stk_message_type to, stk_message_reply *reply)
{
    const bool opens = to == STK_MESSAGE_OPEN;
    do
        take_reply(p, true, reply);
    while (reply->to != (uint32_t)to && reply->to != NONSENSE && (opens || p->failed == STK_OK));
    if (reply->to == (uint32_t)to && reply->status != STK_OK)
        return p->failed = complain(p, reply);
    return opens && reply->to == (uint32_t)to ? STK_OK : p->failed;
}

// ---- every rank ----

stk_status stk_pipeline_begin(stk_session *s)
{
    stk_pipeline *p = s->engine->pipeline;
    stk_message_reply reply;
    // Forwards without logits are answered only when they fail.
    while (p->rank == 0 && p->failed == STK_OK && take_reply(p, false, &reply))
        continue;
    p->begun_ns = stk_pipeline_now_ns();
    return p->failed;
}

static const void *hidden_to_send(stk_pipeline *p, const stk_session *s)
{
    size_t count = (size_t)s->row_count * s->engine->model.width;
    if (p->hop == STK_HOP_F32)
        return s->x;
    for (size_t i = 0; i < count; i++)
        p->halves[i] = stk_half_from_float(s->x[i]);
    return p->halves;
}

// What the last rank needs to draw rank 0's rows. One sequence's rows can be, where the sampler
// does not look back too far; else logits come back.
static bool prepare_draw(stk_pipeline *p, const stk_session *s)
{
    uint32_t sequence = UINT32_MAX;
    stk_sampler_state state;
    for (uint32_t i = 0; i < s->logit_count; i++) {
        const stk_row *row = &s->rows[s->logit_rows[i]];
        if (row->logits != STK_LOGITS_DRAWN)
            continue;
        if (sequence != UINT32_MAX && sequence != row->sequence)
            return false;
        sequence = row->sequence;
    }
    if (sequence == UINT32_MAX || !s->sampler || !stk_sampler_save(s->sampler, &state))
        return false;
    const stk_sampler_options *o = &state.options;
    p->draw = (stk_message_draw){o->temperature,
                                 o->top_p,
                                 o->min_p,
                                 o->repeat_penalty,
                                 o->top_k,
                                 o->repeat_last,
                                 state.window_count,
                                 0,
                                 {0},
                                 {0}};
    memcpy(p->draw.random, state.random.state, sizeof p->draw.random);
    memcpy(p->draw.window, state.window, state.window_count * sizeof *state.window);
    return true;
}

static stk_status restore_draw(stk_pipeline *p)
{
    const stk_message_draw *d = &p->draw;
    stk_sampler_state state = {.options = {.temperature = d->temperature,
                                           .top_k = d->top_k,
                                           .top_p = d->top_p,
                                           .min_p = d->min_p,
                                           .repeat_penalty = d->repeat_penalty,
                                           .repeat_last = d->repeat_last},
                               .window_count = d->window_count};
    memcpy(state.random.state, d->random, sizeof d->random);
    memcpy(state.window, d->window, d->window_count * sizeof *d->window);
    stk_status status = stk_sampler_restore(p->sampler, &state);
    return status == STK_OK ? STK_OK
                            : stk_fail(p->session->engine->log, STK_FORMAT,
                                       "rank 0 wants a token drawn in an unknown way");
}

static void send_hidden(stk_pipeline *p, const stk_session *s, uint64_t computed_ns)
{
    for (uint32_t i = 0; i < s->row_count; i++)
        p->rows[i] = (stk_message_row){s->rows[i].sequence, s->rows[i].position, s->rows[i].token,
                                       s->rows[i].logits};
    const stk_message message = {.type = STK_MESSAGE_FORWARD,
                                 .u.forward = {.row_count = s->row_count,
                                               .width = s->engine->model.width,
                                               .hop = p->hop,
                                               .computed_ns = computed_ns,
                                               .rows = p->rows,
                                               .draw = p->draws ? &p->draw : NULL,
                                               .hidden = hidden_to_send(p, s)}};
    p->stats.hop_bytes += stk_message_hidden_bytes(&message.u.forward) +
                          s->row_count * sizeof *p->rows;
    stk_pipeline_send(p, p->rank + 1, &message);
}

// Logits of every row that asked for any, or, where none wants more, a token of each.
static bool is_token_enough(const stk_pipeline *p, const stk_session *s)
{
    for (uint32_t i = 0; i < s->logit_count; i++) {
        stk_want_logits wanted = s->rows[s->logit_rows[i]].logits;
        if (wanted == STK_LOGITS_ALL || (wanted == STK_LOGITS_DRAWN && !p->draws))
            return false;
    }
    return true;
}

static size_t answer_bytes(const stk_session *s, uint32_t logit_count, bool has_tokens)
{
    return logit_count * (has_tokens ? sizeof(int32_t) : s->vocab_padded * sizeof(float));
}

// ---- the last rank's answer ----

static stk_status pick_tokens(stk_pipeline *p, stk_session *s)
{
    stk_status status = p->draws ? restore_draw(p) : STK_OK;
    bool has_drawn = false;
    for (uint32_t i = 0; i < s->logit_count && status == STK_OK; i++) {
        const stk_row *row = &s->rows[s->logit_rows[i]];
        if (row->logits == STK_LOGITS_BEST) {
            s->picked[i] = stk_session_best(s, s->logit_rows[i]);
            continue;
        }
        if (has_drawn) // the row's own token is what the one before was to be
            stk_sampler_accept(p->sampler, row->token);
        has_drawn = true;
        s->picked[i] = stk_session_draw(s, s->logit_rows[i], p->sampler);
    }
    return status;
}

static stk_status prepare_answer(stk_pipeline *p, stk_session *s)
{
    if (is_token_enough(p, s))
        return pick_tokens(p, s);
    for (uint32_t i = 0; i < s->logit_count && stk_gpu_heads(s); i++)
        memcpy(s->logits + i * s->vocab_padded, stk_session_logits(s, s->logit_rows[i]),
               s->engine->model.vocab_size * sizeof *s->logits);
    return STK_OK;
}

static void send_answer(stk_pipeline *p, stk_session *s, uint64_t computed_ns)
{
    if (s->logit_count == 0)
        return;
    bool is_token = is_token_enough(p, s);
    size_t bytes = answer_bytes(s, s->logit_count, is_token);
    stk_pipeline_send(p, 0,
                      &(stk_message){.type = STK_MESSAGE_REPLY,
                                     .u.reply = {.to = STK_MESSAGE_FORWARD,
                                                 .rank = p->rank,
                                                 .logit_rows = s->logit_count,
                                                 .computed_ns = computed_ns}});
    stk_cluster_bulk_send(p->cluster, 0, is_token ? (void *)s->picked : (void *)s->logits, bytes);
    p->stats.hop_bytes += bytes;
}

// ---- rank 0's list ----

// The place of what comes back is ready before anything can.
static void take_off(stk_pipeline *p, const stk_session *s)
{
    stk_flight *f = flight_at(p, p->flight_count);
    f->row_count = s->row_count;
    f->logit_count = s->logit_count;
    f->has_tokens = is_token_enough(p, s);
    f->answered = false;
    f->is_alone = p->flight_count == 0;
    if (p->flight_count > 0)
        flight_at(p, p->flight_count - 1)->is_alone = false;
    memcpy(f->slot, s->logit_slot, s->row_count * sizeof *f->slot);
    if (f->logit_count > 0)
        stk_cluster_bulk_expect(p->cluster, (uint32_t)(f - p->flights), p->count - 1,
                                f->has_tokens ? (void *)f->picked : (void *)f->logits,
                                answer_bytes(s, f->logit_count, f->has_tokens));
    p->flight_count++;
}

stk_status stk_pipeline_pass_on(stk_session *s)
{
    stk_pipeline *p = s->engine->pipeline;
    stk_status status = p->rank == p->count - 1 ? prepare_answer(p, s) : STK_OK;
    if (status != STK_OK)
        return status;
    if (p->rank == 0)
        p->draws = prepare_draw(p, s);
    uint64_t busy = stk_pipeline_now_ns() - p->begun_ns;
    p->stats.busy_ns += busy;
    p->stats.forwards++;
    p->stats.rows += s->row_count;
    if (p->rank == p->count - 1) {
        send_answer(p, s, p->computed_ns + busy);
        return STK_OK;
    }
    if (p->rank == 0)
        take_off(p, s);
    send_hidden(p, s, p->rank == 0 ? 0 : p->computed_ns + busy);
    return STK_OK;
}

static void note_hops(stk_pipeline *p, const stk_flight *f, uint64_t waited_ns)
{
    if (!f->is_alone)
        return; // others were computed meanwhile, so that waiting tells nothing
    p->hops.answers++;
    p->hops.hops += p->count;
    p->hops.ns += waited_ns > f->computed_ns ? waited_ns - f->computed_ns : 0;
}

stk_status stk_pipeline_collect(stk_session *s)
{
    stk_pipeline *p = s->engine->pipeline;
    stk_flight *f = flight_at(p, 0);
    uint32_t slot = (uint32_t)(f - p->flights);
    stk_message_reply reply;
    uint64_t begin = stk_pipeline_now_ns();
    while (f->logit_count > 0 && !f->answered && p->failed == STK_OK)
        take_reply(p, true, &reply);
    stk_status status = p->failed;
    if (f->logit_count > 0 && f->answered) {
        stk_status arrived = stk_cluster_bulk_arrived(
            p->cluster, slot, answer_bytes(s, f->logit_count, f->has_tokens));
        status = status == STK_OK ? p->failed = arrived : status;
    }
    stk_cluster_bulk_forget(p->cluster, slot);
    uint64_t waited = stk_pipeline_now_ns() - begin;
    p->stats.idle_ns += waited;
    if (status == STK_OK && f->logit_count > 0)
        note_hops(p, f, waited);
    s->answer = (stk_answer){.row_count = f->row_count,
                             .slot = f->slot,
                             .logits = f->has_tokens ? NULL : f->logits,
                             .picked = f->has_tokens ? f->picked : NULL};
    p->flight_first = (p->flight_first + 1) % p->flights_max;
    p->flight_count--;
    return status;
}

void stk_pipeline_land(stk_pipeline *p)
{
    while (p->flight_count > 0)
        (void)!stk_pipeline_collect(p->session);
}
